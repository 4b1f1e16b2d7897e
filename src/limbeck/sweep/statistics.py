"""How sure a difference between two methods is: images are drawn again, and seeds weighed by how far they disagree."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["DRAWS", "Gain", "draw", "gain", "mean_and_deviation"]

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

DRAWS = 10_000
LEVEL = 95.0  # percent of an interval
AGAIN = 20  # draws of the seeds for each draw of the images: the quantiles of few seeds are far out
CHUNK = 500  # draws at once


@dataclass(frozen=True)
class Gain:
    """Points that a method is ahead of another, by seed and over all.

    Attributes:
        value: Mean over the seeds.
        by_seed: The gain of each seed; the same images throughout.
        images: Interval of ``value`` on other images of this kind, with these very networks; None without counts.
        whole: Interval on other images and with other seeds; None for a single seed, or without counts.
    """

    value: float
    by_seed: tuple[float, ...]
    images: tuple[float, float] | None
    whole: tuple[float, float] | None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The widest that is known."""
        return self.whole or self.images

    @property
    def resolved(self) -> bool:
        """Whether other images and other seeds would leave its sign; never with a single seed."""
        return self.whole is not None and _excludes_zero(self.whole)

    @property
    def verdict(self) -> str:
        """The same in words."""
        if self.images is None:
            return "not tested: no counts of single images"
        if self.resolved:
            return "resolved"
        if _excludes_zero(self.images):
            return f"not resolved beyond {'this seed' if len(self.by_seed) == 1 else 'these seeds'}"
        return "not resolved"


def mean_and_deviation(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean, and standard deviation with n - 1; None where there are no, or fewer than two, values."""
    if not values:
        return None, None
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


def draw(counts: Counts, draws: int = DRAWS, seed: int = 0, block: int = 1) -> Floats:
    """Scores in points of ``draws`` sets of images, each as many as there are, drawn with replacement.

    Equal ``seed``, ``block`` and numbers of images draw the same images: differences between two results are paired.
    The score is the mean IoU of the summed counts over the classes that a draw has; NaN for a draw without any.

    Args:
        counts: Of each image and class pixels found, wrongly said and missed: [images, classes, 3]. Hits of a
            classifier are found and its errors missed, in one class: its IoU is the accuracy.
        draws: How many.
        seed: Of the draws.
        block: Consecutive images that are drawn together, as the frames of a video are no independent images.

    Source: Efron, Bootstrap Methods, Annals of Statistics 7 (1979); blocks in a circle: Politis and Romano, A Circular
    Block-Resampling Procedure for Stationary Data, in Exploring the Limits of Bootstrap, 1992.
    """
    images, classes = counts.shape[:2]
    flat, rng = counts.reshape(images, -1).astype(np.float64), np.random.default_rng(seed)
    found = []
    for first in range(0, draws, CHUNK):
        times = _times(rng, min(CHUNK, draws - first), images, block)
        found.append(_scores((times @ flat).reshape(-1, classes, 3)))
    return np.concatenate(found)


def _times(rng: np.random.Generator, draws: int, images: int, block: int) -> Floats:
    """How often each draw takes each image: [draws, images]."""
    starts = rng.integers(0, images, (draws, math.ceil(images / block), 1))
    taken = ((starts + np.arange(block)) % images).reshape(draws, -1)[:, :images]
    places = (taken + images * np.arange(draws)[:, None]).ravel()
    return np.bincount(places, minlength=draws * images).reshape(draws, images).astype(np.float64)


def _scores(counts: Floats) -> Floats:
    """Mean IoU in points of counts [..., classes, 3]."""
    union = counts.sum(-1)
    there = union > 0
    iou = np.divide(counts[..., 0], union, out=np.zeros_like(union), where=there)
    with np.errstate(invalid="ignore"):
        return np.asarray(100 * iou.sum(-1) / there.sum(-1))


def gain(by_seed: Sequence[float], ours: Sequence[Floats], theirs: Sequence[Floats]) -> Gain:
    """The gain of one method over another from runs that are paired by seed, with intervals of 95 %.

    Each draw of images is the same for all runs. To the mean of the paired differences that it gives comes a draw of
    Student's t with n - 1 degrees of freedom, scaled by the deviation of the gains over the n seeds divided by sqrt(n):
    the two sources of chance are crossed, and their variances add up, the part that they share being counted twice
    (Owen, The Pigeonhole Bootstrap, Annals of Applied Statistics 1, 2007: too wide rather than too narrow). Drawing
    two or three seeds with replacement instead would cover half of what it says.

    Args:
        by_seed: Gain of each seed on all images, in points.
        ours: What :func:`draw` gives for each of our runs; empty where single images were not counted.
        theirs: The same for the other method's run of the same seed.
    """
    value, deviation = mean_and_deviation(by_seed)
    assert value is not None
    if not ours:
        return Gain(value, tuple(by_seed), None, None)
    drawn: Floats = np.mean([one - other for one, other in zip(ours, theirs, strict=True)], axis=0)
    drawn = drawn[np.isfinite(drawn)]
    if deviation is None:
        return Gain(value, tuple(by_seed), _interval(drawn), None)
    num = len(by_seed)
    spread = np.random.default_rng(num).standard_t(num - 1, (AGAIN, len(drawn))) * deviation / math.sqrt(num)
    return Gain(value, tuple(by_seed), _interval(drawn), _interval((drawn + spread).ravel()))


def _interval(values: Floats) -> tuple[float, float] | None:
    if not len(values):
        return None
    low, high = np.percentile(values, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    return float(low), float(high)


def _excludes_zero(interval: tuple[float, float]) -> bool:
    return interval[0] > 0 or interval[1] < 0
