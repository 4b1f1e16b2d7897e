"""Several teachers, a chain among them, and the student's own average through the whole line; and after a kill."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from limbeck.models.compact_unet import compact_unet
from limbeck.recipe import read
from limbeck.run import run
from limbeck.train.average import Average

pytestmark = pytest.mark.slow
TEACHERS = ("teacher-big", "teacher-assistant", "teacher-wide")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of smoke/teachers."""
    runs = tmp_path_factory.mktemp("runs")
    env = os.environ | {"LIMBECK_RUNS": str(runs), "LIMBECK_CACHE": str(runs / "cache"), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-m", "limbeck.cli", "run", "smoke/teachers"],
        env=env, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return runs / "smoke-teachers"


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def losses(folder: Path) -> list[tuple[int, float, dict[str, float]]]:
    return [(line["step"], line["loss"], line["parts"]) for line in lines(folder) if line.get("loss") is not None
            and line["stage"] == "student"]  # fmt: skip


def test_every_teacher_has_its_rows(finished: Path) -> None:
    rows = {row["id"]: row for row in json.loads((finished / "summary.json").read_text())["rows"]}
    assert {row["error"] for row in rows.values()} == {None}
    for role in TEACHERS:
        assert (finished / role / f"{role}.safetensors").is_file()
        assert rows[f"{role}.fp32.eager"]["miou"] is not None
        assert rows[f"{role}.fp32.onnxruntime"]["latency_ms"]["p50"] > 0
    assert rows["teacher-wide.fp32.onnxruntime"]["input"] == [1, 3, 64, 96]
    assert rows["student.fp32.onnxruntime"]["input"] == [1, 3, 48, 64]
    page = (finished / "report" / "index.html").read_text()
    assert all(f"Teacher {role.partition('-')[2]}" in page for role in TEACHERS)


def test_the_chain_is_trained_from_its_end(finished: Path) -> None:
    found = lines(finished)
    assert list(dict.fromkeys(line["stage"] for line in found)) == [*TEACHERS, "student", "qat"]
    parts = {line["stage"]: set(line["parts"]) for line in found if "parts" in line}
    assert parts["teacher-big"] == parts["teacher-wide"] == {"task"}
    assert parts["teacher-assistant"] == {"task", "kd", "cwd"}
    assert parts["student"] == {"task", "kd", "cwd", "hint"}
    assert parts["qat"] == {"task", "kd"}


def test_the_students_file_holds_the_student_alone(finished: Path) -> None:
    kept = load_file(finished / "student" / "student.safetensors")
    assert kept.keys() == compact_unet(12, width=4, stages=2).state_dict().keys()


@pytest.mark.parametrize("stop", [1, 5])
def test_it_goes_on_with_the_same_bits(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    """With projectors, teachers of several sizes and precisions, and the average, which alone remembers all steps."""
    monkeypatch.setenv("LIMBECK_RUNS", str(tmp_path))
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "smoke-teachers"
    folder.mkdir()
    for role in TEACHERS:
        shutil.copytree(finished / role, folder / role)
    recipe = read("smoke/teachers", ["train.checkpoint.every=0.01"])
    follow = Average.follow

    def breaks(self: Average, student: torch.nn.Module) -> None:
        follow(self, student)
        if self.updates > stop:
            raise OSError("the power went")

    monkeypatch.setattr(Average, "follow", breaks)
    with pytest.raises(OSError, match="the power went"):
        run(recipe, until="train", device="cpu")
    monkeypatch.setattr(Average, "follow", follow)
    run(recipe, until="train", device="cpu")
    result = json.loads((folder / "student" / "record.json").read_text())["result"]
    assert result["resumed_from"] == stop
    assert losses(folder) == losses(finished)
    mine, theirs = (load_file(one / "student" / "student.safetensors") for one in (folder, finished))
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
