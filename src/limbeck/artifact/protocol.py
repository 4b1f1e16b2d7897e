"""How an image is shown to a network: whole or by a moving window, also mirrored, at which scales."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from limbeck.artifact.average import Answer
from limbeck.artifact.preprocess import Preprocess
from limbeck.artifact.resize import bilinear

__all__ = ["WHOLE", "Look", "Protocol", "Slide", "answered"]

Floats = NDArray[np.float32]
Size = tuple[int, int]


@dataclass(frozen=True)
class Slide:
    """A window of the network's input size that moves over the image.

    Attributes:
        stride: Pixels between two windows, [height, width]; the last ones end with the image.
        cover: The image is resized, keeping its shape, until it just covers the window; else it keeps its size.
    """

    stride: Size
    cover: bool = True


class Look(NamedTuple):
    """One view of an image: inputs [3, h, w] of one size, and what their logits say about the whole of it."""

    inputs: list[Floats]
    join: Callable[[Sequence[Floats]], Answer]


@dataclass(frozen=True)
class Protocol:
    """All views that one mask is made of: each scale, plain and, where ``flip`` says so, mirrored.

    Raises:
        ValueError: If there is no scale, one is not positive, or a stride is below 1.
    """

    slide: Slide | None = None
    flip: bool = False
    scales: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if not self.scales or min(self.scales) <= 0 or (self.slide and min(self.slide.stride) < 1):
            raise ValueError(f"scales must be positive and strides 1 or more, got {self}")

    def images_at_once(self, batch: int) -> int:
        """Images to hold ready for batches of this size; windows of one are many already."""
        return 1 if self.slide else max(1, batch // (len(self.scales) * (1 + self.flip)))

    def sizes(self, preprocess: Preprocess) -> set[Size]:
        """Sizes of the inputs that the network gets."""
        return {preprocess.shape if self.slide else _scaled(preprocess, scale).shape for scale in self.scales}

    def looks(self, preprocess: Preprocess, image: NDArray[np.uint8]) -> list[Look]:
        """Every view of an image [h, w, 3]: scale by scale, plain before mirrored."""
        views = [(image, False), (np.ascontiguousarray(image[:, ::-1]), True)][: 1 + self.flip]
        return [self._look(preprocess, view, scale, mirrored) for scale in self.scales for view, mirrored in views]

    def _look(self, preprocess: Preprocess, image: NDArray[np.uint8], scale: float, mirrored: bool) -> Look:
        if self.slide:
            return _windows(preprocess, self.slide, image, scale, mirrored)
        scaled = _scaled(preprocess, scale)
        window = scaled.window((image.shape[0], image.shape[1]))
        return Look([scaled(image)], lambda logits: Answer(logits[0], window, mirrored))

    def described(self, size: Size) -> str:
        """In words, for networks of this input size."""
        height, width = size
        words = "whole images"
        if self.slide:
            at = "images that cover it" if self.slide.cover else "images of their own size"
            words = f"windows of {height}x{width} every {self.slide.stride[0]}x{self.slide.stride[1]} over {at}"
        if self.scales != (1.0,):
            words += f" at scales {', '.join(f'{scale:g}' for scale in self.scales)}"
        return words + (", plain and mirrored" if self.flip else "")


WHOLE = Protocol()
"""Each image once, resized to the network's input."""


def answered(run: Callable[[Floats], Floats], looks: Sequence[Look], batch: int) -> list[Answer]:
    """What the network says to each look: inputs of one size run together, at most ``batch`` of them."""
    inputs = [one for look in looks for one in look.inputs]
    found: dict[int, Floats] = {}
    for shape in dict.fromkeys(one.shape for one in inputs):
        places = [place for place, one in enumerate(inputs) if one.shape == shape]
        for first in range(0, len(places), batch):
            part = places[first : first + batch]
            found.update(zip(part, run(np.stack([inputs[place] for place in part])), strict=True))
    logits = (found[place] for place in range(len(inputs)))
    return [look.join([next(logits) for _ in look.inputs]) for look in looks]


def _scaled(preprocess: Preprocess, scale: float) -> Preprocess:
    height, width = (max(1, round(side * scale)) for side in preprocess.size)
    return replace(preprocess, size=(height, width))


def _windows(preprocess: Preprocess, slide: Slide, image: NDArray[np.uint8], scale: float, mirrored: bool) -> Look:
    """Windows over the image at its scale, padded with 0 where it is smaller than one; logits are their mean."""
    height, width = window = preprocess.shape
    rows, columns = image.shape[:2]
    factor = scale * (max(height / rows, width / columns) if slide.cover else 1)
    frame = max(1, round(rows * factor)), max(1, round(columns * factor))
    pixels = replace(preprocess, size=frame, keep_ratio=False, multiple=1)(image)
    padding = [(0, max(0, side - own)) for side, own in zip(window, frame, strict=True)]
    pixels = np.pad(pixels, [(0, 0), *padding])
    places = list(_places((pixels.shape[1], pixels.shape[2]), window, slide.stride))
    inputs = [pixels[:, top : top + height, left : left + width] for top, left in places]

    def join(logits: Sequence[Floats]) -> Answer:
        return Answer(
            _mean(logits, places, window, (pixels.shape[1], pixels.shape[2]))[:, : frame[0], : frame[1]],
            mirrored=mirrored,
        )

    return Look(inputs, join)


def _places(size: Size, window: Size, stride: Size) -> Iterator[Size]:
    """Top left corners of the windows, row by row; the last of a row and of a column end with the image."""
    tops, lefts = (
        [*range(0, whole - part, step), whole - part] for whole, part, step in zip(size, window, stride, strict=True)
    )
    return ((top, left) for top in tops for left in lefts)


def _mean(logits: Sequence[Floats], places: Sequence[Size], window: Size, size: Size) -> Floats:
    """Logits [c, h, w] at ``size``: each window's, resized to it, averaged where windows overlap."""
    height, width = window
    total, count = np.zeros((len(logits[0]), *size), np.float32), np.zeros(size, np.float32)
    for own, (top, left) in zip(logits, places, strict=True):
        count[top : top + height, left : left + width] += 1
        for plane, said in zip(total, own, strict=True):
            plane[top : top + height, left : left + width] += bilinear(said, window)
    total /= count
    return total
