"""A sweep that is killed in the middle and started again ends as one that nothing disturbed, with one teacher trained."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

RECIPE = """name: table
data: {kind: scenes, size: [32, 32], canvas: [32, 32], training: 16, validation: 6, batch: 4}
teacher: {kind: compact_unet, width: 8, stages: 2, train: {steps: 40, checkpoint: {every: 0.5}}}
student: {kind: compact_unet, width: 4, stages: 2}
train: {steps: 40, checkpoint: {every: 0.5}}
distil: [{kind: kd, weight: 1}]
export: []
bench: null
matrix: {distil: [none, kd], seed: [0, 1]}
"""

CELLS = ["table-none-seed-0", "table-none-seed-1", "table-kd-seed-0", "table-kd-seed-1"]


def start(recipe: Path, runs: Path, *words: str) -> subprocess.Popen[bytes]:
    environment = os.environ | {
        "LIMBECK_RUNS": str(runs),
        "LIMBECK_CACHE": str(runs / "cache"),
        "CUDA_VISIBLE_DEVICES": "",
    }
    command = [sys.executable, "-m", "limbeck.cli", "sweep", str(recipe), *words]
    return subprocess.Popen(command, env=environment, start_new_session=True, stderr=subprocess.PIPE)


def killed(recipe: Path, runs: Path, pattern: str, signum: int) -> int:
    """Start the sweep, and once there is such a file, send a signal to it and to all that it started."""
    process = start(recipe, runs)
    while not list(runs.glob(pattern)):
        assert process.poll() is None, process.communicate()[1].decode()
        time.sleep(0.05)
    os.killpg(process.pid, signum)
    process.communicate(timeout=300)
    return process.returncode


def to_the_end(recipe: Path, runs: Path, *words: str) -> None:
    process = start(recipe, runs, *words)
    said = process.communicate(timeout=1500)[1].decode()
    assert process.returncode == 0, said


def scores(runs: Path) -> dict[str, dict[str, Any]]:
    """Of every row of every run."""
    return {
        name: {row["id"]: row["miou"] for row in json.loads((runs / name / "summary.json").read_text())["rows"]}
        for name in CELLS
    }


def record(runs: Path, name: str, stage: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((runs / name / stage / "record.json").read_text())
    return found


def logged(runs: Path, name: str, stage: str) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (runs / name / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines if line["stage"] == stage and "loss" in line]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "table.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def undisturbed(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("undisturbed")
    to_the_end(recipe, runs)
    return runs


def test_teacher_and_equal_stages_are_made_once(undisturbed: Path) -> None:
    assert ["shared_from" in record(undisturbed, name, "teacher") for name in CELLS] == [False, True, True, True]
    assert record(undisturbed, CELLS[3], "teacher")["shared_from"] == CELLS[0]
    assert all("shared_from" not in record(undisturbed, name, "student") for name in CELLS)
    weights = [undisturbed / name / "teacher" / "teacher.safetensors" for name in CELLS]
    assert all(path.samefile(weights[0]) for path in weights)
    assert len({record(undisturbed, name, "teacher")["fingerprint"] for name in CELLS}) == 1
    teacher = [logged(undisturbed, name, "teacher") for name in CELLS]
    assert teacher[0][-1][0] == 40
    assert all(lines == teacher[0] for lines in teacher)
    assert len({tuple(logged(undisturbed, name, "student")) for name in CELLS}) == 4


def test_killed_in_the_middle_and_started_again(recipe: Path, undisturbed: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    assert killed(recipe, runs, "*/teacher/checkpoints/step-*.pt", signal.SIGKILL) == -signal.SIGKILL
    assert killed(recipe, runs, f"{CELLS[2]}/student/checkpoints/step-*.pt", signal.SIGKILL) == -signal.SIGKILL
    before = {
        entry["name"]: entry["state"]
        for entry in json.loads((runs / "table-sweep" / "sweep.json").read_text())["cells"]
    }
    assert before == {CELLS[0]: "done", CELLS[1]: "done", CELLS[2]: "running", CELLS[3]: "waiting"}
    to_the_end(recipe, runs)
    assert {entry["state"] for entry in json.loads((runs / "table-sweep" / "sweep.json").read_text())["cells"]} == {
        "done"
    }
    assert sum("shared_from" not in record(runs, name, "teacher") for name in CELLS) == 1
    assert record(runs, CELLS[0], "teacher")["result"]["resumed_from"] > 0
    assert record(runs, CELLS[2], "student")["result"]["resumed_from"] > 0
    assert scores(runs) == scores(undisturbed)
    assert [logged(runs, name, "student") for name in CELLS] == [logged(undisturbed, name, "student") for name in CELLS]


def test_asked_to_stop_it_saves_and_exits_75(recipe: Path, tmp_path: Path) -> None:
    """As a cluster does: the signal reaches the sweep's process alone, and it hands it on."""
    name, words = "table-kd-seed-0", ("matrix.distil=[kd]", "matrix.seed=[0]")
    process = start(recipe, tmp_path, *words)
    while not list(tmp_path.glob(f"{name}/student/checkpoints/step-*.pt")):
        assert process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGUSR1)
    process.communicate(timeout=300)
    assert process.returncode == 75
    (entry,) = json.loads((tmp_path / "table-sweep" / "sweep.json").read_text())["cells"]
    assert (entry["state"], entry["code"]) == ("stopped", 75)
    teacher = record(tmp_path, name, "teacher")
    to_the_end(recipe, tmp_path, *words)
    assert record(tmp_path, name, "student")["result"]["resumed_from"] > 0
    assert record(tmp_path, name, "teacher") == teacher
