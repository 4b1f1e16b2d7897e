"""What meets what: the table of a distillation's terms, with their places, sizes, projectors and weights."""

from collections.abc import Sequence
from typing import Any

from limbeck import show
from limbeck.data.transforms import input_size
from limbeck.recipe import Ramp
from limbeck.recipe.lesson import TEACHER
from limbeck.stages.context import Context
from limbeck.train.terms import Match, Term

__all__ = ["in_words", "matched", "never", "say_matched", "table"]

HEAD = ("term", "student", "stride", "teacher", "stride", "trained beside", "weight", "schedule")
NOTHING = "-"


def matched(context: Context, terms: Sequence[Term]) -> list[dict[str, Any]]:
    """A row for every pair of places: term, student's and teachers' place, shape [c, h, w] or [c], stride, and more.

    The stride is the input's size by the map's, [h, w]; None for vectors. ``params_beside`` counts what is trained
    beside the student, at the term's first pair: projectors and what a loss brings along.
    """
    return [_row(context, term, match) for term in terms for match in term.matches]


def _row(context: Context, term: Term, match: Match) -> dict[str, Any]:
    return {
        "term": term.name,
        "student": _side(match.student, match.student_shape, _input(context, "student")),
        "teachers": [_side(at, shape, _input(context, _role(at))) for at, shape in match.sources.items()],
        "params_beside": sum(parameter.numel() for parameter in term.parameters()) if match is term.match else 0,
        "weight": term.weight,
        "schedule": in_words(term.ramp),
    }


def _role(at: str) -> str:
    """The teacher that a place is in: of ``big:layer4`` it is ``teacher-big``."""
    name = at.rpartition(":")[0]
    return f"{TEACHER}-{name}" if name else TEACHER


def _input(context: Context, role: str) -> tuple[int, int]:
    return input_size(context.size(role), context.recipe.data.resize)


def _side(at: str, shape: Sequence[int], size: tuple[int, int]) -> dict[str, Any]:
    stride = [round(whole / part, 2) for whole, part in zip(size, shape[2:], strict=True)] if len(shape) == 4 else None
    return {"at": at, "shape": list(shape[1:]), "stride": stride}


def in_words(ramp: Ramp) -> str:
    """How a weight moves over the training; empty where it does not."""
    at = _share if ramp.unit == "share" else _step
    parts = [f"starts at {at(ramp.start)}"] if ramp.start else []
    rise = _share(ramp.warmup) if ramp.unit == "share" else f"{ramp.warmup:,.15g} steps"
    parts += [f"rises over {rise}"] if ramp.warmup else []
    parts += [f"falls from {at(ramp.decay[0])} to {at(ramp.decay[1])}"] if ramp.decay else []
    parts += [f"stops at {at(ramp.stop)}"] if ramp.stop is not None else []
    return ", ".join(parts)


def _share(value: float) -> str:
    return f"{100 * value:g} %"


def _step(value: float) -> str:
    return f"step {value:,.15g}"


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The rows as aligned lines of text under a head; none without rows."""
    return show.aligned([HEAD, *(_cells(row) for row in rows)]) if rows else []


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    beside = f"{row['params_beside']:,}" if row["params_beside"] else NOTHING
    return (
        row["term"], _place("student", row["student"]), _stride(row["student"]),
        " + ".join(_place("teacher", side) for side in row["teachers"]),
        " + ".join(dict.fromkeys(_stride(side) for side in row["teachers"])),
        beside, f"{row['weight']:g}", row["schedule"] or NOTHING,
    )  # fmt: skip


def _place(owner: str, side: dict[str, Any]) -> str:
    at = side["at"] if ":" in side["at"] else f"{owner}.{side['at']}"
    return f"{at} {'x'.join(map(str, side['shape']))}"


def _stride(side: dict[str, Any]) -> str:
    return NOTHING if side["stride"] is None else "x".join(dict.fromkeys(f"{part:g}" for part in side["stride"]))


def never(terms: Sequence[Term], steps: int) -> list[str]:
    """A line for each term that has no weight in any of so many steps."""
    return [
        f"{term.where}: {term.name} never has a weight: it {in_words(term.ramp)}, and there are {steps:,} steps"
        for term in terms
        if not any(term.strength((step + 0.5) / steps, steps) for step in range(steps))
    ]


def say_matched(context: Context, terms: Sequence[Term], steps: int) -> list[dict[str, Any]]:
    """Print the table before a training of so many steps begins; returns its rows, for the stage's record."""
    rows = matched(context, terms)
    for line in (*table(rows), *never(terms, steps)):
        show.say(line)
    return rows
