"""Stages that several runs of a sweep have in common: the first run that comes to one makes it, the others take it.

``limbeck sweep`` names the folder in ``LIMBECK_SHARED``. A stage that is made is ``<name>-<fingerprint>/`` there: its
files, linked where the file system can, and ``metrics.jsonl`` with its lines of the log. ``<name>-<fingerprint>.json``
says which run makes it, so that another can go on from its checkpoints if it is killed.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from limbeck import show
from limbeck.record import locked, read_json, write_json, write_text
from limbeck.stages.plan import Stage

__all__ = ["SHARED", "give", "held", "take"]

SHARED = "LIMBECK_SHARED"
"""Environment variable with the folder of shared stages."""

OWN = ("export", "evaluate", "bench")
"""Stages that every run does itself: they are quick, or about the machine."""


@contextmanager
def held(stage: Stage) -> Iterator[Path | None]:
    """Where a stage is shared, locked for the block; None where it is not."""
    folder = os.environ.get(SHARED)
    if not folder or stage.name in OWN or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        yield None
        return
    entry = Path(folder) / f"{stage.name}-{stage.fingerprint}"
    with locked(
        entry.with_name(f"{entry.name}.lock"), lambda: show.say(f"{stage.name}: another run makes it; waiting")
    ):
        yield entry


def take(entry: Path, stage: Stage) -> str | None:
    """Put what another run made into the stage's folder, and say which run did; None if this one has to.

    What a killed run left of the stage is taken over, checkpoints and all.
    """
    run = stage.folder.parent
    made_by = read_json(_maker(entry))["run"] if _maker(entry).is_file() else run.name
    theirs = run.parent / made_by / stage.folder.name
    if not entry.is_dir() and theirs != stage.folder and _fingerprint(theirs / "record.json") == stage.fingerprint:
        _publish(entry, stage.name, theirs)
    if entry.is_dir():
        _add_lines(run, stage.name, _lines(entry / "metrics.jsonl", stage.name))
        _linked(entry / "stage", stage.folder)
        write_json(stage.folder / "record.json", read_json(stage.folder / "record.json") | {"shared_from": made_by})
        return str(made_by)
    if _fingerprint(theirs / "started.json") == stage.fingerprint and _steps(theirs) > _steps(stage.folder):
        _add_lines(run, stage.name, _lines(theirs.parent / "metrics.jsonl", stage.name))
        shutil.rmtree(stage.folder, ignore_errors=True)
        shutil.move(theirs, stage.folder)
        show.say(f"{stage.name}: goes on where {made_by} was killed")
    write_json(_maker(entry), {"run": run.name})
    return None


def give(entry: Path, stage: Stage) -> None:
    """Let other runs have a stage that is done."""
    if not entry.is_dir():
        write_json(_maker(entry), {"run": stage.folder.parent.name})
        _publish(entry, stage.name, stage.folder)


def _maker(entry: Path) -> Path:
    return entry.with_name(f"{entry.name}.json")


def _publish(entry: Path, name: str, folder: Path) -> None:
    part = entry.with_name(f".{entry.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    _linked(folder, part / "stage")
    lines = _lines(folder.parent / "metrics.jsonl", name)
    write_text(part / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    part.rename(entry)


def _linked(source: Path, folder: Path) -> None:
    """The files of a stage in another folder, in place of what it held; files are never changed in place."""
    beside = folder.with_name(f".{folder.name}.part")
    for old in (beside, folder):
        shutil.rmtree(old, ignore_errors=True)
    shutil.copytree(
        source, beside, copy_function=_link_or_copy, ignore=shutil.ignore_patterns("checkpoints", ".*.part*")
    )
    beside.rename(folder)


def _link_or_copy(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # another disk, or a file system without links
        shutil.copy2(source, target)
    return target


def _fingerprint(file: Path) -> Any:
    return read_json(file)["fingerprint"] if file.is_file() else None


def _steps(folder: Path) -> int:
    """Steps of a stage that are saved."""
    return sum(int(path.stem.rpartition("-")[2]) for path in folder.rglob("step-*.pt"))


def _lines(log: Path, name: str) -> list[dict[str, Any]]:
    """A stage's lines of a log."""
    return [line for line in _all_lines(log) if _is_of(line, name)]


def _is_of(line: dict[str, Any], name: str) -> bool:
    """Whether a line belongs to a stage; QAT is logged by its own names."""
    stage = str(line["stage"])
    return stage == "qat" or stage.startswith("qat-") if name == "quantize" else stage == name


def _all_lines(log: Path) -> list[dict[str, Any]]:
    found = []
    for text in log.read_text(encoding="utf-8").splitlines() if log.is_file() else ():
        try:
            found.append(json.loads(text))
        except json.JSONDecodeError:  # a last line that a killed process left unfinished
            continue
    return found


def _add_lines(run: Path, name: str, lines: list[dict[str, Any]]) -> None:
    """A stage's lines at the end of a run's log, in place of what the log has of the stage."""
    log = run / "metrics.jsonl"
    kept = [line for line in _all_lines(log) if not _is_of(line, name)]
    write_text(log, "".join(json.dumps(line) + "\n" for line in [*kept, *lines]))
