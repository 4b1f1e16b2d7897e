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
