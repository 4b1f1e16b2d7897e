"""Classifiers of torchvision and timm: sizes as published, weights of other classes, what is refused."""

import json
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file

from limbeck.build import build
from limbeck.models import torchvision_classifier as room
from limbeck.record import UserError


def make(kind: str, classes: int = 1000, pretrained: str | None = None, root: Path | None = None, **more):
    spec = {"kind": kind, **more}
    return build("models", spec, "student", num_classes=classes, pretrained=pretrained, root=root)


@pytest.mark.parametrize(
    "arch", ["resnet18", "mobilenet_v3_small", "efficientnet_b0", "vit_b_16", "swin_t", "densenet121", "squeezenet1_0"]
)
def test_torchvision_parameters_as_the_library_states_them(arch: str) -> None:
    with torch.device("meta"):
        model = make("torchvision_classifier", arch=arch)
    stated = torchvision.models.get_model_weights(arch).DEFAULT.meta["num_params"]
    assert sum(parameter.numel() for parameter in model.parameters()) == stated


@pytest.mark.parametrize(
    ("arch", "parameters"), [("resnet18", 11_689_512), ("mobilenetv3_large_100", 5_483_032), ("vit_tiny_patch16_224", 5_717_416)]
)  # fmt: skip
def test_timm_parameters_as_published(arch: str, parameters: int) -> None:
    with torch.device("meta"):
        model = make("timm", arch=arch)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


@pytest.mark.parametrize(
    ("arch", "last"),
    [
        ("resnet18", {"fc.weight", "fc.bias"}),
        ("mobilenet_v3_small", {"classifier.3.weight", "classifier.3.bias"}),
        ("googlenet", {"fc.weight", "fc.bias"}),
        ("densenet121", {"classifier.weight", "classifier.bias"}),
    ],
)
def test_published_weights_load_but_for_the_last_layer(
    arch: str, last: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is what the library itself would save, auxiliary classifiers and old names included."""
    theirs = torchvision.models.get_model(
        arch, weights=None, **({"init_weights": False} if arch == "googlenet" else {})
    )
    state = {
        name.replace(".norm1.", ".norm.1.") if arch == "densenet121" else name: v
        for name, v in theirs.state_dict().items()
    }
    monkeypatch.setattr(room, "library_weights", lambda wanted, name: state if wanted == arch else {})
    model = make("torchvision_classifier", 5, "IMAGENET1K_V1", arch=arch)
    assert {name for name, _, _ in model.loaded.mismatched} == last
    assert model.loaded.missing == model.loaded.unexpected == []
    name, value = next(iter(theirs.state_dict().items()))
    assert torch.equal(model.state_dict()[name], value)
    assert model.mean == ((0.5, 0.5, 0.5) if arch == "googlenet" else (0.485, 0.456, 0.406))


def hub_folder(folder: Path, arch: str = "resnet18", classes: int = 1000) -> torch.nn.Module:
    """A folder as timm pushes it to the hub."""
    folder.mkdir()
    theirs = timm.create_model(arch, num_classes=classes).eval()
    save_file(theirs.state_dict(), folder / "model.safetensors")
    config = {"architecture": arch, "num_classes": classes, "pretrained_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3}}
    (folder / "config.json").write_text(json.dumps(config))
    return theirs


def test_a_timm_folder_gives_the_same_logits(tmp_path: Path) -> None:
    theirs = hub_folder(tmp_path / "hub", classes=7)
    model = make("timm", 7, "hub", tmp_path).eval()
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(image), theirs(image))
    assert (model.mean, model.std) == ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    assert make("timm", 3, "hub", tmp_path).loaded.mismatched == [
        ("fc.weight", (7, 512), (3, 512)), ("fc.bias", (7,), (3,)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ({"kind": "torchvision_classifier", "arch": "resnet19"}, "Did you mean 'resnet1?8'?"),
        ({"kind": "torchvision_classifier", "arch": "fcn_resnet50"}, "no classifier 'fcn_resnet50'"),
        ({"kind": "torchvision_classifier", "pretrained": "IMAGENET1K_V9"}, "no weights 'IMAGENET1K_V9'"),
        ({"kind": "timm", "arch": "resnet_18"}, "no architecture 'resnet_18'. Did you mean"),
        ({"kind": "timm", "arch": "resnet18.a1_in1k"}, "write `arch: resnet18` and `weights: a1_in1k`"),
        ({"kind": "timm", "options": {"num_classes": 3}}, "num_classes is not for options"),
        ({"kind": "timm", "options": {"colour": 3}}, "resnet18 with .*colour"),
        ({"kind": "timm", "pretrained": "a9_in1k"}, r"no weights 'a9_in1k'. Did you mean 'a\d_in1k'"),
        ({"kind": "timm", "pretrained": "hub", "arch": "resnet34"}, "holds weights of resnet18, not of resnet34"),
    ],
)
def test_what_is_refused(tmp_path: Path, more: dict[str, object], wanted: str) -> None:
    hub_folder(tmp_path / "hub", classes=2)
    with pytest.raises(UserError, match=wanted):
        make(**more, root=tmp_path)


def test_options_reach_the_library() -> None:
    model = make("timm", 4, arch="vit_tiny_patch16_224", options={"img_size": 32, "patch_size": 8})
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 4)
    assert model.architecture["options"] == {"img_size": 32, "patch_size": 8}
