"""Bars: the score of each class for the main networks, and where the time of a training step went."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from limbeck.report.plots import COLOURS, INK, MUTED, PAPER, ROLES, blank, shorten, tidy

__all__ = ["MOST_CLASSES", "class_order", "paint_classes", "paint_shares", "shares"]

Line = dict[str, Any]
Scores = dict[str, NDArray[np.float64]]

MOST_CLASSES = 40
SHARES = {
    "data": ("waiting for data", "plain"),
    "teacher": ("teacher", "teacher"),
    "student": ("network in training", "student"),
    "loss": ("losses", "int8"),
}


def class_order(scores: Scores, frequency: list[float]) -> list[int]:
    """Which classes to show, and in which order: the frequent first, else the well recognised first.

    Classes that no network scored are left out. Of more than ``MOST_CLASSES``, those stay that networks differ on.
    """
    table = np.stack(list(scores.values()))
    known = np.flatnonzero(~np.isnan(table).all(axis=0))
    if len(known) > MOST_CLASSES:
        spread = np.nanmax(table[:, known], axis=0) - np.nanmin(table[:, known], axis=0)
        known = known[np.argsort(-spread, kind="stable")[:MOST_CLASSES]]
    counted = len(frequency) == table.shape[1]
    weight = np.array(frequency)[known] if counted else np.nanmax(table[:, known], axis=0)
    return [int(index) for index in known[np.argsort(-weight, kind="stable")]]


def paint_classes(width: int, names: list[str], scores: Scores, frequency: list[float], score: str = "IoU") -> Figure:
    """Horizontal bars in groups, one group a class; an unknown score has no bar."""
    order = class_order(scores, frequency)
    thick = 11 if width >= 600 else 9
    figure = blank(width, len(order) * (thick * len(scores) + 12) + 70)
    axes = figure.add_subplot()
    height = thick / (thick * len(scores) + 12)
    for place, (role, values) in enumerate(scores.items()):
        y = np.arange(len(order)) + (place - (len(scores) - 1) / 2) * height
        kept = np.nan_to_num(values[order])
        axes.barh(y, kept, height * 0.88, color=COLOURS[role], label=ROLES[role], lw=0)
        for at, value in zip(y, values[order], strict=True):
            if width >= 600 and not np.isnan(value):
                axes.text(value + 0.6, at, f"{value:.0f}", va="center", fontsize=8.5, color=MUTED)
    counted = len(frequency) == len(names)
    labels = [shorten(names[i]) + (f" \N{MIDDLE DOT} {frequency[i]:.1f}%" if counted else "") for i in order]
    axes.set_yticks(range(len(order)), labels, color=INK)
    axes.set(xlim=(0, 102), ylim=(len(order) - 0.4, -0.6), xlabel=f"{score}, points")
    columns = len(scores) if width >= 600 else 2
    figure.legend(loc="outside upper left", ncols=columns, handlelength=1, handleheight=0.8)
    axes.spines["left"].set_visible(False)
    tidy(axes, grid="x")
    return figure


def shares(steps: list[Line]) -> dict[str, dict[str, float]]:
    """Mean share of a step's time by stage, 0-1; stages that kept no times are left out."""
    found: dict[str, list[dict[str, float]]] = {}
    for line in steps:
        if isinstance(line.get("time"), dict) and line["time"]:
            found.setdefault(str(line.get("stage")), []).append(line["time"])
    return {
        stage: {key: float(np.mean([t.get(key) or 0.0 for t in kept])) for key in SHARES}
        for stage, kept in found.items()
    }


def paint_shares(width: int, spent: dict[str, dict[str, float]], titles: dict[str, str]) -> Figure:
    """One stacked bar a stage; a share too narrow for its number goes without."""
    figure = blank(width, 44 * len(spent) + 60)
    axes = figure.add_subplot()
    for key, (words, colour) in SHARES.items():
        values = np.array([100 * stage[key] for stage in spent.values()])
        start = np.array(
            [100 * sum(stage[k] for k in list(SHARES)[: list(SHARES).index(key)]) for stage in spent.values()]
        )
        axes.barh(range(len(spent)), values, 0.62, start, color=COLOURS[colour], label=words, edgecolor=PAPER, lw=1)
        for at, (left, value) in enumerate(zip(start, values, strict=True)):
            if value >= (6 if width >= 600 else 14):
                axes.text(left + value / 2, at, f"{value:.0f}%", ha="center", va="center", color=PAPER, fontsize=12)
    axes.set_yticks(range(len(spent)), [shorten(titles.get(stage, stage)) for stage in spent], color=INK)
    axes.set(xlim=(0, 100), ylim=(len(spent) - 0.5, -0.5), xticks=[])
    axes.spines[:].set_visible(False)
    axes.grid(visible=False)
    figure.legend(loc="outside upper left", ncols=4 if width >= 600 else 2, handlelength=1, handleheight=0.8)
    return figure
