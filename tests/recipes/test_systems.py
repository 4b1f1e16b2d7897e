"""Each of the five systems: its recipe on a tiny data set in its own folder layout, through the whole line."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerModel

import _layouts
from limbeck.build import build
from limbeck.models.segformer import SIZES
from limbeck.recipe import read
from limbeck.sweep.grid import cells

SHORT = [
    "data.batch=4", "data.workers=0", "train.steps=2", "train.validate_every=1", "evaluate.samples=2", "bench.runs=2",
    "bench.warmup=0", "bench.rounds=1", "bench.batches=[1]",
]  # fmt: skip
"""A few steps instead of days."""
SMALL = "data.size=[64, 64]"
CALIBRATED = "quantize.calibration.samples=4"
TRAINED = ["quantize.qat.steps=2", CALIBRATED]


@pytest.fixture
def line(tmp_path: Path) -> Callable[..., dict[str, dict[str, Any]]]:
    """``line(recipe, *overrides)``: all stages of a recipe on ``tmp_path/data``; its rows by id."""

    def run(recipe: str, *overrides: str) -> dict[str, dict[str, Any]]:
        own = {"LIMBECK_DATA": "data", "LIMBECK_RUNS": "runs", "LIMBECK_CACHE": "cache", "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(
            [sys.executable, "-m", "limbeck.cli", "run", recipe, *SHORT, *overrides, "--device", "cpu"],
            cwd=tmp_path, env=os.environ | own, capture_output=True, text=True, timeout=900, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        folder = tmp_path / "runs" / read(recipe).name
        assert (folder / "report" / "index.html").is_file()
        rows = {row["id"]: row for row in json.loads((folder / "summary.json").read_text())["rows"]}
        assert [row["error"] for row in rows.values() if row["error"]] == []
        return rows

    return run


def scores(rows: dict[str, dict[str, Any]], score: str = "miou") -> dict[str, float]:
    """Scores of all rows; every row has one."""
    found = {name: row[score] for name, row in rows.items()}
    assert all(isinstance(value, float) and 0 <= value <= 100 for value in found.values()), found
    return found


def segformer_folder(folder: Path, size: str, classes: int | None) -> str:
    """A folder as the hub has it: a whole SegFormer with random weights, or its encoder where ``classes`` is None."""
    torch.manual_seed(0)
    if classes is None:
        SegformerModel(SegformerConfig(**SIZES[size])).save_pretrained(folder)
    else:
        SegformerForSemanticSegmentation(SegformerConfig(num_labels=classes, **SIZES[size])).save_pretrained(folder)
    return str(folder)


def network_file(path: Path, num_classes: int, **spec: Any) -> str:
    """A checkpoint of a network with random weights, as training scripts save it."""
    torch.manual_seed(0)
    network = build("models", spec, "test", num_classes=num_classes, pretrained=None, root=None)
    torch.save({"epoch": 1, "model_state_dict": network.state_dict()}, path)
    return str(path)


@pytest.mark.slow
def test_distiqat(line: Callable[..., dict[str, dict[str, Any]]], tmp_path: Path) -> None:
    _layouts.ade20k(tmp_path / "data")
    teacher = f"teacher.weights={segformer_folder(tmp_path / 'teacher', 'b1', 150)}"
    student = f"student.weights={segformer_folder(tmp_path / 'mit-b0', 'b0', None)}"
    found = scores(line("distiqat/b4-b0", SMALL, *TRAINED, "teacher.size=b1", teacher, student))
    assert {"teacher.fp32.eager", "student.fp32.onnxruntime", "student.int8.onnxruntime"} <= set(found)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["none", "response", "feature"])
def test_elec475(strategy: str, line: Callable[..., dict[str, dict[str, Any]]], tmp_path: Path) -> None:
    _layouts.voc(tmp_path / "data")
    start = network_file(tmp_path / "student.pth", 21, kind="lightweight_deeplabv3")
    changes = [SMALL, CALIBRATED, "data.batch=3", f"student.backbone_weights={start}"]
    if strategy != "none":
        weights = network_file(tmp_path / "teacher.pth", 21, kind="torchvision", arch="fcn_resnet50")
        changes += [f"teacher.weights={weights}", "teacher.min_metric=0"]
    found = scores(line(f"elec475/{strategy}", *changes))
    assert "student.int8.onnxruntime" in found
    assert ("teacher.fp32.onnxruntime" in found) == (strategy != "none")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "method"), [("segformer", "cwd"), ("segformer", "cgd"), ("swin", "cgd"), ("pspnet", "cwd")]
)
def test_segdistill(family: str, method: str, line: Callable[..., dict[str, dict[str, Any]]], tmp_path: Path) -> None:
    _layouts.ade20k(tmp_path / "data")
    teacher = segformer_folder(tmp_path / "teacher", "b1", 150)
    changes = [SMALL, CALIBRATED, "teacher.size=b1", f"teacher.weights={teacher}", "teacher.min_metric=0"]
    if family == "segformer":
        changes += [f"student.backbone_weights={segformer_folder(tmp_path / 'mit-b0', 'b0', None)}"]
    else:
        student = read(f"segdistill/{family}-{method}").student.spec
        changes += [f"student.backbone_weights={network_file(tmp_path / 'student.pth', 150, **student)}"]
    found = scores(line(f"segdistill/{family}-{method}", *changes))
    assert {"teacher.fp32.onnxruntime", "student.fp32.onnxruntime", "student.int8.onnxruntime"} <= set(found)


def test_the_papers_tables_are_matrices() -> None:
    """Table 5, and the ablations of group size, of weight and temperature, and of teacher and student."""
    sizes = {name: len(cells(read(f"segdistill/{name}"))) for name in TABLES}
    assert sizes == TABLES


TABLES = {"methods": 3 * 7, "segformer-cgd": 6, "weight-temperature": 3 * 4, "teacher-student": 10}


@pytest.mark.slow
def test_sceneseg(line: Callable[..., dict[str, dict[str, Any]]], tmp_path: Path) -> None:
    _layouts.sceneseg(tmp_path / "data", ("ACDC", "MUSES", "comma10k"))
    crops = [f"data.sources.{index}.crop=null" for index in (0, 1, 2)]
    rows = line("sceneseg/full", SMALL, *crops, *TRAINED, "student.backbone=random", "train.precision=fp32")
    assert "student.int8.openvino" in scores(rows)
    assert list(rows["student.int8.openvino"]["sources"]) == ["ACDC", "MUSES", "comma10k"]


@pytest.mark.slow
def test_cse5368(line: Callable[..., dict[str, dict[str, Any]]], tmp_path: Path) -> None:
    _layouts.intel(tmp_path / "data")
    small = ["data.size=[32, 32]", CALIBRATED, "student.blocks=4", "teacher.blocks=6", "teacher.train.batch=4"]
    found = scores(line("cse5368/intel", *small, "teacher.train.steps=2"), "accuracy")
    assert {"student-baseline.fp32.eager", "student.int8.onnxruntime"} <= set(found)
