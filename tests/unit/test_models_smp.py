"""segmentation_models_pytorch: its numbers at any size, at its stride or in full, and names that are wrong."""

import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F

from limbeck.models.smp import ARCHITECTURES, smp_segmenter
from limbeck.record import UserError

QUICK = ("unet", "fpn")
SIZE = (65, 97)


def _case(arch: str) -> tuple[dict[str, object], tuple[int, int]]:
    """Encoder arguments and an odd size that the architecture can do."""
    if arch == "dpt":
        return {"encoder": "tu-vit_tiny_patch16_224", "options": {"dynamic_img_size": True}}, SIZE
    return {"encoder": "resnet18", "options": {}}, (129, 161) if arch == "pan" else SIZE


@pytest.mark.parametrize("arch", [a if a in QUICK else pytest.param(a, marks=pytest.mark.slow) for a in ARCHITECTURES])
def test_logits_are_smps(arch: str) -> None:
    spec, (height, width) = _case(arch)
    native = smp_segmenter(num_classes=5, arch=arch, **spec).eval()
    full = smp_segmenter(num_classes=5, arch=arch, upsample=True, **spec).eval()
    theirs = smp.create_model(arch, spec["encoder"], encoder_weights=None, classes=5, **spec["options"]).eval()
    theirs.load_state_dict(native.state_dict())
    full.load_state_dict(native.state_dict())
    image = torch.randn(2, 3, height, width)
    padded = F.pad(image, (0, -width % native.multiple, 0, -height % native.multiple))
    with torch.no_grad():
        wanted = theirs(padded)
        resized = F.interpolate(native(padded), size=padded.shape[-2:], mode="bilinear", align_corners=True)
        torch.testing.assert_close(resized, wanted, rtol=0, atol=1e-5)
        torch.testing.assert_close(full(image), wanted[..., :height, :width], rtol=0, atol=1e-5)
        stride = padded.shape[-1] // native(padded).shape[-1]
        assert native(image).shape[-2:] == (-(-height // stride), -(-width // stride))


@pytest.mark.slow
@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("training", [False, True])
def test_every_architecture_exports(arch: str, training: bool) -> None:
    spec, size = _case(arch)
    model = smp_segmenter(num_classes=5, arch=arch, **spec).train(training)
    image = torch.randn(2, 3, *size)
    batch = {0: torch.export.Dim("n", min=1, max=64)}
    graph = torch.export.export(model, (image,), dynamic_shapes=(batch,), strict=False).module()
    if not training:
        torch.testing.assert_close(graph(image[:1]), model(image[:1]), rtol=0, atol=1e-5)


def test_taps_and_options() -> None:
    model = smp_segmenter(num_classes=5, arch="FPN", options={"decoder_pyramid_channels": 64, "decoder_dropout": 0.1})
    assert model.get_submodule("encoder.layer4")
    assert model.decoder.p5.out_channels == 64


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"arch": "upernett"}, "no architecture 'upernett'. Did you mean 'upernet'"),
        ({"encoder": "resnet81"}, "no encoder 'resnet81'. Did you mean 'resnet18'"),
        ({"encoder": "tu-resnet181"}, "timm has no encoder 'resnet181'. Did you mean 'resnet18"),
        ({"options": {"decoder_chanels": [1]}}, "no option 'decoder_chanels' here. Did you mean 'decoder_channels'"),
        ({"options": {"classes": 3}}, "no option 'classes'"),
        ({"arch": "dpt"}, "Only Timm encoders"),
        ({"options": {"decoder_channels": [64, 32]}}, "unet with resnet18 does not go"),
    ],
)
def test_wrong_names_are_explained(spec: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        smp_segmenter(num_classes=5, **spec)


def test_failed_download_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"'imagenet' of resnet18 could not be downloaded"):
        smp_segmenter(num_classes=5, encoder_weights="imagenet")
    with pytest.raises(UserError, match=r"Wrong pretrained weights `imagenett`"):
        smp_segmenter(num_classes=5, encoder_weights="imagenett")
