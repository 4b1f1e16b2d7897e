"""The pictures of the page: speed against score, classes, training, time, and the sample images."""

from collections.abc import Callable
from functools import partial

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from limbeck.report import bars, curves, pareto
from limbeck.report.folder import Folder
from limbeck.report.markup import Markup, raw, tag
from limbeck.report.plots import ROLES, draw
from limbeck.report.rows import SCORES, number, text
from limbeck.report.sections import section
from limbeck.report.verdict import Verdict

__all__ = ["classes", "speed", "time", "training"]

WIDE, NARROW, HALF = 980, 360, 470  # CSS pixels
FOLLOWED = ("miou", "accuracy", "pixel_accuracy")


def _picture(folder: Folder, name: str, words: str, paint: Callable[[int], Figure], *widths: int) -> Markup:
    return tag("figure", draw(name, words, paint, folder.path / "report" / "figures", widths))


def speed(folder: Folder, judged: Verdict) -> Markup:
    """Latency against score; empty when no row has both."""
    rows = pareto.points(folder.rows, judged.score)
    if not rows:
        return raw("")
    paint = partial(pareto.paint, rows=rows, score=judged.score, pick=judged.pick)
    words = f"Latency in milliseconds against {SCORES[judged.score]} of {len(rows)} rows"
    hint = (
        "Up and to the left is better. The area of a point is the size of its file, the ring is the file to ship, and "
        "the dashed line joins the rows that no other beats in both."
    )
    return section("speed", "Speed against score", hint, _picture(folder, "pareto", words, paint, WIDE, NARROW))


def classes(folder: Folder, ids: dict[str, str]) -> Markup:
    """IoU, or accuracy, of each class for the rows in ``ids`` (role to id); empty without such scores."""
    scores = {role: _per_class(folder, name) for role, name in ids.items()}
    known = {role: values for role, values in scores.items() if not np.isnan(values).all()}
    if not known:
        return raw("")
    score = "IoU" if folder.dense else "accuracy"
    paint = partial(bars.paint_classes, names=folder.classes, scores=known, frequency=folder.frequency, score=score)
    words = f"{score} of each class for {', '.join(ROLES[role] for role in known)}"
    hint = " ".join(part for part in (_order(folder), _changed(folder, known)) if part)
    return section("classes", "Class by class", hint, _picture(folder, "classes", words, paint, WIDE, NARROW))


def _per_class(folder: Folder, name: str) -> NDArray[np.float64]:
    """IoU, or accuracy, of the row by class, NaN where unknown."""
    scores = folder.evaluated.get(name, {}).get("per_class") or {}
    values = scores.get("iou" if folder.dense else "accuracy") or []
    known = values if len(values) == len(folder.classes) else [None] * max(len(folder.classes), 1)
    return np.array([np.nan if value is None else float(value) for value in known])


def _order(folder: Folder) -> str:
    shown = "" if len(folder.classes) <= bars.MOST_CLASSES else f"The {bars.MOST_CLASSES} classes that differ most. "
    if len(folder.frequency) != len(folder.classes):
        return shown
    return f"{shown}The most frequent class comes first; the share of labelled {folder.counted} stands beside its name."


def _changed(folder: Folder, known: dict[str, NDArray[np.float64]]) -> str:
    """The class that INT8 costs most."""
    if "int8" not in known or "student" not in known:
        return ""
    change = known["int8"] - known["student"]
    if np.isnan(change).all():
        return ""
    worst = int(np.nanargmin(change))
    if change[worst] > -0.05:
        return "No class loses anything in INT8."
    return f"INT8 costs {folder.classes[worst]} most: {text(float(change[worst]))} points."


def training(folder: Folder, score: str) -> Markup:
    """Loss, learning rate and validation score of each stage; empty without training."""
    followed = next(
        (key for key in (score, *FOLLOWED) if any(number(c, key) is not None for c in folder.checks)), score
    )
    span = curves.score_range(folder.checks, followed)
    pictures = []
    for stage in curves.stages(folder.steps, folder.checks):
        steps, checks = (
            [line for line in lines if line.get("stage") == stage] for lines in (folder.steps, folder.checks)
        )
        paint = partial(curves.paint, stage=stage, steps=steps, checks=checks, score=followed, span=span)
        words = f"Training of {curves.title(stage)}: loss and validation score over steps"
        pictures.append(_picture(folder, f"training-{curves.slug(stage)}", words, paint, HALF))
    if not pictures:
        return raw("")
    hint = "Loss above, over the learning rate; validation score below, on one scale. The dot is the checkpoint kept."
    return section("training", "Training", hint, tag("div", *pictures, class_="pair"))


def time(folder: Folder) -> Markup:
    """Where the time of a training step went; empty when it was not kept."""
    spent = bars.shares(folder.steps)
    if not spent:
        return raw("")
    titles = {stage: curves.title(stage) for stage in spent}
    paint = partial(bars.paint_shares, spent=spent, titles=titles)
    hint = (
        "Share of a training step: waiting for data, the teacher's forward pass, the student, the distillation losses."
    )
    picture = _picture(folder, "time", "Shares of the time of a training step", paint, WIDE, NARROW)
    return section("time", "Where training time went", hint, picture)
