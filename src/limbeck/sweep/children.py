"""Run the cells of a sweep one after another, each in a process of its own, so that one that fails stops no other."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from limbeck import show
from limbeck.sweep.grid import Cell

__all__ = ["run_all"]


def run_all(source: str, overrides: Sequence[str], cells: Sequence[Cell], device: str) -> dict[str, int]:
    """Exit code of ``limbeck run`` for every cell, by name; what a cell had done before is used again.

    A stop by the user (exit code 130) ends the sweep: the cells after it are not in the result.
    """
    codes: dict[str, int] = {}
    source = str(Path(source).resolve()) if Path(source).exists() else source
    for number, cell in enumerate(cells):
        show.say(f"sweep: run {number + 1} of {len(cells)}, {cell.name}")
        command = [sys.executable, "-m", "limbeck.cli", "run", source, *overrides, *cell.overrides]
        codes[cell.name] = subprocess.run([*command, "--device", device], check=False).returncode
        if codes[cell.name] in (130, -2):
            break
    return codes
