"""What a sweep's runs left behind, read from their folders: scores, counts of single images, times, curves."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.place import parse
from limbeck.recipe import read as read_recipe
from limbeck.record import UserError, digest, read_json
from limbeck.report import folder as folders
from limbeck.report.folder import Folder
from limbeck.report.rows import Row, identity, number, score_name
from limbeck.sweep.folder import place_of
from limbeck.sweep.grid import split_axes

__all__ = ["BASELINE", "STUDENT", "Network", "Run", "Sweep", "find", "is_sweep", "read"]

STUDENT, BASELINE = "student", "student-baseline"
Json = dict[str, Any]


@dataclass(frozen=True)
class Network:
    """A student of a run: distilled, or its baseline; scored in PyTorch in fp32.

    Attributes:
        run: Name of its run.
        row: Its row in the run's summary.
        score: In points.
        steps: Of its training; None where it was not trained.
        seconds: That its steps took, validations left out.
        checks: Its validations: ``step``, ``seconds`` and scores.
        report: The run.
    """

    run: str
    row: Row
    score: float
    steps: int | None
    seconds: float | None
    checks: list[Json]
    report: Folder = field(repr=False)

    @property
    def step_ms(self) -> float | None:
        """Milliseconds a step."""
        return 1000 * self.seconds / self.steps if self.seconds and self.steps else None

    @property
    def images(self) -> list[str]:
        """Names of the images it was scored on, in their order."""
        return [str(image["name"]) for image in self._evaluated.get("images") or []]

    @cached_property
    def counts(self) -> NDArray[np.int64] | None:
        """What each image adds to the score, as :func:`limbeck.sweep.statistics.draw` takes it; None if not kept."""
        path = self.report.evaluation / "counts.npz"
        if path.is_file():
            with np.load(path) as kept:
                if identity(self.row) in kept:
                    return np.asarray(kept[identity(self.row)], np.int64)
        hits = [image.get("accuracy") for image in self._evaluated.get("images") or []]
        if not hits or all(hit is None for hit in hits):
            return None
        found = [[(hit or 0) // 100, 0, 0 if hit is None else 1 - hit // 100] for hit in hits]
        return np.array(found, np.int64)[:, None]

    @property
    def _evaluated(self) -> Json:
        return self.report.evaluated.get(identity(self.row), {})


@dataclass(frozen=True)
class Run:
    """A cell of a sweep, done or not.

    Attributes:
        name: Of the run.
        axes: What it is called on each axis.
        overrides: What it changes in the sweep's recipe.
        state: ``done``, ``failed``, ``waiting``, ...
        code: Exit code of a failed one.
        recipe: Resolved; empty if it cannot be read any more.
        report: Its folder; None unless it is done.
        networks: Its students by role; empty unless it is done.
        stages: Seconds of every recorded stage, by name and by a digest that copies of it share.
    """

    name: str
    axes: Mapping[str, Any]
    overrides: tuple[str, ...]
    state: str
    code: int | None
    recipe: Json
    report: Folder | None
    networks: dict[str, Network]
    stages: dict[tuple[str, str], float]

    @property
    def seed(self) -> Any:
        """Its seed."""
        return self.axes.get("seed", self.recipe.get("seed", 0))


@dataclass(frozen=True)
class Sweep:
    """A sweep's folder, its name, its runs in their order and the score that counts."""

    folder: Path
    name: str
    runs: list[Run]
    score: str


def is_sweep(folder: Path) -> bool:
    """Whether a folder is that of a sweep."""
    return (folder / "sweep.json").is_file()


def find(source: str, overrides: Sequence[str]) -> Path | None:
    """The folder of a sweep: ``source`` itself, its name among the runs, or what `limbeck sweep` makes of a recipe.

    Returns:
        None where the recipe stands for a single run.

    Raises:
        UserError: If a folder is to be changed, the recipe is wrong, or its sweep has not begun.
    """
    from limbeck.stages.context import runs_root

    given = next((path for path in (Path(source), runs_root() / source) if is_sweep(path)), None)
    if given and overrides:
        raise UserError(f"{source}: is a sweep, which takes no changes; found {overrides[0]!r}.")
    if given:
        return given
    plain, axes = split_axes(overrides)
    recipe = read_recipe(source, plain)
    if not recipe.matrix and not axes:
        return None
    folder = place_of(recipe.name)
    if not is_sweep(folder):
        raise UserError(f"{folder}: no such sweep; `limbeck sweep {' '.join([source, *overrides])}` makes one.")
    return folder


def read(folder: Path) -> Sweep:
    """Read a sweep's folder and its runs.

    Raises:
        UserError: If it is no sweep's folder, or one of its files is not JSON or of something else.
    """
    found = read_json(folder / "sweep.json")
    if not isinstance(found, dict) or not isinstance(found.get("cells"), list):
        raise UserError(f"{folder / 'sweep.json'}: not the state of a sweep; it has no list of cells.")
    overrides = [str(change) for change in found.get("overrides") or []]
    reports = {cell["name"]: _report(folder, cell) for cell in found["cells"]}
    score = score_name([row for report in reports.values() if report for row in report.rows])
    runs = [_run(cell, str(found.get("source")), overrides, reports[cell["name"]], score) for cell in found["cells"]]
    return Sweep(folder, str(found.get("name") or folder.name), runs, score)


def _report(folder: Path, cell: Json) -> Folder | None:
    path = (folder / str(cell["folder"])).resolve()
    return folders.read(path) if cell.get("state") == "done" and (path / "summary.json").is_file() else None


def _run(cell: Json, source: str, common: list[str], report: Folder | None, score: str) -> Run:
    own = {} if report is None else {role: _network(cell["name"], report, role, score) for role in (STUDENT, BASELINE)}
    networks = {role: network for role, network in own.items() if network is not None}
    recipe = parse(report.recipe, "recipe.yaml")[0] if report and report.recipe else _resolved(cell, source, common)
    state = "unscored" if cell["state"] == "done" and STUDENT not in networks else str(cell["state"])
    stages = _stages(report.path) if report else {}
    axes, overrides = cell.get("axes") or {}, tuple(cell.get("overrides") or ())
    return Run(cell["name"], axes, overrides, state, cell.get("code"), recipe, report, networks, stages)


def _resolved(cell: Json, source: str, overrides: list[str]) -> Json:
    """The recipe of a run that has none in its folder; empty where the source is gone."""
    try:
        return read_recipe(source, [*overrides, *cell["overrides"]]).resolved()
    except UserError:
        return {}


def _network(run: str, report: Folder, role: str, score: str) -> Network | None:
    row = next((row for row in report.rows if identity(row) == f"{role}.fp32.eager"), {})
    points = number(row, score)
    if points is None:
        return None
    record = report.path / role / "record.json"
    trained: Json = (read_json(record).get("result") or {}) if record.is_file() else {}
    steps, seconds = number(trained, "steps"), number(trained, "seconds")
    checks = [line for line in report.checks if line.get("stage") == role]
    return Network(run, row, points, None if steps is None else int(steps), seconds, checks, report)


def _stages(folder: Path) -> dict[tuple[str, str], float]:
    found: dict[tuple[str, str], float] = {}
    for path in sorted(folder.glob("*/record.json")):
        record = read_json(path)
        seconds = number(record, "seconds") if isinstance(record, dict) else None
        if seconds is not None:
            made = [record.get("fingerprint"), seconds, json.dumps(record.get("environment"), sort_keys=True)]
            found[str(record.get("stage") or path.parent.name), digest(made)] = seconds
    return found
