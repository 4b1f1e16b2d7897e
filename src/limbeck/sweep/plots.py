"""Pictures of a sweep: every seed's score, gains with their intervals, score against time, all curves."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from limbeck.report.pareto import free
from limbeck.report.plots import COLOURS, INK, MUTED, PAPER, blank, shorten, tidy
from limbeck.report.rows import POINTS, SCORES, text
from limbeck.sweep.formats import signed

__all__ = ["Curve", "paint_curves", "paint_gains", "paint_scores", "paint_time", "tints"]

Json = dict[str, Any]
Curve = NDArray[np.float64]
"""Step, minutes of training and score of each validation: [validations, 3]."""

WIDE = 600  # CSS pixels from which there is room for numbers beside the points
ROW = 46  # CSS pixels of a method's line
OKABE_ITO = ("student", "int8", "plain", "sun", "bf16")
CYCLE = (*(COLOURS[name] for name in OKABE_ITO), "#cc79a7", "#7a5195", "#8c6d31", "#a3333d")


def tints(rows: Sequence[Json]) -> dict[str, str]:
    """A colour for every method: controls are grey, the others are told apart by all common kinds of vision."""
    taught = [row["method"] for row in rows if not row["plain"]] or [row["method"] for row in rows]
    colours = {name: CYCLE[index % len(CYCLE)] for index, name in enumerate(taught)}
    return {row["method"]: colours.get(row["method"], COLOURS["teacher"]) for row in rows}


def paint_scores(width: int, rows: Sequence[Json], score: str) -> Figure:
    """A line for every method: a dot for each seed, the mean with its deviation; the control's mean goes through."""
    figure, axes = _lines(width, [row["method"] for row in rows])
    colours = tints(rows)
    for at, row in enumerate(rows):
        colour, mean, deviation = colours[row["method"]], row["mean"], row["sd"] or 0.0
        spread = (np.arange(len(row["scores"])) - (len(row["scores"]) - 1) / 2) * 0.1
        axes.scatter(row["scores"], at + 0.26 + spread * 0.6, s=26, color=colour, alpha=0.5, linewidths=0, zorder=3)
        axes.plot([mean - deviation, mean + deviation], [at, at], color=colour, lw=3, solid_capstyle="round", zorder=3)
        axes.scatter(mean, at, s=90, color=colour, edgecolors=PAPER, linewidths=1.4, zorder=4)
        if width >= WIDE:
            words = text(mean, 2) + ("" if row["sd"] is None else f" \N{PLUS-MINUS SIGN} {text(row['sd'], 2)}")
            _beside(axes, at, words, INK)
    for row in [row for row in rows if row["plain"] and not row["longer"]]:
        axes.axvline(row["mean"], color=MUTED, lw=1, ls=(0, (4, 3)), zorder=1)
    axes.set_xlabel(f"{SCORES[score]}, points")
    axes.margins(x=0.06)
    return figure


def paint_gains(width: int, rows: Sequence[Json], score: str) -> Figure:
    """A line for every method with a control: the gain, its interval over images thick, over seeds too thin."""
    figure, axes = _lines(width, [row["method"] for row in rows])
    colours = tints(rows)
    for at, row in enumerate(rows):
        gain, colour = row["gain"], colours[row["method"]]
        for span, thick in ((gain["whole"], 1.6), (gain["images"], 5)):
            if span:
                axes.plot(span, [at, at], color=colour, lw=thick, solid_capstyle="round", zorder=3)
        face = colour if gain["resolved"] else PAPER
        axes.scatter(gain["value"], at, s=90, color=face, edgecolors=colour, linewidths=2.2, zorder=4)
        if width >= WIDE:
            _beside(axes, at, f"{signed(gain['value'])}  {gain['verdict']}", INK if gain["resolved"] else MUTED)
    axes.axvline(0, color=INK, lw=1.2, zorder=2)
    axes.set_xlabel(f"gain over the control, {POINTS[score]}" + "; hollow: not resolved" * (width >= WIDE))
    axes.set_xlim(*_span(rows))
    return figure


def _span(rows: Sequence[Json]) -> tuple[float, float]:
    """Both ends of the axis: intervals of few seeds may be so wide that they hide all others, and are cut off."""
    values = [row["gain"]["value"] for row in rows]
    inner = [end for row in rows for end in row["gain"]["images"] or ()] + values + [0.0]
    outer = [end for row in rows for end in row["gain"]["whole"] or ()] + inner
    reach = max(inner) - min(inner) or 1.0
    low, high = max(min(outer), min(inner) - reach), min(max(outer), max(inner) + reach)
    return low - 0.06 * (high - low), high + 0.06 * (high - low)


