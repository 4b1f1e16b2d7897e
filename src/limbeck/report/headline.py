"""The top of the page: what was run, which file to ship, and three or four numbers that carry the decision."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from limbeck.report.folder import Folder
from limbeck.report.markup import Markup, join, raw, tag
from limbeck.report.rows import Row, file_name, latency, number, points, role, runtime_name, short, text, words
from limbeck.report.verdict import Verdict, ratio, times

__all__ = ["header", "named", "numbers", "verdict_card"]

STILL = raw(
    '<svg class="still" viewBox="0 0 32 32" aria-hidden="true"><path d="M10 3h6v7.2a8.6 8.6 0 1 1-6 0z"/>'
    '<path d="M16 4.5c7 0 10.5 4.5 13 13"/><path d="M5.2 20.5h15.6"/></svg>'
)


def header(folder: Folder) -> Markup:
    """The run's name, and when and where it ran."""
    return named(folder.name, folder.environment)


def named(name: str, environment: dict[str, Any]) -> Markup:
    """A name, and when and where it came to be."""
    known = (environment.get(key) for key in ("date", "cpu", "device", "commit"))
    date, cpu, device, commit = (str(value) if value else "" for value in known)
    facts = [date[:10], device if device not in ("", "cpu") else cpu, f"commit {commit[:10]}" if commit else ""]
    line = join(*(fact for fact in facts if fact), between=" · ")
    brand = tag("p", STILL, "Limbeck report", class_="brand")
    return tag("header", brand, tag("p", tag("strong", name), *([" · ", line] if line else []), class_="facts"))


def verdict_card(judged: Verdict) -> Markup:
    """The decision, its reason and what to keep in mind."""
    if judged.pick is None:
        title: str = judged.headline
    else:
        name = tag("code", file_name(judged.pick) or words(judged.pick))
        title = join("Ship ", name, " with ", runtime_name(judged.pick))
    parts = [tag("p", "Verdict", class_="eyebrow"), tag("h1", title), tag("p", judged.reason, class_="lead")]
    if judged.caveats:
        parts.append(tag("ul", *(tag("li", sentence) for sentence in judged.caveats), class_="caveats"))
    return tag("section", *parts, class_="verdict", id="verdict")


@dataclass(frozen=True)
class _Measure:
    """One big number: its name, how it is read and written, and what the chosen file's is beside another's."""

    title: str
    unit: str
    read: Callable[[Row], float | None]
    write: Callable[[float | None], str]
    compare: Callable[[float, float], str]


def _measures(score: str) -> list[_Measure]:
    def speed(own: float, other: float) -> str:
        return ratio(times(own, other), "faster", "slower", "equally fast")

    def size(own: float, other: float) -> str:
        return ratio(times(own, other), "smaller", "larger", "equally large")

    def own_score(row: Row) -> float | None:
        # Agreement is with the FP32 student: another network's says nothing of its quality.
        return None if score == "agreement" and row.get("model") != "student" else number(row, score)

    def difference(own: float, other: float) -> str:
        return "" if score == "agreement" else f"{'+' if own >= other else ''}{text(own - other)}"

    answer = "class" if score == "accuracy" else "mask"
    names = {"miou": "mIoU", "accuracy": "Accuracy", "agreement": "Agreement with FP32"}
    return [
        _Measure(names[score], "points", own_score, points, difference),
        _Measure("Latency", "ms", latency, short, speed),
        _Measure("File", "MB", lambda row: number(row, "file_mb"), short, size),
        _Measure(f"Image to {answer}", "ms", lambda row: number(row, "end_to_end_ms"), short, speed),
    ]


def numbers(judged: Verdict) -> Markup:
    """Up to four big numbers of the chosen file, each beside the FP32 student and the teacher; empty without a pick."""
    pick = judged.pick
    shown = [measure for measure in _measures(judged.score) if pick is not None and measure.read(pick) is not None]
    return tag("section", *(_tile(measure, judged) for measure in shown), class_="tiles") if shown else raw("")


def _tile(measure: _Measure, judged: Verdict) -> Markup:
    others = [("FP32 student", judged.student), ("FP32 teacher", judged.teacher)]
    named = [("This file", judged.pick), *((name, row) for name, row in others if row is not judged.pick)]
    bars = [(name, role(row), value) for name, row in named if row and (value := measure.read(row)) is not None]
    own, longest = bars[0][2], max(value for _, _, value in bars) or 1.0
    big = tag("p", tag("b", measure.write(own)), " ", measure.unit, class_="big")
    drawn = [_bar(name, colour, value, measure, own, longest) for name, colour, value in bars]
    return tag("div", tag("h3", measure.title), big, tag("dl", *drawn), class_="tile")


def _bar(name: str, colour: str, value: float, measure: _Measure, own: float, longest: float) -> Markup:
    said = "" if name == "This file" else measure.compare(own, value)
    line = tag("i", class_=colour, style=f"width:{100 * value / longest:.1f}%")
    return tag("div", tag("dt", name), tag("dd", measure.write(value)), tag("span", line), tag("small", said))
