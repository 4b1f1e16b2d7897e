"""How training went: loss over the learning rate, and the validation score, one figure a stage."""

import re
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from limbeck.report.plots import COLOURS, GRID, PAPER, blank, shorten, tidy
from limbeck.report.rows import SCORES, number

__all__ = ["paint", "score_range", "slug", "stages", "title"]

Line = dict[str, Any]
Values = NDArray[np.float64]

STAGES = {
    "teacher": ("Teacher", "teacher"),
    "student-baseline": ("Student, plain", "plain"),
    "student-longer": ("Student, longer", "sun"),
    "student": ("Student", "student"),
    "qat": ("Quantization-aware", "int8"),
}
PART_STYLES = ((0, (1, 1.5)), (0, (4, 2)), (0, (6, 2, 1, 2)))
SMOOTH, DETAIL = 60, 400  # points of a curve, and of the pale one behind it that shows its noise


def stages(steps: list[Line], checks: list[Line]) -> list[str]:
    """The stages that left lines, in the order in which they run."""
    found = {str(line.get("stage")) for line in (*steps, *checks)}
    teachers = [name for name in dict.fromkeys(str(line.get("stage")) for line in (*steps, *checks)) if _named(name)]
    return teachers + [name for name in STAGES if name in found] + sorted(found - set(STAGES) - set(teachers))


def _named(stage: str) -> bool:
    """Whether a stage is the training of one of several teachers."""
    return stage.startswith("teacher-")


def title(stage: str) -> str:
    """The stage in words."""
    if stage.startswith("qat-"):
        return f"QAT, {stage.removeprefix('qat-')}"
    if _named(stage):
        return f"Teacher {stage.removeprefix('teacher-')}"
    return STAGES[stage][0] if stage in STAGES else stage


def slug(stage: str) -> str:
    """The stage as part of a file name."""
    return re.sub(r"[^a-z0-9]+", "-", stage.lower()).strip("-") or "stage"


def score_range(checks: list[Line], score: str) -> tuple[float, float] | None:
    """One range of scores for all stages, so that curves compare; the first climb is cut off. None without scores."""
    values = [value for line in checks if (value := number(line, score)) is not None]
    if not values:
        return None
    low, high = float(np.quantile(values, 0.04)), max(values)
    return low - 0.06 * (high - low) - 0.5, high + 0.14 * (high - low) + 0.5


def paint(width: int, stage: str, steps: list[Line], checks: list[Line], score: str, span: Any) -> Figure:
    """Loss above, score below, over steps; ``steps`` and ``checks`` are the stage's own lines."""
    kinds = {"qat-": "int8", "teacher-": "teacher"}
    named = [colour for start, colour in kinds.items() if stage.startswith(start)]
    colour = named[0] if named else STAGES[stage][1] if stage in STAGES else "student"
    scored = [line for line in checks if number(line, score) is not None]
    figure = blank(width, 380 if scored and steps else 220)
    panels = figure.subplots(2 if scored and steps else 1, 1, sharex=True, squeeze=False)[:, 0]
    if steps:
        _losses(panels[0], steps, COLOURS[colour])
    if scored:
        _scores(panels[-1], scored, score, COLOURS[colour], span)
    panels[0].set_title(shorten(title(stage)), pad=8)
    panels[-1].set_xlabel("step")
    panels[-1].xaxis.set_major_locator(MaxNLocator(4, integer=True))
    panels[-1].xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v / 1000:g}k" if abs(v) >= 1000 else f"{v:g}"))
    return figure


def _losses(axes: Axes, steps: list[Line], colour: str) -> None:
    x, total = _series(steps, "loss")
    axes.plot(*_windows(x, total, DETAIL), color=colour, lw=0.7, alpha=0.25)
    axes.plot(*_windows(x, total, SMOOTH), color=colour, lw=1.8, label="loss")
    names = sorted({name for line in steps for name in line.get("parts") or {}})
    for name, style in zip(names if len(names) > 1 else [], PART_STYLES * len(names), strict=False):
        parts = [{"step": line.get("step"), name: (line.get("parts") or {}).get(name)} for line in steps]
        axes.plot(*_windows(*_series(parts, name), SMOOTH), color=colour, lw=1.2, ls=style, label=shorten(name))
    high = float(np.quantile(total, 0.995)) if len(total) else 1.0
    axes.set_ylim(0, high * 1.1 if high > 0 else None)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    handles = [*axes.get_lines()[1:], *_rates(axes, steps)]
    columns = 2 if len(handles) > 3 else 1
    axes.legend(handles=handles, loc="upper right", ncols=columns, handlelength=2.2, borderaxespad=0.1, fontsize=11)
    tidy(axes)


def _rates(axes: Axes, steps: list[Line]) -> list[Any]:
    """The learning rate as a pale shape behind the loss; its handle for the legend, which names the peak."""
    x, rate = _windows(*_series(steps, "lr"), DETAIL)
    if not len(rate) or rate.max() <= 0:
        return []
    behind = axes.twinx()
    label = f"learning rate, to {rate.max():.2g}"
    shape = behind.fill_between(x, rate, color=GRID, alpha=0.75, lw=0, zorder=0, label=label)
    behind.set(ylim=(0, rate.max() * 2.4), yticks=[])
    behind.spines[:].set_visible(False)
    axes.set_zorder(behind.get_zorder() + 1)
    return [shape]


def _scores(axes: Axes, checks: list[Line], score: str, colour: str, span: Any) -> None:
    x, y = _series(checks, score)
    best = int(np.argmax(y))
    axes.plot(x, y, color=colour, lw=1.8)
    axes.scatter(x[best], y[best], s=64, color=colour, edgecolors=PAPER, linewidths=1.4, zorder=4, clip_on=False)
    where = [line for line in checks if number(line, "step") == x[best]]
    epoch = number(where[0], "epoch") if where else None
    words = f"best {y[best]:.1f}" + ("" if epoch is None else f", epoch {epoch:.3g}")
    left = x[best] > (x[0] + x[-1]) / 2
    style: dict[str, Any] = {
        "textcoords": "offset points",
        "ha": "right" if left else "left",
        "fontsize": 12,
        "fontweight": "bold",
    }
    axes.annotate(words, (x[best], y[best]), (5 if left else -5, 9), color=colour, **style)
    axes.set_ylim(*span)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.set_ylabel(f"validation {SCORES.get(score, score)}")
    tidy(axes)


def _series(lines: list[Line], key: str) -> tuple[Values, Values]:
    pairs = [(number(line, "step"), number(line, key)) for line in lines]
    known = np.array([(step, value) for step, value in pairs if step is not None and value is not None], float)
    return (known[:, 0], known[:, 1]) if len(known) else (np.zeros(0), np.zeros(0))


def _windows(x: Values, y: Values, count: int) -> tuple[Values, Values]:
    """Means over ``count`` equal windows: no lag, no made-up ends, and a page that stays small."""
    if len(x) <= count:
        return x, y
    parts = np.array_split(np.arange(len(x)), count)
    return np.array([x[part].mean() for part in parts]), np.array([y[part].mean() for part in parts])
