"""The runs of a sweep: done once, side by side or in turn, and what happens when one fails or is stopped."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from limbeck.cli import main
from limbeck.recipe import read
from limbeck.record import UserError
from limbeck.sweep.children import Sweep
from limbeck.sweep.folder import opened
from limbeck.sweep.grid import cells
from limbeck.sweep.pool import Pool, slots

RECIPE = """name: table
data: {kind: scenes, size: [32, 32], canvas: [32, 32], training: 8, validation: 4, batch: 4}
teacher: {kind: compact_unet, width: 4, stages: 2}
student: {kind: compact_unet, width: 4, stages: 2}
train: {steps: 2}
distil: [{kind: kd, weight: 1}]
bench: null
matrix:
  method:
    none: {distil: []}
    kd: {distil.0.temperature: 4}
  seed: [0, 1]
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "table.yaml").write_text(RECIPE)
    return tmp_path / "table.yaml"


def called(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["limbeck", *words])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_list_and_check(recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert called(monkeypatch, "sweep", str(recipe), "--list") == 0
    assert capsys.readouterr().out.split() == [
        "0", "table-none-seed-0", "1", "table-none-seed-1", "2", "table-kd-seed-0", "3", "table-kd-seed-1",
    ]  # fmt: skip
    assert called(monkeypatch, "check", str(recipe)) == 0
    assert "matrix   4 runs" in capsys.readouterr().out


def test_an_unsound_run_is_named_before_any_begins(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe.write_text(RECIPE.replace("distil.0.temperature: 4", "train.steps: none"))
    assert called(monkeypatch, "sweep", str(recipe)) == 2
    assert "train.steps" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--only", "9"], ["matrix={}"]])
def test_nothing_to_do_is_said(
    words: list[str], recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(monkeypatch, "sweep", str(recipe), *words) == 2
    said = capsys.readouterr().err
    assert ("there are 4 runs" if words[0] == "--only" else "has no matrix") in said


def children(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Let a script stand for ``limbeck run``; it knows the run's name."""
    monkeypatch.setattr(
        Sweep,
        "command",
        lambda self, cell, verb: [sys.executable, "-c", f"name, verb = {cell.name!r}, {verb!r}\n{script}"],
    )


def swept(runs: Path) -> dict[str, dict[str, Any]]:
    return {cell["name"]: cell for cell in json.loads((runs / "table-sweep" / "sweep.json").read_text())["cells"]}


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIMBECK_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def test_a_failed_run_stops_no_other(
    recipe: Path, runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    children(
        monkeypatch, "print('no such file: ' + name, flush=True); raise SystemExit(2 * (name == 'table-none-seed-1'))"
    )
    assert called(monkeypatch, "sweep", str(recipe)) == 1
    said = capsys.readouterr()
    assert "3 of 4 runs done" in said.out
    assert "Failed: table-none-seed-1 (exit code 2)" in said.out
    assert "    no such file: table-none-seed-1" in said.out
    assert "table-none-seed-1 FAILED with exit code 2" in said.err
    found = swept(runs)
    assert [cell["state"] for cell in found.values()] == ["done", "failed", "done", "done"]
    assert found["table-none-seed-1"]["code"] == 2
    assert found["table-kd-seed-0"]["axes"] == {"method": "kd", "seed": 0}
    assert all(cell["seconds"] > 0 for cell in found.values())
    assert (runs / "table-sweep" / found["table-kd-seed-1"]["log"]).read_text().endswith("table-kd-seed-1\n")


def test_runs_at_once_share_the_threads(recipe: Path, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the two waits for the other: one after another they would fail."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    children(
        monkeypatch,
        f"""
import os, pathlib, time
folder = pathlib.Path({str(runs)!r})
(folder / f"{{name}}.there").touch()
end = time.monotonic() + 60
while len(list(folder.glob("*.there"))) < 2 and time.monotonic() < end:
    time.sleep(0.01)
raise SystemExit(3 * (len(list(folder.glob("*.there"))) < 2 or os.environ["OMP_NUM_THREADS"] != "1"))
""",
    )
    assert called(monkeypatch, "sweep", str(recipe), "--workers", "2", "matrix.method=[]", "matrix={}", "seed=0,1") == 0


def test_speed_is_measured_one_run_at_a_time(recipe: Path, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where several train at once, they are timed when all have trained; the one that failed is not."""
    log, lock = runs / "log", runs / "lock"
    children(
        monkeypatch,
        f"""
import os, pathlib, time
with open({str(log)!r}, "a") as stream:
    stream.write(f"{{verb}} {{name}}\\n")
if verb == "run":
    os.close(os.open({str(lock)!r}, os.O_CREAT | os.O_EXCL))  # there if another is being timed
    time.sleep(0.3)
    os.unlink({str(lock)!r})
raise SystemExit(4 * (name == "table-none-seed-1"))
""",
    )
    assert called(monkeypatch, "sweep", str(recipe), "--workers", "2", "bench={}") == 1
    done = [line.split() for line in log.read_text().splitlines()]
    names = [name for name in swept(runs) if name != "table-none-seed-1"]
    assert sorted(name for verb, name in done[:4]) == sorted(swept(runs))
    assert [verb for verb, _ in done] == ["evaluate"] * 4 + ["run"] * 3
    assert [name for _, name in done[4:]] == names
    assert {swept(runs)[name]["state"] for name in names} == {"done"}


def test_a_run_outlives_its_sweep_and_stays_claimed(recipe: Path, runs: Path) -> None:
    """When the sweep's process alone is killed, its child goes on: nobody else may begin the same run."""
    found = cells(read(recipe))[:1]
    folder = opened(runs / "table-sweep", "table", str(recipe), [], found)
    pool, name = Pool(folder, [{}]), found[0].name
    assert pool.claim(name)
    pool.begin(
        name,
        [
            sys.executable,
            "-c",
            f"""
import pathlib, time
while not pathlib.Path({str(runs / "end")!r}).exists():
    time.sleep(0.01)
""",
        ],
    )
    pool._claims[name].close()  # as the system does when a process dies
    assert folder.claim(name) is None
    assert opened(folder.path, "table", str(recipe), [], found).entry(name)["state"] == "running"
    (runs / "end").touch()
    pool._children[0].process.wait()
    claim = folder.claim(name)
    assert claim is not None
    folder.let_go(claim)


def test_each_worker_has_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in slots(2, 2)] == ["4", "7"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in slots(4, 2)] == ["0", "1", "0", "1"]
    assert all("CUDA_VISIBLE_DEVICES" not in slot for slot in slots(2, 0))


@pytest.mark.parametrize(("state", "code"), [("failed", 7), ("stopped", None)])
def test_a_run_that_another_process_has_is_waited_for(
    state: str, code: int | None, recipe: Path, runs: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """It is taken up here if the other dropped it, and not if the other saw it fail."""
    children(monkeypatch, "")
    found = cells(read(recipe))
    folder = opened(runs / "table-sweep", "table", str(recipe), [], found)
    other = folder.claim("table-none-seed-0")
    assert other is not None

    def end() -> None:
        while [cell["state"] for cell in swept(runs).values()].count("done") < 3:
            time.sleep(0.1)
        time.sleep(1.0)
        folder.note("table-none-seed-0", state=state, code=code)
        folder.let_go(other)

    threading.Thread(target=end).start()
    assert called(monkeypatch, "sweep", str(recipe)) == (1 if code else 0)
    said = capsys.readouterr().err
    assert "other processes have the 1 runs that are left" in said
    assert ("table-none-seed-0 FAILED in another process" if code else "table-none-seed-0 begins") in said


def test_what_a_killed_process_left_is_known_as_stopped(recipe: Path, runs: Path) -> None:
    found = cells(read(recipe))
    folder = opened(runs / "table-sweep", "table", str(recipe), [], found)
    for cell in found[:2]:
        folder.note(cell.name, state="running", seconds=5.0)
    claim = folder.claim(found[1].name)
    opened(runs / "table-sweep", "table", str(recipe), [], found)
    assert [cell["state"] for cell in swept(runs).values()] == ["stopped", "running", "waiting", "waiting"]
    assert swept(runs)[found[0].name]["seconds"] == 5.0
    with pytest.raises(UserError, match="table-none-seed-1 is being done by another process"):
        opened(runs / "table-sweep", "table", str(recipe), [], found[2:])
    assert claim is not None
    folder.let_go(claim)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 75), (signal.SIGUSR1, 75), (signal.SIGINT, 130)])
def test_a_signal_reaches_the_run_and_the_same_command_goes_on(
    signum: int, code: int, recipe: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    children(
        monkeypatch,
        f"""
import pathlib, signal, sys, time
for number in (signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, lambda signum, frame: sys.exit(75))
pathlib.Path({str(runs)!r}, name + ".there").touch()
time.sleep(60 if name == "table-none-seed-1" and not pathlib.Path({str(runs)!r}, "again").exists() else 0)
""",
    )

    def ask() -> None:
        while not (runs / "table-none-seed-1.there").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signum)

    threading.Thread(target=ask).start()
    assert called(monkeypatch, "sweep", str(recipe)) == code
    states = ["done", "stopped", "waiting", "waiting"]
    assert [cell["state"] for cell in swept(runs).values()] == states
    (runs / "again").touch()
    assert called(monkeypatch, "sweep", str(recipe)) == 0
    assert {cell["state"] for cell in swept(runs).values()} == {"done"}


def test_gpus_and_a_device_contradict_each_other(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert called(monkeypatch, "sweep", str(recipe), "--gpus", "2", "--device", "cuda:1") == 2


def test_more_gpus_than_there_are_is_said_of_gpus(
    recipe: Path, runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert called(monkeypatch, "sweep", str(recipe), "--gpus", "2") == 2
    assert capsys.readouterr().err == "--gpus 2: torch sees 0 CUDA devices; cpu would work.\n"


@pytest.mark.slow
def test_a_sweep_runs_and_is_not_run_twice(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMBECK_RUNS", str(tmp_path / "runs"))
    assert called(monkeypatch, "sweep", str(recipe), "export=[]", "matrix.seed=[0]") == 0
    records = sorted(
        path.relative_to(tmp_path / "runs").as_posix() for path in (tmp_path / "runs").rglob("record.json")
    )
    assert "table-kd-seed-0/student/record.json" in records
    before = {name: (tmp_path / "runs" / name).stat().st_mtime_ns for name in records}
    assert called(monkeypatch, "sweep", str(recipe), "export=[]", "matrix.seed=[0]") == 0
    assert before == {name: (tmp_path / "runs" / name).stat().st_mtime_ns for name in records}


@pytest.mark.slow
def test_a_sweep_in_equal_time_trains_longer_controls_once(recipe: Path, tmp_path: Path) -> None:
    """The table at its end compares with them, whatever the machine's speed makes of the times."""
    environment = os.environ | {"LIMBECK_RUNS": str(tmp_path / "runs"), "LIMBECK_CACHE": str(tmp_path / "cache")}
    words = ["sweep", str(recipe), "train.steps=12", "teacher.width=24", "export=[]", "--equal-time"]
    done = [
        subprocess.run(
            [sys.executable, "-m", "limbeck.cli", *words], env=environment, capture_output=True, text=True, check=True
        )
        for _ in range(2)
    ]
    folder = tmp_path / "runs" / "table-sweep"
    table = json.loads((folder / "table.json").read_text())
    kd = next(row for row in table["rows"] if row["method"] == "kd")
    assert kd["gain"]["against"] == "none"
    assert (len(kd["gain"]["by_seed"]), len(kd["gain"]["whole"]), kd["gain"]["seeds"]) == (2, 2, [0, 1])
    assert kd["equal_time"]["against"].startswith("none")
    longer = [row for row in table["rows"] if row["longer"]]
    assert kd["equal_time"]["against"] in [row["method"] for row in (*longer, table["rows"][0])]
    assert all(cell["state"] == "done" for cell in json.loads((folder / "sweep.json").read_text())["cells"])
    assert "every method has a control that trained for as long" in done[1].stderr
    assert "begins;" not in done[1].stderr