def _lines(width: int, names: Sequence[str]) -> tuple[Figure, Axes]:
    """A figure with a line for each name, the first on top, and room on the right where it is wide."""
    figure = blank(width, ROW * len(names) + 62)
    axes: Axes = figure.add_subplot()
    axes.set_yticks(range(len(names)), [shorten(name) for name in names], color=INK)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(6 if width >= WIDE else 4))
    tidy(axes, grid="x")
    return figure, axes


def _beside(axes: Axes, at: int, words: str, colour: str) -> None:
    axes.annotate(
        words, (1, at), (10, 0), xycoords=axes.get_yaxis_transform(), textcoords="offset points", va="center",
        fontsize=12, color=colour, annotation_clip=False,
    )  # fmt: skip


def paint_time(width: int, rows: Sequence[Json], score: str) -> Figure:
    """Minutes that a training took against the score: up and to the left is better."""
    figure = blank(width, 400)
    axes: Axes = figure.add_subplot()
    colours = tints(rows)
    for row in rows:
        x, y, colour = 60 * row["training_hours"], row["mean"], colours[row["method"]]
        axes.errorbar(x, y, row["sd"] or 0.0, color=colour, lw=2, zorder=2)
        axes.scatter(x, y, s=120, color=colour, edgecolors=PAPER, linewidths=1.4, zorder=3)
    axes.margins(x=0.16, y=0.14)
    axes.set_xlabel("minutes of training, validations left out; left is faster")
    axes.set_ylabel(f"{SCORES[score]}, points; up is better")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    figure.canvas.draw()  # the layout must be settled before places are measured
    _name(axes, rows, colours)
    return figure


def _name(axes: Axes, rows: Sequence[Json], colours: Mapping[str, str]) -> None:
    at = [axes.transData.transform((60 * row["training_hours"], row["mean"])) for row in rows]
    taken = [Bbox.from_bounds(float(x) - 7, float(y) - 7, 14, 14) for x, y in at]
    for row, place in zip(rows, at, strict=True):
        spot = (60 * row["training_hours"], row["mean"])
        note = axes.annotate(shorten(row["method"]), spot, (0, 0), textcoords="offset points", fontsize=12)
        note.set(color=colours[row["method"]], fontweight="bold")
        note.set_in_layout(False)
        size = note.get_window_extent()
        found, _ = free(place, 7, size.width, size.height, taken, axes.bbox)
        note.set_position((found.x0 - place[0], found.y0 - place[1] + size.height * 0.22))
        taken.append(found)


def paint_curves(width: int, rows: Sequence[Json], curves: Mapping[str, Sequence[Curve]], score: str) -> Figure:
    """Validation score over steps and over time: the mean of the seeds, a band from the worst to the best."""
    wide = width >= WIDE
    figure = blank(width, 400 if wide else 640)
    panels = figure.subplots(1, 2, sharey=True) if wide else figure.subplots(2, 1)
    colours = tints(rows)
    known = {row["method"]: _common(curves.get(row["method"], ())) for row in rows}
    for axes, column, words in zip(panels, (0, 1), ("step", "minutes of training"), strict=True):
        for name, found in known.items():
            if len(found):
                x, y = found[..., column].mean(0), found[..., 2]
                style = (0, (4, 2)) if colours[name] == COLOURS["teacher"] else "-"
                axes.plot(x, y.mean(0), color=colours[name], lw=1.8, ls=style, label=shorten(name))
                axes.fill_between(x, y.min(0), y.max(0), color=colours[name], alpha=0.14, lw=0)
        axes.set_xlabel(words)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v / 1000:g}k" if abs(v) >= 1000 else f"{v:g}"))
        axes.set_ylim(*_climbed(list(known.values())))
        tidy(axes)
    panels[0].set_ylabel(f"validation {SCORES[score]}")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=6 if wide else 2)
    return figure


def _common(curves: Sequence[Curve]) -> Curve:
    """Curves [seeds, validations, 3] at the steps that all of them have; empty where there are none."""
    kept = [curve for curve in curves if len(curve)]
    steps = set.intersection(*(set(curve[:, 0].tolist()) for curve in kept)) if kept else set[float]()
    if not steps:
        return np.zeros((0, 0, 3))
    return np.stack([curve[np.isin(curve[:, 0], list(steps))] for curve in kept])


def _climbed(known: Sequence[Curve]) -> tuple[float, float]:
    """A range of scores that leaves out the first climb."""
    values = np.concatenate([found[..., 2].ravel() for found in known if len(found)])
    low, high = float(np.quantile(values, 0.12)), float(values.max())
    return low - 0.05 * (high - low) - 0.2, high + 0.08 * (high - low) + 0.2
