"""SceneSeg: the published network, number by number, and its form for integer kernels."""

import pytest
import torch
import torch.nn.functional as F
from _published import Published
from torch import Tensor, nn
from torchvision.models import efficientnet_b0

from limbeck.data.weights import load_tensors
from limbeck.models.sceneseg import sceneseg


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameters_are_those_of_the_published_network() -> None:
    with torch.device("meta"):
        model = sceneseg(num_classes=3)
    parts = [_count(part) for part in (model.backbone, model.context, model.neck, model.head)]
    assert parts == [4_007_548, 9_201_928, 33_708_288, 1_444_739]
    assert _count(model) == 48_362_503


def _reference(layers: Published, backbone: nn.Module, image: Tensor) -> Tensor:
    """The published forward pass, layer by layer, for one image whose deepest map is 10x20."""
    x, features = image, []
    for layer in backbone:
        x = layer(x)
        features.append(x)
    f0, f1, f2, f3, f4 = (features[index] for index in (0, 2, 3, 4, 8))
    x = f4.mean((2, 3))
    for index, out in enumerate((800, 800)):
        x = F.gelu(layers.linear(f"SceneContext.context_layer_{index}", x, out))
    x = torch.sigmoid(layers.linear("SceneContext.context_layer_2", x, 200)).reshape(1, 1, 10, 20)
    for index, out in zip((3, 4, 5, 6), (128, 256, 512, 1280), strict=True):
        x = F.gelu(layers.conv(f"SceneContext.context_layer_{index}", x, out, bias=True))
    x = x * f4 + f4
    steps = [("Neck", f3, (768, 768)), ("Neck", f2, (512, 512)), ("Neck", f1, (512, 256)), ("SegHead", f0, (256, 128))]
    for index, (part, finer, widths) in enumerate(steps):
        x = layers.up(f"Scene{part}.upsample_layer_{index}", x)
        x = x + layers.conv(f"Scene{part}.skip_link_layer_{index}", finer, x.shape[1], 1, bias=True)
        for offset, out in enumerate(widths):
            x = F.gelu(layers.conv(f"Scene{part}.decode_layer_{2 * index + offset}", x, out, bias=True))
    x = layers.up("SceneSegHead.upsample_layer_4", x)
    for index, out in ((8, 128), (9, 64)):
        x = F.gelu(layers.conv(f"SceneSegHead.decode_layer_{index}", x, out, bias=True))
    return layers.conv("SceneSegHead.decode_layer_10", x, 3, bias=True)


@pytest.mark.slow
def test_published_weights_give_the_published_logits() -> None:
    torch.manual_seed(0)
    backbone, layers, image = efficientnet_b0(weights=None).features.eval(), Published(), torch.randn(1, 3, 320, 640)
    with torch.no_grad():
        expected = _reference(layers, backbone, image)
        state = layers.state | {f"Backbone.encoder.{name}": value for name, value in backbone.state_dict().items()}
        ours = sceneseg(num_classes=3).eval()
        report = load_tensors(ours, state, "SceneSeg.pth")
        found = ours(image)
    assert (report.missing, report.unexpected, report.mismatched) == ([], [], [])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kernels", ["float", "integer"])
def test_any_size_and_any_batch(kernels: str) -> None:
    model = sceneseg(num_classes=2, kernels=kernels).eval()
    with torch.no_grad():
        for n, h, w in ((2, 32, 32), (1, 33, 47), (1, 5, 70)):
            assert model(torch.randn(n, 3, h, w)).shape == (n, 2, h, w)


def test_integer_form_holds_only_layers_with_integer_kernels() -> None:
    """The backbone's gates (SiLU, sigmoid) are taken apart by the quantizer; see gates.py."""
    with torch.device("meta"):
        model = sceneseg(num_classes=3, kernels="integer")
    kinds = {type(m).__name__ for part in (model.context, model.neck, model.head) for m in part.modules()}
    assert kinds == {"Context", "Up", "ModuleList", "Conv2d", "Linear", "Dropout", "ReLU"}


def test_integer_form_takes_all_but_the_upsampling_from_the_original() -> None:
    with torch.no_grad():
        original, ours = sceneseg(num_classes=3), sceneseg(num_classes=3, kernels="integer")
        report = load_tensors(ours, original.state_dict(), "original", partial=True)
    assert {name for name, _, _ in report.mismatched} == {
        f"{place}.upsample.weight" for place in ("neck.0", "neck.1", "neck.2", "head.0", "head.1")
    }
    assert (report.missing, report.unexpected) == ([], [])
    assert torch.equal(ours.neck[2].decode1.weight, original.neck[2].decode1.weight)
