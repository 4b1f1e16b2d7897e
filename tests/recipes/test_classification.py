"""A classifier through the whole line, on the Intel scenes' layout: train, distil, quantize, export, evaluate, show."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from limbeck.artifact.load import load
from limbeck.artifact.metadata import Metadata
from limbeck.artifact.prediction import ClassPrediction
from limbeck.recipe import read
from limbeck.record import UserError
from limbeck.stages.check import check

CLASSES = ("disc", "ring", "square")


def shape(name: str, rng: np.random.Generator) -> Image.Image:
    """A bright shape on noise."""
    image = Image.fromarray(rng.integers(0, 90, (40, 44, 3), np.uint8))
    draw, (x, y, more) = ImageDraw.Draw(image), map(int, rng.integers(3, 10, 3))
    box, colour = (x, y, x + 14 + more, y + 14 + more), tuple(map(int, rng.integers(120, 255, 3)))
    if name == "square":
        draw.rectangle(box, fill=colour)
    else:
        draw.ellipse(box, fill=colour if name == "disc" else None, outline=colour, width=3)
    return image


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``smoke-classes`` as Kaggle packs the Intel scenes, without a validation folder."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for split, count in (("seg_train/seg_train", 14), ("seg_test/seg_test", 3)):
        for name in CLASSES:
            folder = root / "smoke-classes" / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                shape(name, rng).save(folder / f"{index}.{'JPG' if index % 2 else 'png'}")
    (root / "smoke-classes" / "seg_pred" / "seg_pred").mkdir(parents=True)
    for index in range(4):
        shape(CLASSES[index % 3], rng).save(root / "smoke-classes" / "seg_pred" / "seg_pred" / f"{index}.png")
    return root


def run(runs: Path, data: Path, *words: str) -> str:
    variables = {"LIMBECK_RUNS": str(runs), "LIMBECK_CACHE": str(runs / "cache"), "LIMBECK_DATA": str(data)}
    environment = os.environ | variables | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-m", "limbeck.cli", *words], env=environment, capture_output=True, text=True, timeout=900,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """The run folder of smoke/classification, scored on the test images."""
    runs = tmp_path_factory.mktemp("runs")
    said = run(runs, data, "run", "smoke/classification", "evaluate.split=test")
    assert "Accuracy" in said
    assert "mIoU" not in said
    return runs / "smoke-classification"


def rows(folder: Path) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in json.loads((folder / "summary.json").read_text())["rows"]}


@pytest.mark.slow
def test_every_row_has_an_accuracy_and_no_miou(finished: Path) -> None:
    found = rows(finished)
    assert {row["error"] for row in found.values()} == {None}
    assert {row["miou"] for row in found.values()} == {None}
    for row in found.values():
        assert row["accuracy"] * 9 / 100 == pytest.approx(round(row["accuracy"] * 9 / 100))  # of nine images
        assert row["top5_accuracy"] is None
    for name in ("student.fp32.onnxruntime", "student.int8.onnxruntime", "student.int8.openvino"):
        assert found[name]["latency_ms"]["p50"] > 0
        assert found[name]["end_to_end_ms"] > 0
    assert found["student.fp32.onnxruntime"]["agreement"] == 100
    assert found["student.int8.onnxruntime"]["file_mb"] < found["student.fp32.onnxruntime"]["file_mb"]


@pytest.mark.slow
def test_training_follows_the_accuracy_of_the_validation_share(finished: Path) -> None:
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    checks = [line for line in lines if "best" in line]
    assert {line["stage"] for line in checks} == {"teacher", "student", "student-baseline", "qat"}
    assert all(line["accuracy"] * 3 / 100 == pytest.approx(round(line["accuracy"] * 3 / 100)) for line in checks)
    distilled = next(line for line in lines if line["stage"] == "student" and "parts" in line)
    assert set(distilled["parts"]) == {"task", "kd", "cwd"}


@pytest.mark.slow
def test_the_record_has_classes_matrix_and_samples(finished: Path) -> None:
    result = json.loads((finished / "evaluate-test" / "record.json").read_text())["result"]
    assert result["classes"] == list(CLASSES)
    row = next(row for row in result["rows"] if row["id"] == "student.int8.onnxruntime")
    matrix = np.array(row["matrix"])
    assert matrix.sum(1).tolist() == [3, 3, 3]
    assert row["accuracy"] == pytest.approx(100 * np.trace(matrix) / 9)
    assert len(row["per_class"]["accuracy"]) == 3
    for sample in result["samples"]:
        assert CLASSES[sample["label"]] == sample["name"].partition("/")[0]
        assert (finished / "evaluate-test" / sample["image"]).is_file()
        assert set(sample["labels"].values()) <= {0, 1, 2}


@pytest.mark.slow
def test_images_without_classes_say_how_far_files_agree(finished: Path, data: Path) -> None:
    said = run(finished.parent, data, "evaluate", "smoke/classification", "split=unlabelled")
    assert "Accuracy" not in said
    result = json.loads((finished / "evaluate-unlabelled" / "record.json").read_text())["result"]
    assert result["images"] == 4
    assert {row["accuracy"] for row in result["rows"]} == {None}
    assert all(0 <= row["agreement"] <= 100 for row in result["rows"])


@pytest.mark.slow
def test_the_page_speaks_of_accuracy(finished: Path) -> None:
    page = (finished / "report" / "index.html").read_text(encoding="utf-8")
    for words in (
        "Accuracy",
        "accuracy of each class",
        "what the networks take it for",
        "Image to class",
    ):
        assert words in page, words
    for words in ("mIoU", "IoU", "Image to mask", "pixels"):
        assert words not in page, words
    assert "mIoU" not in (finished / "summary.md").read_text()


@pytest.mark.slow
def test_the_exported_file_names_classes(finished: Path, data: Path) -> None:
    path = finished / "export" / "student.int8.onnx"
    assert Metadata.read(path).task == "classification"
    image = np.asarray(Image.open(data / "smoke-classes/seg_test/seg_test/disc/0.png"))
    found = load(path, threads=1)(image)
    assert isinstance(found, ClassPrediction)
    assert {name for name, _ in found.top()} == set(CLASSES)


@pytest.mark.slow
def test_a_weight_file_of_a_classifier_is_quantized_as_one(finished: Path, data: Path, tmp_path: Path) -> None:
    weights = finished / "student" / "student.safetensors"
    few = ["bench.runs=2", "bench.rounds=1", "bench.warmup=1", "bench.batches=[1]", "bench.runtimes=[onnxruntime]"]
    words = ["quantize", str(weights), *few, "--data", str(data / "smoke-classes"), "--name", "own"]
    run(tmp_path, data, *words)
    found = rows(tmp_path / "own")
    assert found["student.int8.onnxruntime"]["accuracy"] is not None
    assert found["student.int8.onnxruntime"]["error"] is None


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        (["student.kind=compact_unet", "student.blocks=null"], "compact_unet has no argument"),
        (["task.kind=segmentation"], r"student: gives \[2, 3\] for two images; segmentation wants maps"),
        (["distil.1.at=blocks.0 -> logits"], "two maps or two vectors"),
    ],
)
def test_what_does_not_fit_the_task_is_said_by_check(
    changes: list[str], wanted: str, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIMBECK_DATA", str(data))
    with pytest.raises(UserError, match=wanted):
        check(read("smoke/classification", changes))


def test_a_segmenter_is_no_classifier(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMBECK_DATA", str(data))
    with pytest.raises(UserError, match=r"student: gives \[2, 12, .* classification wants one class an image"):
        check(read("smoke/unet", ["task.kind=classification"]))
