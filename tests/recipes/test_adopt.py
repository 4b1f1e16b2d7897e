"""The network you already have: one command from a file, a folder or code to measured integer files."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from limbeck import cli
from limbeck.recipe import read
from limbeck.record import UserError
from limbeck.stages.adopt import adopt
from limbeck.stages.check import check

MODEL = '''
from torch import nn

def build(num_classes: int) -> nn.Module:
    """Returns a dictionary, as many networks do."""
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, num_classes, 1))
        def forward(self, image):
            return {"logits": self.conv(image)}
    return Net()
'''


def images(folder: Path, count: int = 10) -> Path:
    folder.mkdir(parents=True)
    for index in range(count):
        pixels = np.random.default_rng(index).integers(0, 256, (40, 48, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.jpg")
    return folder


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["limbeck", *words])
    cli.main()


def summary(name: str) -> dict[str, dict[str, object]]:
    import os

    path = Path(os.environ["LIMBECK_RUNS"]) / name / "summary.json"
    return {row["id"]: row for row in json.loads(path.read_text())["rows"]}


def test_code_and_images_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = images(tmp_path / "photos")
    (tmp_path / "models.py").write_text(MODEL)
    recipe = adopt(f"{tmp_path}/models.py:build", str(photos), target="openvino", size=(32, 32), name="mine")
    text = recipe.read_text().replace("kind: folder", "kind: folder\n  classes: [a, b, c]")
    recipe.write_text(text + "bench: {runs: 2, warmup: 1, rounds: 2, batches: [1]}\n")
    call(monkeypatch, "run", str(recipe))
    rows = summary("mine")
    assert rows["student.int8.openvino"]["miou"] is None
    assert rows["student.int8.openvino"]["agreement"] > 50
    assert rows["student.int8.openvino"]["latency_ms"]["p50"] > 0
    assert rows["student.fp32.onnxruntime"]["agreement"] > 99


def test_a_trained_weight_file_needs_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    call(
        monkeypatch,
        "train",
        "smoke/unet",
        "train.steps=2",
        "distil=[]",
        "baseline=false",
        "teacher=null",
        "quantize=[]",
    )
    weights = Path(os.environ["LIMBECK_RUNS"]) / "smoke-unet" / "student" / "student.safetensors"
    recipe = read(adopt(str(weights), "scenes,training=8,validation=4", target="onnxruntime"))
    assert recipe.data.size == (48, 64)
    assert recipe.student.spec == {"kind": "compact_unet", "width": 4, "stages": 2}
    assert recipe.student.mean is not None
    assert recipe.train is None
    few = ["bench.runs=2", "bench.rounds=2", "bench.warmup=1", "bench.batches=[1]"]
    call(monkeypatch, "quantize", str(weights), *few, "--data", "scenes,training=8,validation=4", "--name", "own")
    rows = summary("own")
    assert rows["student.int8.onnxruntime"]["miou"] is not None
    assert rows["student.int8.onnxruntime"]["error"] is None


def test_masks_in_a_layout_of_their_own(tmp_path: Path) -> None:
    images(tmp_path / "set" / "images" / "training", 2)
    images(tmp_path / "set" / "annotations" / "training", 2)
    (tmp_path / "models.py").write_text(MODEL)
    recipe = read(adopt(f"{tmp_path}/models.py:build", str(tmp_path / "set"), target="openvino"))
    assert recipe.data.spec == {"kind": "folder", "path": str(tmp_path / "set")}
    assert recipe.data.size == (512, 512)


@pytest.mark.parametrize(
    ("model", "arch", "wanted"),
    [
        ("none.pth", None, "no weight file"),
        ("plain.pth", None, "--arch"),
        ("plain.pth", "segfromer", "known:"),
        ("plain.pth", "torchvision,fcn", "name=value"),
    ],
)
def test_what_cannot_be_made_out(tmp_path: Path, model: str, arch: str | None, wanted: str) -> None:
    import torch

    torch.save({"x": torch.zeros(1)}, tmp_path / "plain.pth")
    photos = images(tmp_path / "photos", 1)
    with pytest.raises(UserError, match=wanted):
        adopt(str(tmp_path / model), str(photos), target="openvino", arch=arch)


def test_a_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "models.py").write_text(MODEL)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no images"):
        adopt(f"{tmp_path}/models.py:build", str(tmp_path / "empty"), target="openvino")


@pytest.mark.slow
def test_a_hugging_face_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    names = {0: "sky", 1: "road", 2: "car"}
    SegformerForSemanticSegmentation(SegformerConfig(id2label=names)).save_pretrained(tmp_path / "hub")
    photos = images(tmp_path / "photos")
    few = ["bench.runs=2", "bench.rounds=2", "bench.warmup=1", "bench.batches=[1]"]
    call(
        monkeypatch,
        "quantize",
        str(tmp_path / "hub"),
        *few,
        "--data",
        str(photos),
        "--size",
        "64",
        "64",
        "--name",
        "hf",
    )
    rows = summary("hf")
    assert rows["student.int8.onnxruntime"]["error"] is None
    assert rows["student.int8.onnxruntime"]["agreement"] > 50


def weight_file(path: Path, architecture: dict[str, object], **preprocess: object) -> Path:
    """A weight file with metadata and without weights to speak of."""
    import torch

    from limbeck.artifact.metadata import Metadata
    from limbeck.artifact.preprocess import Preprocess
    from limbeck.data.weight_file import save_weights

    own = Preprocess((64, 96), **preprocess)  # type: ignore[arg-type]
    metadata = Metadata("segmentation", "student", ("a", "b"), ((0, 0, 0), (1, 1, 1)), own, architecture=architecture)
    save_weights(torch.nn.Conv2d(1, 1, 1), path, metadata.to_json())
    return path


UNET = {"kind": "compact_unet", "width": 4, "num_classes": 2}


@pytest.mark.parametrize("kind", ["os:system", "./evil.py:build", 3, "no-such"])
def test_a_weight_file_does_not_choose_which_code_runs(tmp_path: Path, kind: object) -> None:
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'was-run')!r}, 'w')\n")
    file = weight_file(tmp_path / "m.safetensors", {"kind": kind, "command": f"touch {tmp_path}/was-run"})
    photos = images(tmp_path / "photos", 1)
    with pytest.raises(UserError, match=r"does not choose which code runs|unknown architecture"):
        adopt(str(file), str(photos), target="openvino")
    assert not (tmp_path / "was-run").exists()
    assert not runs().exists()
    code = tmp_path / "models.py"
    code.write_text(MODEL)
    found = read(adopt(str(file), str(photos), target="openvino", arch=f"{code}:build"))
    assert found.student.kind == f"{code}:build"


def runs() -> Path:
    import os

    return Path(os.environ["LIMBECK_RUNS"])


def test_its_own_preprocessing_is_kept(tmp_path: Path) -> None:
    own = {"keep_ratio": True, "multiple": 32, "interpolation": "bicubic"}
    file = weight_file(tmp_path / "m.safetensors", UNET, mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.3), **own)
    found = read(adopt(str(file), str(images(tmp_path / "photos", 1)), target="openvino"))
    assert (found.student.mean, found.student.std) == ((0.5, 0.4, 0.3), (0.1, 0.2, 0.3))
    assert found.data.size == (64, 96)
    assert found.data.resize.model_dump() == {"mode": "keep_ratio", "multiple": 32, "interpolation": "bicubic"}


@pytest.mark.parametrize("name", ["../x", "a/b", "/tmp/x", ".hidden"])
def test_a_name_stays_in_the_runs_folder(tmp_path: Path, name: str) -> None:
    file, photos = weight_file(tmp_path / "m.safetensors", UNET), images(tmp_path / "photos", 1)
    with pytest.raises(UserError, match="inside the runs folder"):
        adopt(str(file), str(photos), target="openvino", name=name)
    assert not runs().exists()
    assert not (runs().parent / "x.yaml").exists()


def test_another_recipe_is_not_overwritten(tmp_path: Path) -> None:
    file, photos = weight_file(tmp_path / "m.safetensors", UNET), images(tmp_path / "photos", 1)
    path = adopt(str(file), str(photos), target="openvino", name="x")
    assert adopt(str(file), f"{photos}/", target="openvino", name="x") == path
    text = path.read_text()
    with pytest.raises(UserError, match="--name"):
        adopt(str(file), str(photos), target="openvino", name="x", size=(32, 32))
    assert path.read_text() == text


def test_options_that_would_do_nothing_are_refused(tmp_path: Path) -> None:
    file, photos = weight_file(tmp_path / "m.safetensors", UNET), images(tmp_path / "photos", 1)
    with pytest.raises(UserError, match=r"--weights .* has weights of its own"):
        adopt(str(file), str(photos), target="openvino", weights=str(file))
    with pytest.raises(UserError, match="leave --arch out"):
        adopt("./models.py:build", str(photos), target="openvino", arch="segformer")


@pytest.mark.parametrize(
    "option", [("--target", "openvino"), ("--name", "x"), ("--arch", "a"), ("--size", "3", "4"), ("--weights", "w")]
)
def test_without_data_a_recipe_is_meant(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: tuple[str, ...]
) -> None:
    with pytest.raises(SystemExit):
        call(monkeypatch, "quantize", "smoke/unet", *option)
    assert f"{option[0]}: only for a network of your own, with --data" in capsys.readouterr().err


CLASSIFIER = """
from torch import nn

