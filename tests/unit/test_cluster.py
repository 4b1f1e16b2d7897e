"""Sweeps over a Ray cluster: one that begins on this machine for the test."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_sweep import RECIPE, called, children, swept

from limbeck.sweep.cluster import Cluster

ray = pytest.importorskip("ray", reason="limbeck[ray] is not installed")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield "local"
    ray.shutdown()


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIMBECK_RUNS", str(tmp_path / "runs"))
    (tmp_path / "table.yaml").write_text(RECIPE)
    return tmp_path / "runs"


def test_runs_are_spread_and_a_failed_one_is_named(
    cluster: str, runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each of the first two waits for the other: one after another they would fail."""
    children(
        monkeypatch,
        f"""
import os, pathlib, time
folder = pathlib.Path({str(runs)!r})
assert os.environ["LIMBECK_RUNS"] == str(folder) and os.environ["LIMBECK_CORES"] == "1"
(folder / f"{{name}}.there").touch()
end = time.monotonic() + 120
while len(list(folder.glob("*.there"))) < 2 and time.monotonic() < end:
    time.sleep(0.01)
raise SystemExit(3 * (len(list(folder.glob("*.there"))) < 2 or name == "table-kd-seed-0"))
""",
    )
    assert called(monkeypatch, "sweep", str(runs.parent / "table.yaml"), "--ray", cluster, "--workers", "2") == 1
    said = capsys.readouterr().out
    assert "3 of 4 runs done" in said
    assert "Failed: table-kd-seed-0 (exit code 3)" in said
    assert [cell["state"] for cell in swept(runs).values()] == ["done", "done", "failed", "done"]


def test_a_signal_stops_the_runs_on_every_machine(cluster: str, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    children(
        monkeypatch,
        f"""
import pathlib, signal, sys, time
signal.signal(signal.SIGUSR1, lambda signum, frame: sys.exit(75))
pathlib.Path({str(runs)!r}, name + ".there").touch()
time.sleep(0 if pathlib.Path({str(runs)!r}, "again").exists() else 300)
""",
    )

    def ask() -> None:
        while not (runs / "table-none-seed-0.there").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGUSR1)

    threading.Thread(target=ask).start()
    command = ("sweep", str(runs.parent / "table.yaml"), "--ray", cluster)
    assert called(monkeypatch, *command) == 75
    assert [cell["state"] for cell in swept(runs).values()] == ["stopped", "waiting", "waiting", "waiting"]
    (runs / "again").touch()
    assert called(monkeypatch, *command) == 0
    assert {cell["state"] for cell in swept(runs).values()} == {"done"}


@pytest.mark.parametrize(
    ("nodes", "workers", "gpus", "size", "needs"),
    [
        ([{"CPU": 8.0}, {"CPU": 4.0}], 0, None, 2, (4.0, 0.0)),  # one a machine, which it has to itself
        ([{"CPU": 8.0, "GPU": 4.0}, {"CPU": 8.0, "GPU": 4.0}, {"CPU": 64.0}], 0, None, 2, (8.0, 4.0)),
        ([{"CPU": 8.0, "GPU": 4.0}, {"CPU": 8.0, "GPU": 4.0}], 8, 8, 8, (2.0, 1.0)),
        ([{"CPU": 8.0, "GPU": 2.0}], 4, None, 4, (2.0, 0.5)),
        ([{"CPU": 8.0, "GPU": 2.0}], 4, 0, 4, (2.0, 0.0)),  # --device cpu
        ([{"CPU": 2.0}, {"CPU": 2.0}], 1, None, 1, (2.0, 0.0)),  # no more than one machine has
        ([{}, {"CPU": 2.0}], 4, None, 4, (1.0, 0.0)),  # a head that only schedules
    ],
)
def test_what_is_reserved_for_a_run(
    nodes: list[dict[str, float]], workers: int, gpus: int | None, size: int, needs: tuple[float, float]
) -> None:
    """Ray hides the GPUs that a task did not ask for: a run would train on the CPU and say nothing."""
    cluster = object.__new__(Cluster)
    cluster._ray = SimpleNamespace(nodes=lambda: [{"Alive": True, "Resources": node} for node in nodes])
    assert cluster._share(workers, gpus) == (size, {"num_cpus": needs[0], "num_gpus": needs[1]})


def test_what_the_cluster_has_not_is_refused(
    cluster: str, runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("sweep", str(runs.parent / "table.yaml"), "--ray", cluster)
    assert called(monkeypatch, *command, "--gpus", "2") == 2
    assert "--gpus 2: the Ray cluster has 0" in capsys.readouterr().err


def test_without_ray_the_extra_is_named(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert called(monkeypatch, "sweep", str(runs.parent / "table.yaml"), "--ray", "auto") == 2
    assert "pip install 'limbeck[ray]'" in capsys.readouterr().err
