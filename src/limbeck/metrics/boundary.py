"""Boundary IoU: IoU of the thin bands along the edges, where a good mask differs from a blurred one."""

import math
from collections.abc import Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from limbeck.data.sample import VOID

__all__ = ["Boundary", "boundary_scores", "inner_band"]

SHARE = 0.02
"""Width of a band as a share of the image's diagonal, as published."""

Ids = NDArray[np.uint8]


@final
class Boundary:
    """Counts of pixels within the bands, summed over images.

    A class's band is its pixels at most d from one that is not the class's, or from the outside of the image; d is 2 %
    of the diagonal, at least 1, counted as a king moves. Both masks have bands of their own: a class's intersection is
    what is in both, its union what is in either. Void pixels are in no band, and an edge against void is none.

    Source: Cheng et al., Boundary IoU, CVPR 2021, section 4.1 (arXiv:2103.16562).

    Attributes:
        counts: int64, [3, c]: pixels in both bands, in the truth's, in the prediction's.
    """

    def __init__(self, num_classes: int) -> None:
        self.counts = np.zeros((3, num_classes), np.int64)

    def add(self, prediction: NDArray[np.integer], target: NDArray[np.integer]) -> None:
        """Count an image's masks [h, w]; ids as :class:`limbeck.metrics.confusion.Confusion` accepts them."""
        void, reach, num = target == VOID, band_width(target.shape), self.counts.shape[1]
        truth, said = target.astype(np.uint8), np.where(void, VOID, prediction).astype(np.uint8)
        none = np.uint8(num)
        pairs = np.where(inner_band(truth, reach), truth, none).astype(np.uint16)  # at most 255 classes: it fits
        pairs *= np.uint16(num + 1)
        pairs += np.where(inner_band(said, reach), said, none)
        counts = np.bincount(pairs.ravel(), minlength=(num + 1) ** 2).reshape(num + 1, num + 1)
        self.counts += (np.diag(counts)[:num], counts.sum(1)[:num], counts.sum(0)[:num])


def band_width(size: Sequence[int]) -> int:
    """Pixels that an edge's band is wide in an image [h, w]."""
    return max(1, round(SHARE * math.hypot(size[0], size[1])))


def inner_band(ids: Ids, reach: int) -> NDArray[np.bool_]:
    """Pixels of any class that are within ``reach`` of another class or of the image's outside; none is void.

    A window of one class alone has equal smallest and largest ids. Void is neutral to both.
    """
    void = ids == VOID
    least = _over_window(ids, reach, np.minimum)
    most = _over_window(np.where(void, 0, ids).astype(np.uint8), reach, np.maximum)
    band: NDArray[np.bool_] = least != most
    band[:reach], band[-reach:], band[:, :reach], band[:, -reach:] = True, True, True, True
    band &= ~void
    return band


def _over_window(ids: Ids, reach: int, better: np.ufunc) -> Ids:
    """The best id in the window of ``2 * reach + 1`` pixels squared around each, where that lies inside the image.

    Elsewhere, up to ``reach`` from the border, anything. Runs of 1, 2, 4, ... ids are joined: log2 of the window's
    size passes over each axis.
    """
    wide = 2 * reach + 1
    for axis in (0, 1):
        if ids.shape[axis] < wide:
            continue  # all of it is close to the border
        run, length = ids, 1
        while length < wide:
            step = min(length, wide - length)
            run = better(run[:-step], run[step:]) if axis == 0 else better(run[:, :-step], run[:, step:])
            length += step
        ids = ids.copy()
        inside: Ids = ids[reach : len(ids) - reach] if axis == 0 else ids[:, reach : ids.shape[1] - reach]
        inside[...] = run
    return ids


def boundary_scores(counts: NDArray[np.int64]) -> dict[str, Any]:
    """Points, 0-100, of counts [3, c]: ``iou`` of each class, None where no mask has a band, and their ``mean``."""
    both, truth, said = counts
    union = truth + said - both
    per_class = [float(100 * one / whole) if whole else None for one, whole in zip(both, union, strict=True)]
    known = [value for value in per_class if value is not None]
    return {"mean": sum(known) / len(known) if known else None, "iou": per_class}
