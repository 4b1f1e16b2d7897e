"""What a sweep's numbers do not say by themselves, in words."""

from collections.abc import Iterator
from typing import Any

from limbeck.report.rows import POINTS, SCORES, short

__all__ = ["notes"]

Json = dict[str, Any]


def notes(table: Json) -> list[str]:
    """Sentences for below the table."""
    return [*_result(table), *_missing(table), *_reading(table)]


def _result(table: Json) -> Iterator[str]:
    leader, compared = table["leader"], [row for row in table["rows"] if row["gain"]]
    if not compared:
        yield "No run without distillation to compare with: add one (distil=[] on an axis), or baseline: true."
    elif leader is None:
        return
    elif leader["resolved"]:
        told = f"{leader['method']} scores best, and its gain over the control is resolved."
        yield told + (f" It is not told apart from {_list(leader['level_with'])}." if leader["level_with"] else "")
    elif not any(row["gain"]["resolved"] and row["gain"]["value"] > 0 for row in compared):
        yield "No gain over the control is resolved: other images or other seeds could turn its sign."
    elif leader["method"] in [row["method"] for row in compared]:
        yield f"{leader['method']} has the highest mean, but its gain over the control is not resolved."
    else:
        yield f"{leader['method']} has the highest mean, and learns from labels alone."
    if lost := [row["method"] for row in compared if row["gain"]["resolved"] and row["gain"]["value"] < 0]:
        yield f"Worse than the control, and resolved: {_list(lost)}."
    if len(compared) > 1:
        chance = f"{0.05 * len(compared):.2g}"
        yield f"Of {len(compared)} comparisons without a true difference, up to {chance} would look resolved by chance."


def _missing(table: Json) -> Iterator[str]:
    states: dict[str, list[str]] = {}
    for run in table["missing"]:
        code = f", exit code {run['code']}" if run["state"] == "failed" and run["code"] is not None else ""
        states.setdefault(f"{run['state']}{code}", []).append(run["name"])
    for state, names in states.items():
        yield f"Not in the table ({state}): {', '.join(names)}."
    counts = sorted({len(row["seeds"]) for row in table["rows"]})
    if len(counts) > 1:
        yield f"Methods have between {counts[0]} and {counts[-1]} seeds; gains compare the seeds that both have."
    if counts and counts[-1] == 1:
        yield "One seed a method: what another seed would give is not known, and nothing counts as resolved."


def _reading(table: Json) -> Iterator[str]:
    yield f"Mean and standard deviation (n - 1) over seeds, of the student in fp32 in PyTorch; {_scored(table)}."
    if any(row["gain"] for row in table["rows"]):
        drawn = "images" if table["block"] == 1 else f"blocks of {table['block']} consecutive images"
        yield (
            f"Gains are paired by seed at equal steps, in {POINTS[table['score']]}, with intervals of 95 %: a "
            f"bootstrap over {drawn} ({table['draws']:,} draws, the same for both), with Student's t over the seeds. "
            "Resolved: the interval excludes 0."
        )
    if any(row["equal_time"] for row in table["rows"]):
        yield "Gain in equal time: against controls that trained for as long as the method, schedule and all."
    if any(row["at_control_end"] and not row["equal_time"] for row in table["rows"]):
        yield (
            "At control's end: best validation score so far at the moment when the control's training ended, against "
            "the control's. A slower method is cut off in mid-schedule there; --equal-time trains longer controls "
            "instead."
        )
    if table["split"] == "validation":
        yield "The same images chose the best checkpoints: scores are optimistic, for all methods alike."
    if any(row["device_hours"] for row in table["rows"]):
        hours = table["shared_hours"]
        shared = f"; stages that several runs share, such as the teacher, took {short(hours)} h, once" if hours else ""
        yield f"Device-hours add up all stages of a method's runs{shared}."


def _scored(table: Json) -> str:
    on = f"{table['images']} {table['split'] or ''} images".replace("  ", " ") if table["images"] else "unknown images"
    return f"{SCORES[table['score']]} in points on {on}"


def _list(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
