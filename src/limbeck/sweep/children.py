"""Do the runs of a sweep, each in a process of its own, so that one that fails stops no other."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from limbeck import show
from limbeck.recipe import Recipe, read
from limbeck.record import UserError
from limbeck.sweep.cluster import Cluster
from limbeck.sweep.folder import Folder, opened, place_of
from limbeck.sweep.grid import Cell
from limbeck.sweep.loop import do
from limbeck.sweep.pool import Pool, slots, tail

__all__ = ["Sweep", "chosen", "failures", "run_all"]

LOG_LINES = 6
"""Of a failed run's log that are shown."""


@dataclass(frozen=True)
class Sweep:
    """A recipe, its runs, and how they are done.

    Attributes:
        source: The recipe.
        overrides: Changes that all runs have in common.
        cells: All runs.
        device: ``auto``, ``cpu`` or ``cuda``.
        workers: Processes at once; 0 means one a machine of the Ray cluster.
        gpus: GPUs that the processes share out among them; 0 leaves that to ``device``.
        ray: Address of a Ray cluster to spread the runs over; they are done on this machine if None.
    """

    source: str
    overrides: Sequence[str]
    cells: Sequence[Cell]
    device: str = "auto"
    workers: int = 1
    gpus: int = 0
    ray: str | None = None

    def recipe(self, cell: Cell | None = None) -> Recipe:
        """The recipe of a run, or the one that all begin with."""
        return read(self.source, [*self.overrides, *(cell.overrides if cell else ())])

    def command(self, cell: Cell, verb: str) -> list[str]:
        """``limbeck run`` for a run, or another verb."""
        source = str(Path(self.source).resolve()) if Path(self.source).exists() else self.source
        given = [source, *self.overrides, *cell.overrides, "--device", "cuda" if self.gpus else self.device]
        return [sys.executable, "-m", "limbeck.cli", verb, *given]


def chosen(sweep: Sweep, only: int | None) -> list[Cell]:
    """All runs of a sweep, or the one of this number; the recipe of every run is read.

    Raises:
        UserError: If there are none, there is no such number, or the recipe of a run is wrong.
    """
    if not sweep.cells:
        raise UserError(f"{sweep.source}: has no matrix; name values to try, such as seed=0,1,2.")
    if only is not None and only >= len(sweep.cells):
        raise UserError(f"--only {only}: there are {len(sweep.cells)} runs, 0 to {len(sweep.cells) - 1}.")
    for cell in sweep.cells:
        sweep.recipe(cell)
    return list(sweep.cells) if only is None else [sweep.cells[only]]


def run_all(sweep: Sweep, wanted: Sequence[Cell]) -> tuple[Folder, dict[str, int]]:
    """Do the wanted runs of a sweep; what one had done before is used again.

    Several processes may do one sweep: each takes the runs that no other has. Where several run at once on this
    machine, speed is measured afterwards, one run at a time.

    Returns:
        The sweep's folder, and the exit code of every run by name.

    Raises:
        UserError: If one of them would not work, before the first begins.
        KeyboardInterrupt, Evicted: After Ctrl-C, or SIGTERM or SIGUSR1, once every run has saved where it stands.
    """
    from limbeck.run import device_of

    if sweep.gpus and sweep.ray is None:
        try:
            device_of(f"cuda:{sweep.gpus - 1}")
        except UserError as error:
            raise UserError(f"--gpus {sweep.gpus}: {str(error).partition(': ')[2]}") from error
    recipes = {cell.name: sweep.recipe(cell) for cell in wanted}
    folder, codes = _opened(sweep, recipes)
    first, alone = sweep.workers, int(sweep.ray is None)
    apart = first > alone and any(recipe.bench for recipe in recipes.values())
    for verb, workers in (("evaluate", first), ("run", alone)) if apart else (("run", first),):
        todo = {cell.name: sweep.command(cell, verb) for cell in wanted if cell.name not in codes}
        until, state = ("report", "done") if verb == "run" else (verb, "waiting")
        found = do(_pool(sweep, folder, workers, state), todo, partial(_finished, recipes, until))
        codes |= {name: code for name, code in found.items() if code or verb == "run"}
    return folder, codes


def _finished(recipes: Mapping[str, Recipe], until: str, name: str) -> bool:
    from limbeck.run import finished

    return finished(recipes[name], until)


def _pool(sweep: Sweep, folder: Folder, workers: int, state: str) -> Pool | Cluster:
    """Where runs are done: here, or on the machines of a cluster."""
    if sweep.ray is not None:
        return Cluster(folder, sweep.ray, workers, 0 if sweep.device == "cpu" else sweep.gpus or None, state)
    return Pool(folder, slots(workers, sweep.gpus), state)


def _opened(sweep: Sweep, recipes: Mapping[str, Recipe]) -> tuple[Folder, dict[str, int]]:
    """The sweep's folder, and 0 for every run that is done already; the others have been checked."""
    from limbeck.run import finished
    from limbeck.stages.check import check

    before = [name for name, recipe in recipes.items() if finished(recipe)]
    for name, recipe in recipes.items():
        if name not in before:
            check(recipe, to_run=True)
    name = sweep.recipe().name
    folder = opened(place_of(name), name, sweep.source, sweep.overrides, sweep.cells)
    for done in before:
        folder.note(done, state="done", code=0)
    if before:
        show.say(f"sweep: {len(before)} of {len(recipes)} runs were done before")
    return folder, dict.fromkeys(before, 0)


def failures(folder: Folder, codes: Mapping[str, int]) -> list[str]:
    """For every run that failed its name, exit code, log and the log's last lines."""
    found = []
    for name in [name for name, code in codes.items() if code]:
        log, code = folder.log(name), codes[name]
        killed = f"killed by signal {-code}" + ", for lack of memory perhaps" * (code == -9)
        found.append(f"Failed: {name} ({killed if code < 0 else f'exit code {code}'}), {log}")
        found += [f"    {line}" for line in tail(log, LOG_LINES)]
    return found