def build(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes))
"""


def test_folders_of_classes_make_a_classifier_of_code(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            images(tmp_path / "pets" / split / name, 2)
    (tmp_path / "models.py").write_text(CLASSIFIER)
    recipe = read(adopt(f"{tmp_path}/models.py:build", str(tmp_path / "pets"), target="openvino"))
    assert recipe.task.kind == "classification"
    assert recipe.data.spec == {"kind": "image_folder", "path": str(tmp_path / "pets")}
    assert recipe.data.size == (224, 224)
    assert check(recipe)[0].startswith("data     image_folder, 2 classes, 4 training and 4 validation images")


def test_the_kind_says_that_it_classifies(tmp_path: Path) -> None:
    import torch

    torch.save({"x": torch.zeros(1)}, tmp_path / "plain.pth")
    photos = images(tmp_path / "photos", 5)
    arch = "torchvision_classifier,arch=resnet18"
    recipe = read(adopt(str(tmp_path / "plain.pth"), f"{photos}", target="onnxruntime", arch=arch))
    assert recipe.task.kind == "classification"
    assert recipe.data.spec["folders"] == {"training": "."}


@pytest.mark.parametrize(
    ("backbone", "wanted"),
    [
        ({"model_type": "swin", "depths": [2, 2, 6, 2], "embed_dim": 96}, {"size": "tiny", "window": 7}),
        (
            {"model_type": "swin", "depths": [2, 2, 18, 2], "embed_dim": 128, "window_size": 12},
            {"size": "base", "window": 12},
        ),
        ({"model_type": "convnext"}, None),
    ],
)
def test_an_upernet_of_the_hub_is_known_by_its_configuration(
    tmp_path: Path, backbone: dict[str, object], wanted: dict[str, object] | None
) -> None:
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "config.json").write_text(json.dumps({"model_type": "upernet", "backbone_config": backbone}))
    photos = str(images(tmp_path / "photos", 1))
    if wanted is None:
        with pytest.raises(UserError, match="an UPerNet on 'convnext'"):
            adopt(str(tmp_path / "hub"), photos, target="openvino")
        return
    found = read(adopt(str(tmp_path / "hub"), photos, target="openvino"))
    assert found.student.spec == {"kind": "upernet_swin"} | wanted
