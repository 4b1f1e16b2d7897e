"""Scores of a segmentation, all from one confusion matrix."""

from collections.abc import Sequence
from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray

from limbeck.data.sample import VOID

__all__ = ["Confusion", "scores"]

Floats = NDArray[np.float64]


@final
class Confusion:
    """Counts of pixels by what is there and what was said.

    Attributes:
        matrix: int64, [truth, predicted].
    """

    def __init__(self, num_classes: int) -> None:
        self.matrix = np.zeros((num_classes, num_classes), np.int64)

    def add(self, prediction: NDArray[np.integer], target: NDArray[np.integer]) -> Self:
        """Count the pixels of one or more images; those whose target is void (255) are left out.

        Raises:
            ValueError: If shapes differ, or an id is no class.
        """
        if prediction.shape != target.shape:
            raise ValueError(f"prediction {list(prediction.shape)} and target {list(target.shape)} differ in shape")
        valid = target != VOID
        truth, said = target[valid].astype(np.int64), prediction[valid].astype(np.int64)
        num_classes = len(self.matrix)
        _check("target", truth, num_classes)
        _check("prediction", said, num_classes)
        counts = np.bincount(truth * num_classes + said, minlength=num_classes**2)
        self.matrix += counts.reshape(num_classes, num_classes)
        return self

    @property
    def counts(self) -> NDArray[np.int64]:
        """Pixels of each class that are found, wrongly said, and missed: [classes, 3]; IoU is found / their sum."""
        found = np.diag(self.matrix)
        return np.stack([found, self.matrix.sum(0) - found, self.matrix.sum(1) - found], axis=1)

    def __add__(self, other: "Confusion") -> "Confusion":
        total = Confusion(len(self.matrix))
        total.matrix = self.matrix + other.matrix
        return total


def _check(name: str, ids: NDArray[np.int64], num_classes: int) -> None:
    for wrong in (ids.min(), ids.max()) if ids.size else ():
        if not 0 <= wrong < num_classes:
            raise ValueError(f"{name} has class id {wrong}; the classes are 0 to {num_classes - 1}, void is {VOID}")


def scores(matrix: NDArray[np.int64], classes: Sequence[str]) -> dict[str, Any]:
    """Scores in points, 0-100, from a matrix [truth, predicted].

    With t pixels of a class, p predicted as it and i both: IoU = i / (t + p - i), accuracy = i / t,
    Dice = 2 i / (t + p); ``fw_iou`` weighs IoU by t. A class neither there nor predicted has no IoU and no Dice, one
    that is not there no accuracy: they are None and no mean counts them. An empty matrix gives None everywhere.

    Source: Long et al., Fully Convolutional Networks for Semantic Segmentation, CVPR 2015, section 5 (arXiv:1411.4038).

    Returns:
        ``miou``, ``pixel_accuracy``, ``mean_accuracy``, ``mean_dice``, ``fw_iou``; ``classes``, their names;
        ``per_class`` with ``iou`` and ``accuracy``; ``frequency``, the share of all pixels that a class truly has.

    Raises:
        ValueError: If the names are not one a row.
    """
    if len(classes) != len(matrix):
        raise ValueError(f"{len(classes)} class names for a matrix of {len(matrix)}")
    hit, truth, said = np.diag(matrix), matrix.sum(1), matrix.sum(0)
    iou, accuracy, dice = _share(hit, truth + said - hit), _share(hit, truth), _share(2 * hit, truth + said)
    frequency = _share(truth, np.full_like(truth, truth.sum()))
    return {
        "miou": _mean(iou),
        "pixel_accuracy": _point(_share(hit.sum(), truth.sum())),
        "mean_accuracy": _mean(accuracy),
        "mean_dice": _mean(dice),
        "fw_iou": _mean(iou, truth),
        "classes": list(classes),
        "per_class": {"iou": [_point(value) for value in iou], "accuracy": [_point(value) for value in accuracy]},
        "frequency": [_point(value) for value in frequency],
    }


def _share(part: Any, whole: Any) -> Floats:
    """``part / whole`` in points; NaN where there is no whole."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(100 * np.asarray(part, np.float64) / np.asarray(whole, np.float64))


def _mean(values: Floats, weights: NDArray[np.int64] | None = None) -> float | None:
    known = ~np.isnan(values)
    weights = known.astype(np.int64) if weights is None else weights * known
    return float(np.average(values[known], weights=weights[known])) if weights.sum() else None


def _point(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)
