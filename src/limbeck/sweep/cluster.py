"""Runs spread over the machines of a Ray cluster, which share the runs folder."""

import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from limbeck.record import UserError, write_text
from limbeck.sweep.folder import Folder
from limbeck.sweep.pool import LOOK_SECONDS, Pool

__all__ = ["LOST", "Cluster"]

LOST = -signal.SIGKILL
"""Exit code of a run whose machine was lost."""


class Cluster:
    """Like a :class:`limbeck.sweep.pool.Pool`, with the processes started by tasks of Ray.

    A task claims its run where the process is, so that the claim ends with the machine it runs on.
    """

    def __init__(self, folder: Folder, address: str, workers: int, gpus: int | None = None, done: str = "done") -> None:
        """Join the cluster at an address (``auto``: the one of this machine; ``local``: begin one for this sweep).

        Args:
            folder: The sweep's.
            address: Where the cluster is.
            workers: Runs at once; 0 means one a machine, which it then has to itself.
            gpus: GPUs that the runs share out; all there are if None.
            done: State of a run after exit code 0.

        Raises:
            UserError: Without Ray, or if there is no such cluster or too few GPUs.
        """
        self.folder = folder
        self._ray = _connected(address)
        self.size, self._needs = self._share(workers, gpus)
        self._given = (_environment(int(self._needs["num_cpus"])), done)
        self._end = folder.path / "locks" / f"end-{self._ray.get_runtime_context().get_job_id()}"
        self._end.unlink(missing_ok=True)
        self._tasks: dict[Any, str] = {}

    def _share(self, workers: int, gpus: int | None) -> tuple[int, dict[str, float]]:
        """How many runs fit at once, and what Ray reserves for each: it hides the GPUs that are not."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
        there = sum(int(node.get("GPU", 0)) for node in nodes)
        if gpus is not None and gpus > there:
            raise UserError(f"--gpus {gpus}: the Ray cluster has {there}.")
        wanted = there if gpus is None else gpus
        if workers == 0:
            nodes = [node for node in nodes if node.get("GPU")] if wanted else nodes
            most = min(int(node.get("GPU", 0)) for node in nodes)
            return len(nodes), {"num_cpus": min(node["CPU"] for node in nodes), "num_gpus": float(min(most, wanted))}
        cores = [node["CPU"] for node in nodes]
        own = max(1.0, min(max(cores), sum(cores) // workers))
        return workers, {"num_cpus": own, "num_gpus": min(1.0, wanted / workers)}

    @property
    def running(self) -> list[str]:
        """Names of the runs that are being done, or wait for a machine."""
        return list(self._tasks.values())

    @property
    def free(self) -> bool:
        """Whether another run may begin."""
        return len(self._tasks) < self.size

    def claim(self, name: str) -> bool:
        """Whether no process has the run; its task takes it."""
        with self.folder.claimed(name) as free:
            return free is not None

    def let_go(self, name: str) -> None:
        """Nothing is held here."""

    def begin(self, name: str, command: Sequence[str]) -> None:
        """Let a machine of the cluster do a run."""
        task = self._ray.remote(run_one).options(max_retries=0, scheduling_strategy="SPREAD", name=name, **self._needs)
        folder, end = self.folder.path.resolve(), self._end.resolve()
        self._tasks[task.remote(str(folder), str(end), str(Path.cwd()), name, list(command[1:]), *self._given)] = name

    def ended(self) -> dict[str, int]:
        """Exit codes of the runs that ended since the last look."""
        if not self._tasks:
            return {}
        over, _ = self._ray.wait(list(self._tasks), num_returns=len(self._tasks), timeout=0)
        codes = {self._tasks[task]: self._code(task, self._tasks[task]) for task in over}
        self._tasks = {task: name for task, name in self._tasks.items() if task not in over}
        return codes

    def stop(self, signum: int) -> dict[str, int]:
        """Let every run save and stop, and wait until it has; exit codes."""
        write_text(self._end, str(signum))
        if self._tasks:
            self._ray.wait(list(self._tasks), num_returns=len(self._tasks))
        return self.ended()

    def _code(self, task: Any, name: str) -> int:
        try:
            return int(self._ray.get(task))
        except self._ray.exceptions.RayError:
            self.folder.note(name, state="failed", code=LOST)
            return LOST


def run_one(
    folder: str, end: str, home: str, name: str, words: list[str], environment: Mapping[str, str], done: str
) -> int:
    """On a machine of the cluster: claim a run, do it, and stop it when the sweep's process says so; its exit code."""
    if Path(home).is_dir():
        os.chdir(home)  # what the recipe and its changes name is looked up from there
    pool = Pool(Folder(Path(folder)), [environment], done)
    while not pool.claim(name):
        if Path(end).is_file():
            return -signal.SIGTERM
        time.sleep(LOOK_SECONDS)
    pool.begin(name, [sys.executable, *words])
    while not (ended := pool.ended()):
        if Path(end).is_file():
            return pool.stop(int(Path(end).read_text()))[name]
        time.sleep(LOOK_SECONDS)
    return ended[name]


def _connected(address: str) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise UserError("--ray needs Ray: pip install 'limbeck[ray]', on every machine.") from error
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", ignore_reinit_error=True)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(
            f"--ray {address}: no such cluster ({str(error).splitlines()[0]}). `ray start --head` begins one, and "
            "--ray local begins one on this machine for this sweep alone."
        ) from error
    return ray


def _environment(cores: int) -> dict[str, str]:
    """What a run finds on another machine as here: its folders, which are shared, and where this code is."""
    from limbeck.stages.context import data_root, runs_root

    folders = {"LIMBECK_RUNS": str(runs_root().resolve()), "LIMBECK_DATA": str(data_root().resolve())}
    kept = {name: os.environ[name] for name in ("LIMBECK_CACHE", "PYTHONPATH") if name in os.environ}
    return folders | kept | {"LIMBECK_CORES": str(cores), "OMP_NUM_THREADS": str(cores)}
