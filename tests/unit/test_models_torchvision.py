"""torchvision's networks: the same numbers, the same keys, its weights from its own cache."""

from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torch.nn.functional as F
from torchvision.models import get_model, get_model_weights, mobilenet_v3_large, resnet50

from limbeck.models.lightweight_deeplabv3 import lightweight_deeplabv3
from limbeck.models.torchvision import torchvision_segmenter
from limbeck.record import UserError

LARGE = ["fcn_resnet50", "fcn_resnet101", "deeplabv3_resnet50", "deeplabv3_resnet101"]
PARITY = [
    "lraspp_mobilenet_v3_large",
    "deeplabv3_mobilenet_v3_large",
    *(pytest.param(a, marks=pytest.mark.slow) for a in LARGE),
]


def _cached(home: Path, arch: str, name: str, state: dict[str, torch.Tensor]) -> None:
    """Put a state dict where a download would leave it."""
    folder = home / "hub" / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state, folder / get_model_weights(arch)[name].url.rpartition("/")[2])


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty torch.hub cache, and no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def unreachable(url: str, *_args: object, **_options: object) -> None:
        raise URLError("no network here")

    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    return tmp_path


@pytest.mark.parametrize("arch", PARITY)
def test_resized_logits_are_torchvisions(arch: str) -> None:
    ours = torchvision_segmenter(num_classes=5, arch=arch).eval()
    theirs = get_model(arch, weights=None, weights_backbone=None, num_classes=5, aux_loss=bool(ours.aux)).eval()
    theirs.load_state_dict(ours.state_dict())
    image = torch.randn(1, 3, 65, 97)
    with torch.no_grad():
        resized = F.interpolate(ours(image), size=(65, 97), mode="bilinear", align_corners=False)
        torch.testing.assert_close(resized, theirs(image)["out"], rtol=0, atol=1e-5)


def test_auxiliary_logits_are_torchvisions() -> None:
    ours = torchvision_segmenter(num_classes=5, arch="deeplabv3_mobilenet_v3_large").eval()
    theirs = get_model(
        "deeplabv3_mobilenet_v3_large", weights=None, weights_backbone=None, num_classes=5, aux_loss=True
    )
    theirs.eval().load_state_dict(ours.state_dict())
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        head = ours.aux_classifier(ours.backbone(image)["aux"])
        resized = F.interpolate(head, size=(64, 64), mode="bilinear", align_corners=False)
        torch.testing.assert_close(resized, theirs(image)["aux"], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("arch", "stride"), [("lraspp_mobilenet_v3_small", 8), ("deeplabv3_mobilenet_v3_small", 16)])
