"""Scores of a classifier: how many images get their class, and which classes are taken for which."""

from collections.abc import Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from limbeck.metrics.agreement import agreeing
from limbeck.metrics.confusion import scores

__all__ = ["Labels", "class_scores"]

TOP = 5


@final
class Labels:
    """Counts of images by what they are and what was said, and what was said of each.

    Attributes:
        matrix: int64, [truth, predicted].
        in_top: Images whose class is among the five likeliest.
        images: For each image its ``name`` and its ``accuracy``: 100, 0, or None without truth.
    """

    def __init__(self, num_classes: int) -> None:
        self.matrix = np.zeros((num_classes, num_classes), np.int64)
        self.images: list[dict[str, Any]] = []
        self.in_top = self.same = self.looked_at = 0

    def add(
        self,
        name: str,
        logits: NDArray[np.floating],
        label: NDArray[np.integer],
        target: NDArray[np.integer] | None,
        reference: NDArray[np.integer] | None,
    ) -> None:
        """Count an image: logits [c], the class they mean, its true one, and the class another network gave it.

        Raises:
            ValueError: If the target is a map, or is no class.
        """
        if reference is not None:
            same, looked_at = agreeing(label, reference)
            self.same, self.looked_at = self.same + same, self.looked_at + looked_at
        right = None if target is None else self._count(logits, int(label), target)
        self.images.append({"name": name, "accuracy": None if right is None else 100.0 * right})

    def _count(self, logits: NDArray[np.floating], label: int, target: NDArray[np.integer]) -> bool:
        if target.ndim:
            raise ValueError(f"the target is a map {list(target.shape)}; the network gives one class an image")
        truth = int(target)
        if not 0 <= truth < len(self.matrix):
            raise ValueError(f"target has class id {truth}; the classes are 0 to {len(self.matrix) - 1}")
        self.matrix[truth, label] += 1
        before = (logits > logits[truth]).sum() + (logits[:truth] == logits[truth]).sum()  # equal ones go by their ids
        self.in_top += bool(before < TOP)
        return truth == label


def class_scores(labels: Labels, classes: Sequence[str]) -> dict[str, Any] | None:
    """Scores in points, 0-100; None if no image has a class.

    With t images of a class, p predicted as it and i both: accuracy = recall = i / t, precision = i / p,
    F1 = 2 i / (t + p). What has no image to count is None, and no mean counts it.

    Returns:
        ``accuracy``, the share of images that are right; ``top5_accuracy``, that have their class among the five
        likeliest, None where there are no more than five classes; ``mean_accuracy``, the mean over classes;
        ``classes``, their names; ``per_class`` with ``accuracy``, ``precision`` and ``f1``; ``frequency``, the share of
        images that a class truly has.
    """
    matrix, total = labels.matrix, int(labels.matrix.sum())
    if not total:
        return None
    known, mirrored = scores(matrix, classes), scores(matrix.T, classes)
    counted = matrix.sum(0) + matrix.sum(1)
    f1 = [float(200 * hit / both) if both else None for hit, both in zip(np.diag(matrix), counted, strict=True)]
    return {
        "accuracy": known["pixel_accuracy"],
        "top5_accuracy": 100 * labels.in_top / total if len(classes) > TOP else None,
        "mean_accuracy": known["mean_accuracy"],
        "classes": list(classes),
        "per_class": {
            "accuracy": known["per_class"]["accuracy"], "precision": mirrored["per_class"]["accuracy"], "f1": f1,
        },
        "frequency": known["frequency"],
    }  # fmt: skip
