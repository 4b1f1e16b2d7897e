"""Run the cells of a sweep one after another, each in a process of its own, so that one that fails stops no other."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from limbeck import show
from limbeck.recipe import read
from limbeck.record import UserError
from limbeck.sweep.grid import Cell

__all__ = ["chosen", "run_all"]


def chosen(source: str, overrides: Sequence[str], cells: Sequence[Cell], only: int | None) -> list[Cell]:
    """All runs of a sweep, or the one of this number; the recipe of every run is read.

    Raises:
        UserError: If there are none, there is no such number, or the recipe of a run is wrong.
    """
    if not cells:
        raise UserError(f"{source}: has no matrix; name values to try, such as seed=0,1,2.")
    if only is not None and only >= len(cells):
        raise UserError(f"--only {only}: there are {len(cells)} runs, 0 to {len(cells) - 1}.")
    for cell in cells:
        read(source, [*overrides, *cell.overrides])
    return list(cells) if only is None else [cells[only]]


def run_all(source: str, overrides: Sequence[str], cells: Sequence[Cell], device: str) -> dict[str, int]:
    """Exit code of ``limbeck run`` for every cell, by name; what a cell had done before is used again.

    A stop by the user (exit code 130) ends the sweep: the cells after it are not in the result.

    Raises:
        UserError: If one of them would not work, before the first begins.
    """
    from limbeck.stages.check import check

    for cell in cells:
        check(read(source, [*overrides, *cell.overrides]))
    codes: dict[str, int] = {}
    source = str(Path(source).resolve()) if Path(source).exists() else source
    for number, cell in enumerate(cells):
        show.say(f"sweep: run {number + 1} of {len(cells)}, {cell.name}")
        command = [sys.executable, "-m", "limbeck.cli", "run", source, *overrides, *cell.overrides]
        codes[cell.name] = subprocess.run([*command, "--device", device], check=False).returncode
        if codes[cell.name] in (130, -2):
            break
    return codes
