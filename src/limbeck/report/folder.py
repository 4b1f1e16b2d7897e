"""What a run folder holds for the page; whatever is missing is empty, never an error."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from limbeck.record import read_json
from limbeck.report.rows import Row, identity

__all__ = ["Folder", "inside", "read"]

Json = dict[str, Any]


@dataclass(frozen=True)
class Folder:
    """A run as its files tell it.

    ``steps`` are the training lines of metrics.jsonl, ``checks`` its validation lines, ``pulls`` those that compare
    gradients, ``unread`` the number of lines that are no JSON; ``terms`` is what the student's training compared,
    ``taught`` what that of a teacher did, by stage;
    ``evaluated`` maps a row's id to what the evaluation knows of it; ``frequency`` is the share of pixels (images,
    where each has one class: not ``dense``) of each class in points, or empty; ``evaluation`` is the folder of the
    evaluation; ``compared`` are samples that every run on these data has.
    """

    path: Path
    name: str
    environment: Json
    rows: list[Row]
    recipe: str
    steps: list[Json]
    checks: list[Json]
    unread: int
    classes: list[str]
    palette: list[tuple[int, int, int]]
    frequency: list[float]
    evaluated: dict[str, Json]
    samples: list[Json]
    evaluation: Path
    parity: list[Json]
    dense: bool = True
    compared: list[Json] = field(default_factory=list)
    pulls: list[Json] = field(default_factory=list)
    terms: list[Json] = field(default_factory=list)
    taught: dict[str, list[Json]] = field(default_factory=dict)

    @property
    def counted(self) -> str:
        """What scores and agreement count."""
        return "pixels" if self.dense else "images"


def read(path: Path) -> Folder:
    """Read the run folder ``path``.

    Raises:
        limbeck.record.UserError: If the folder does not exist, or one of its JSON files is not JSON.
    """
    summary = _mapping(path / "summary.json")
    rows = _mappings(summary.get("rows"))
    evaluation = path / _evaluation(rows)
    scores = _result(evaluation / "record.json")
    scored = _mappings(scores.get("rows"))
    environment = _mapping(path / "environment.json") or summary.get("environment") or {}
    lines, unread = _lines(path / "metrics.jsonl")
    recipe = path / "recipe.yaml"
    return Folder(
        path=path,
        name=str(summary.get("name") or path.resolve().name),
        environment=environment,
        rows=rows,
        recipe=recipe.read_text(encoding="utf-8") if recipe.is_file() else "",
        steps=[line for line in lines if "loss" in line],
        checks=[line for line in lines if "best" in line],
        unread=unread,
        classes=[str(name) for name in scores.get("classes") or []],
        palette=[_colour(colour) for colour in scores.get("palette") or []],
        frequency=next((_frequency(row) for row in scored if row.get("frequency")), []),
        evaluated={identity(row): row for row in scored},
        samples=_mappings(scores.get("samples")),
        evaluation=evaluation,
        parity=_mappings(_result(path / "export" / "record.json").get("parity")),
        dense=bool(scores.get("dense", True)),
        compared=_mappings(scores.get("compared")),
        pulls=[line for line in lines if isinstance(line.get("gradients"), dict)],
        terms=_mappings(_result(path / "student" / "record.json").get("terms")),
        taught={file.parent.name: _mappings(_result(file).get("terms")) for file in path.glob("teacher*/record.json")},
    )


def inside(folder: Path, name: object) -> Path | None:
    """The file ``name`` below ``folder``; None when it is missing or lies elsewhere."""
    if not isinstance(name, str):
        return None
    path = (folder / name).resolve()
    return path if path.is_file() and path.is_relative_to(folder.resolve()) else None


def _evaluation(rows: list[Row]) -> str:
    """Folder of the split that the rows were scored on."""
    split = next((str(row["split"]) for row in rows if row.get("split")), "validation")
    return "evaluate" if split == "validation" else f"evaluate-{split}"


def _frequency(row: Row) -> list[float]:
    return [float(share or 0.0) for share in row["frequency"]]


def _mapping(path: Path) -> Json:
    value = read_json(path) if path.is_file() else {}
    return value if isinstance(value, dict) else {}


def _result(path: Path) -> Json:
    result = _mapping(path).get("result")
    return result if isinstance(result, dict) else {}


def _mappings(value: object) -> list[Json]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _colour(value: list[int]) -> tuple[int, int, int]:
    red, green, blue = (int(part) for part in value[:3])
    return red, green, blue


def _lines(path: Path) -> tuple[list[Json], int]:
    """The lines of a JSON-lines file and how many could not be read: a killed run leaves half a line."""
    kept: list[Json] = []
    unread = 0
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else ():
        try:
            kept.extend(_mappings([json.loads(line)]))
        except json.JSONDecodeError:
            unread += bool(line.strip())
    return kept, unread
