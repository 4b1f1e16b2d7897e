"""A sweep's folder: which runs it has and how far each is, for several processes at once.

``runs/<name>-sweep/sweep.json`` is ``{"name", "source", "overrides", "cells": [...]}``; a cell is ``{"name",
"overrides", "axes": {"distil": "kd", "seed": 0}, "state", "code", "seconds", "folder", "log"}``. ``state`` is
``waiting``, ``running``, ``done``, ``failed`` or ``stopped``; ``code`` the exit code of its last process and
``seconds`` how long its processes took in all, both null before it began; ``folder`` and ``log`` are relative to the
sweep's folder. Beside it: ``logs/<run>.log``, ``locks/`` and ``shared/``, the stages that runs have in common.
"""

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from limbeck.record import UserError, locked, read_json, write_json
from limbeck.sweep.grid import Cell

__all__ = ["Folder", "opened", "place_of"]

Entry = dict[str, Any]


@dataclass(frozen=True)
class Folder:
    """A sweep's folder; what changes in sweep.json is read and written under a lock."""

    path: Path

    @property
    def shared(self) -> Path:
        """Where stages are that several runs have in common."""
        return self.path / "shared"

    def log(self, name: str) -> Path:
        """What a run printed."""
        return self.path / "logs" / f"{name}.log"

    def entry(self, name: str) -> Entry:
        """How far a run is."""
        found: Entry = next(cell for cell in read_json(self.path / "sweep.json")["cells"] if cell["name"] == name)
        return found

    def note(self, name: str, **changes: Any) -> None:
        """Write down how far a run is."""
        with locked(self.path / "locks" / "sweep.json"):
            whole = read_json(self.path / "sweep.json")
            for cell in whole["cells"]:
                if cell["name"] == name:
                    cell.update(changes)
            write_json(self.path / "sweep.json", whole)

    def add(self, cell: Cell) -> None:
        """Write down a run that was not known at first."""
        with locked(self.path / "locks" / "sweep.json"):
            whole = read_json(self.path / "sweep.json")
            whole["cells"].append(_entry(cell))
            write_json(self.path / "sweep.json", whole)

    def claim(self, name: str) -> IO[str] | None:
        """A run's lock, held for as long as the file is open in this process or one it was handed to; None if taken."""
        path = self.path / "locks" / f"{name}.run"
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("a")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.close()
            return None
        return stream

    @staticmethod
    def let_go(claim: IO[str]) -> None:
        """Unlock a run, whoever else has the file open."""
        fcntl.flock(claim, fcntl.LOCK_UN)
        claim.close()

    @contextmanager
    def claimed(self, name: str) -> Iterator[IO[str] | None]:
        """A run's lock for the block."""
        stream = self.claim(name)
        try:
            yield stream
        finally:
            if stream is not None:
                self.let_go(stream)


def place_of(name: str) -> Path:
    """The folder of the sweep of a recipe of this name."""
    from limbeck.stages.context import runs_root

    return runs_root() / f"{name}-sweep"


def opened(path: Path, name: str, source: str, overrides: Sequence[str], cells: Sequence[Cell]) -> Folder:
    """The folder of a sweep of these runs, with what it knows of those that are as they were.

    Raises:
        UserError: If a run is being done at this moment, and this sweep does not have it or has it with other values.
    """
    folder = Folder(path)
    with locked(path / "locks" / "sweep.json"):
        file = path / "sweep.json"
        before = {cell["name"]: cell for cell in read_json(file)["cells"]} if file.is_file() else {}
        new = [_entry(cell) for cell in cells]
        kept = [_taken_up(folder, before.get(entry["name"]), entry) for entry in new]
        _refuse_lost(folder, before, new)
        write_json(file, {"name": name, "source": source, "overrides": list(overrides), "cells": kept})
    return folder


def _entry(cell: Cell) -> Entry:
    return {
        "name": cell.name, "overrides": list(cell.overrides), "axes": dict(cell.axes), "state": "waiting",
        "code": None, "seconds": None, "folder": f"../{cell.name}", "log": f"logs/{cell.name}.log",
    }  # fmt: skip


def _taken_up(folder: Folder, before: Entry | None, entry: Entry) -> Entry:
    """What was known of a run that is as it was; one that claims to run while nobody does it was killed."""
    if before is None or before["overrides"] != entry["overrides"]:
        return entry
    known = {key: before[key] for key in ("state", "code", "seconds")}
    if known["state"] == "running":
        with folder.claimed(entry["name"]) as free:
            known["state"] = "stopped" if free else "running"
    return entry | known


def _refuse_lost(folder: Folder, before: dict[str, Entry], new: Sequence[Entry]) -> None:
    same = {entry["name"] for entry in new if before.get(entry["name"], entry)["overrides"] == entry["overrides"]}
    for name, cell in before.items():
        if cell["state"] == "running" and name not in same:
            with folder.claimed(name) as free:
                if not free:
                    raise UserError(
                        f"{folder.path}: {name} is being done by another process, as part of another sweep of this "
                        "name. Wait for it, or give this one a name of its own with name=..."
                    )
