"""From logits to class ids at any size: one implementation for every runtime, equal bit for bit on every machine.

Interpolation is bilinear with half-pixel centres (``align_corners=False``, no antialiasing), in two steps of
``a + (b - a) * t`` in float32, one elementwise operation at a time: no matrix library decides on an order of sums.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Window", "bilinear", "predict", "strips"]

Floats = NDArray[np.float32]
Ids = NDArray[np.uint8] | NDArray[np.uint16]
Size = tuple[int, int]

STRIP = 1 << 17
"""Pixels worked on at a time: every buffer of a strip stays in the processor's cache, whatever the image's size."""


class Window(NamedTuple):
    """The part of a network's input that holds the image: the top left ``region`` of ``shape``, both [h, w]."""

    region: Size
    shape: Size


class _Axis(NamedTuple):
    """For every output position: its two neighbours in the source and how far it lies towards the second, 0 to 1."""

    lower: NDArray[np.intp]
    upper: NDArray[np.intp]
    share: Floats


def bilinear(plane: Floats, size: Size, window: Window | None = None) -> Floats:
    """Resize one plane [h, w] to ``size``, as ``torch.nn.functional.interpolate`` does with ``align_corners=False``.

    Args:
        window: Where the plane holds the image when the rest of it is padding; see :func:`predict`.
    """
    rows, columns = _axes((plane.shape[0], plane.shape[1]), size, window)
    (resized,) = _planes(plane[None], rows, columns)
    return resized


def predict(logits: Floats, size: Size, window: Window | None = None) -> Ids:
    """Class ids [h, w] of ``logits`` [c, h', w'] at ``size``: bilinear, then the class with the largest logit.

    Equal logits go to the lower class. A single channel is a sigmoid's: class 1 where its logit is above 0. NaN is not
    looked for here: it never wins.

    With a ``window`` the logits cover a padded input and the image its top left region only. Every pixel centre of the
    image is carried to the input, not beyond the centre of the region's last pixel, from there to the logits, and
    interpolated once. That equals "upsample to the input, crop, resize to the image" wherever the image or the logits
    have the input's scale; elsewhere it is the same with one blur less.

    Returns:
        uint8, or uint16 for more than 256 classes.
    """
    ids: Ids = np.zeros(size, np.uint8) if len(logits) <= 256 else np.zeros(size, np.uint16)
    for rows, planes in strips(logits, size, window):
        _largest(planes, ids[rows], single=len(logits) == 1)
    return ids


def strips(logits: Floats, size: Size, window: Window | None = None) -> Iterator[tuple[slice, Iterator[Floats]]]:
    """Rows of the result and one class after the other at these rows, as :func:`predict` goes over them.

    A plane's memory is used again for the next one.
    """
    height, width = logits.shape[1:]
    axes = None if window is None and (height, width) == size else _axes((height, width), size, window)
    rows = max(1, STRIP // max(1, size[1]))
    for first in range(0, size[0], rows):
        strip = slice(first, min(first + rows, size[0]))
        yield strip, iter(logits[:, strip]) if axes is None else _planes(logits, _part(axes[0], strip), axes[1])


def _largest(planes: Iterator[Floats], ids: Ids, single: bool) -> None:
    """Write the index of the largest plane to ``ids``, which holds zeros, looking at one plane at a time."""
    best = np.zeros(ids.shape, np.float32) if single else next(planes).copy()
    above = np.empty(ids.shape, np.bool_)
    for index, plane in enumerate(planes, start=1):
        np.greater(plane, best, out=above)
        np.maximum(plane, best, out=best)
        np.copyto(ids, ids.dtype.type(index), where=above)


def _planes(logits: Floats, rows: _Axis, columns: _Axis) -> Iterator[Floats]:
    """One class after the other at the size of the axes; a plane's memory is used again for the next one."""
    first, last = rows.lower[0], rows.upper[-1] + 1
    lower, upper, share = rows.lower - first, rows.upper - first, rows.share[:, None]
    out, other = np.empty((2, len(lower), len(columns.lower)), np.float32)
    for plane in logits[:, first:last]:
        left = np.take(plane, columns.lower, axis=1, mode="clip")
        wide = left + (np.take(plane, columns.upper, axis=1, mode="clip") - left) * columns.share
        np.take(wide, lower, axis=0, out=out, mode="clip")
        np.take(wide, upper, axis=0, out=other, mode="clip")
        other -= out
        other *= share
        out += other
        yield out


def _axes(source: Size, target: Size, window: Window | None) -> tuple[_Axis, _Axis]:
    region, shape = window or Window((1, 1), (1, 1))
    return _axis(source[0], target[0], region[0], shape[0]), _axis(source[1], target[1], region[1], shape[1])


def _axis(source: int, target: int, region: int, whole: int) -> _Axis:
    """Where ``target`` positions fall in a row of ``source`` ones, of which the share ``region / whole`` is used.

    Positions are float32 and rounded after each operation, as in torch: at column 2000 that is felt in the fifth digit.
    """
    step = np.float32(source * region / (whole * target))
    position = step * np.arange(0.5, target, dtype=np.float32) - np.float32(0.5)
    end = source - 1 if region == whole else min(source - 1, (region - 0.5) * source / whole - 0.5)
    position = np.clip(position, np.float32(0), np.float32(max(0, end)))
    lower = position.astype(np.intp)
    return _Axis(lower, np.minimum(lower + 1, source - 1), position - lower.astype(np.float32))


def _part(axis: _Axis, strip: slice) -> _Axis:
    return _Axis(axis.lower[strip], axis.upper[strip], axis.share[strip])