def test_small_networks(arch: str, stride: int) -> None:
    model = torchvision_segmenter(num_classes=5, arch=arch).eval()
    assert model(torch.randn(1, 3, 64, 96)).shape == (1, 5, 64 // stride, 96 // stride)
    with pytest.raises(UserError, match="torchvision has no weights for it"):
        torchvision_segmenter(num_classes=5, arch=arch, pretrained="DEFAULT")


def test_parameters_of_the_published_networks() -> None:
    with torch.device("meta"):
        for arch in ["deeplabv3_mobilenet_v3_large", *LARGE]:
            model = torchvision_segmenter(num_classes=21, arch=arch)
            published = get_model_weights(arch).DEFAULT.meta["num_params"]
            assert sum(parameter.numel() for parameter in model.parameters()) == published


def test_auxiliary_head_only_where_there_is_one() -> None:
    with torch.device("meta"):
        assert torchvision_segmenter(num_classes=5, arch="fcn_resnet50", aux=False).aux == {}
        assert torchvision_segmenter(num_classes=5, arch="lraspp_mobilenet_v3_large", aux=False).aux == {}
        with pytest.raises(UserError, match="no auxiliary head"):
            torchvision_segmenter(num_classes=5, arch="lraspp_mobilenet_v3_large", aux=True)


def test_named_weights_with_their_classes_and_with_others(home: Path) -> None:
    arch = "lraspp_mobilenet_v3_large"
    theirs = get_model(arch, weights=None, weights_backbone=None, num_classes=21)
    _cached(home, arch, "COCO_WITH_VOC_LABELS_V1", theirs.state_dict())
    same = torchvision_segmenter(num_classes=21, arch=arch, pretrained="DEFAULT")
    assert (same.loaded.missing, same.loaded.mismatched) == ([], [])
    other = torchvision_segmenter(num_classes=5, arch=arch, pretrained="COCO_WITH_VOC_LABELS_V1", backbone="imagenet")
    fresh = {name for name, _, _ in other.loaded.mismatched}
    assert fresh == {f"classifier.{side}_classifier.{part}" for side in ("low", "high") for part in ("weight", "bias")}
    assert "lraspp_mobilenet_v3_large COCO_WITH_VOC_LABELS_V1" in str(other.loaded)
    assert torch.equal(other.classifier.cbr[0].weight, theirs.classifier.cbr[0].weight)


def test_backbone_weights_reach_every_layer(home: Path) -> None:
    features = mobilenet_v3_large(weights=None)
    _cached(home, "mobilenet_v3_large", "IMAGENET1K_V1", features.state_dict())
    for model in (
        torchvision_segmenter(num_classes=5, arch="lraspp_mobilenet_v3_large", backbone="imagenet"),
        lightweight_deeplabv3(num_classes=5, backbone="imagenet"),
    ):
        wanted = features.features.state_dict()
        assert all(torch.equal(value, wanted[name]) for name, value in model.backbone.state_dict().items())


@pytest.mark.slow
def test_resnet_backbone_weights(home: Path) -> None:
    resnet = resnet50(weights=None)
    _cached(home, "resnet50", "IMAGENET1K_V1", resnet.state_dict())
    model = torchvision_segmenter(num_classes=5, arch="fcn_resnet50", backbone="imagenet")
    assert torch.equal(model.backbone.layer4[2].conv3.weight, resnet.layer4[2].conv3.weight)


def test_failed_download_says_what_to_do(home: Path) -> None:
    with pytest.raises(UserError, match=r"no network here.*put it at .*checkpoints/lraspp_mobilenet_v3_large-\w+\.pth"):
        torchvision_segmenter(num_classes=5, arch="lraspp_mobilenet_v3_large", pretrained="DEFAULT")
    with pytest.raises(UserError, match="Did you mean 'DEFAULT'"):
        torchvision_segmenter(num_classes=5, arch="lraspp_mobilenet_v3_large", pretrained="DEFAUL")


def test_lightweight_has_its_parameters_and_taps() -> None:
    with torch.device("meta"):
        model = lightweight_deeplabv3(num_classes=21).eval()
        assert sum(parameter.numel() for parameter in model.parameters()) == 3_813_957
        assert sum(parameter.numel() for parameter in model.backbone.parameters()) == 2_971_952
        seen = model.backbone(torch.empty(1, 3, 256, 256))["out"]
        assert seen.shape == (1, 960, 16, 16)
        assert model.get_submodule("backbone.16")
        assert [type(layer).__name__ for layer in model.classifier] == [
            *("Conv2d", "BatchNorm2d", "ReLU") * 2,
            "Dropout",
            "Conv2d",
        ]
        assert model.classifier[3].dilation == (6, 6)


def test_lightweight_starts_from_a_segmenter(home: Path) -> None:
    arch = "deeplabv3_mobilenet_v3_large"
    theirs = get_model(arch, weights=None, weights_backbone=None, num_classes=21, aux_loss=True)
    _cached(home, arch, "COCO_WITH_VOC_LABELS_V1", theirs.state_dict())
    ours = lightweight_deeplabv3(num_classes=5, backbone="coco_voc")
    assert torch.equal(ours.backbone["16"][0].weight, theirs.backbone["16"][0].weight)
