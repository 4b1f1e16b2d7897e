"""Joint transforms of image and target, drawn from one random stream a sample."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tf

from limbeck.data.augment import effects, has_effects
from limbeck.data.augment_color import as_bytes, color_jitter
from limbeck.data.sample import VOID, Sample
from limbeck.recipe import Augment, Resize

__all__ = ["Augmentation", "fitted_size", "input_size"]

GREY = (124, 116, 104)
"""Padding of images: the mean colour, near 0 once normalised."""

INTERPOLATION = {
    "bilinear": v2.InterpolationMode.BILINEAR, "bicubic": v2.InterpolationMode.BICUBIC,
    "nearest": v2.InterpolationMode.NEAREST_EXACT,
}  # fmt: skip
"""As evaluation resizes; torch's plain "nearest" is half a pixel off."""

TRIES = 10
"""Crops that are drawn at most."""


def input_size(size: tuple[int, int], resize: Resize) -> tuple[int, int]:
    """The networks' input [h, w]: the size, rounded up to the multiple."""
    height, width = (-(-side // resize.multiple) * resize.multiple for side in size)
    return height, width


def fitted_size(image: tuple[int, int], size: tuple[int, int], keep_ratio: bool) -> tuple[int, int]:
    """Size an image is resized to: ``size`` itself, or the largest inside it of the image's own shape."""
    if not keep_ratio:
        return size
    factor = min(size[0] / image[0], size[1] / image[1])
    return max(1, round(image[0] * factor)), max(1, round(image[1] * factor))


class Augmentation:
    """Resize, random zoom, crop, mirror, colour and effects; without ``augment`` only the resize.

    Images are resized once, from their own size to the zoomed one. Padding is mean grey in the image and void in the
    target.
    """

    def __init__(self, size: tuple[int, int], resize: Resize, augment: Augment) -> None:
        self.size, self.resize, self.augment = size, resize, augment
        self.input = input_size(size, resize)
        self.has_effects = has_effects(augment)

    def __call__(self, sample: Sample, rng: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Image float32 [c, h, w] in 0..1 and target int64 [h, w] (None if the sample has none).

        All draws are from ``rng``, in an order that is part of the results: zoom, crops, mirror, colour, and last one
        number that all the effects grow from.
        """
        factor = _uniform(self.augment.scale, rng) if self.augment.scale else 1.0
        height, width = fitted_size(sample.image.shape[:2], self.size, self.resize.mode == "keep_ratio")
        zoomed = max(1, round(height * factor)), max(1, round(width * factor))
        corner = self._corner(sample.target, zoomed, rng) if self.augment.scale else (0, 0)
        crop = Crop(corner, self.input, self.augment.flip and bool(torch.rand((), generator=rng) < 0.5))
        image = torch.from_numpy(crop.image(_resized(sample.image, zoomed, self.resize.interpolation)))
        colours, rest = _split(image) if self.augment.color or self.has_effects else (image, image[:0])
        if self.augment.color:
            colours = color_jitter(colours, self.augment.color, rng)
        if self.has_effects:
            colours = effects(as_bytes(colours), self.augment, int(torch.randint(2**62, (), generator=rng)))
        image = torch.cat([colours[: len(image) - len(rest)], rest]) if len(image) != 3 else colours
        target = None if sample.target is None else torch.from_numpy(crop.mask(sample.target, zoomed))
        return image.float().contiguous().div_(255), target

    def _corner(
        self, mask: NDArray[np.integer] | None, zoomed: tuple[int, int], rng: torch.Generator
    ) -> tuple[int, int]:
        """Top and left of a random crop; drawn again where one class has too much of it."""
        corner = (0, 0)
        for _ in range(TRIES):
            corner = _offset(zoomed[0], self.input[0], rng), _offset(zoomed[1], self.input[1], rng)
            if self.augment.max_share == 1 or mask is None:
                break
            if _largest_share(Crop(corner, self.input, False).mask(mask, zoomed)) < self.augment.max_share:
                break
        return corner


def _grey(channels: int) -> list[int]:
    """Padding of images: mean grey; what is not RGB gets that of green, and behind RGB nothing."""
    return [*GREY, *[0] * (channels - 3)] if channels >= 3 else [GREY[1]] * channels


def _split(image: Tensor) -> tuple[Tensor, Tensor]:
    """Red, green and blue, which colour changes are about, and the other channels."""
    return (image[:3], image[3:]) if len(image) >= 3 else (image[:1].expand(3, -1, -1).contiguous(), image[1:])


@dataclass(frozen=True, slots=True)
class Crop:
    """A window of the network's input size on a zoomed image; what lies outside the image is padded.

    Attributes:
        corner: Top and left; negative where the image is smaller.
        size: Height and width.
        flip: Mirrored afterwards.
    """

    corner: tuple[int, int]
    size: tuple[int, int]
    flip: bool

    def image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Planes [c, h, w] of an image [h', w', c]."""
        (rows, down), (columns, across) = self._overlap(image.shape[:2])
        found = np.empty((image.shape[2], *self.size), np.uint8)
        if (down.stop - down.start, across.stop - across.start) != self.size:
            found[:] = np.asarray(_grey(len(found)), np.uint8)[:, None, None]
        (found[..., ::-1] if self.flip else found)[:, down, across] = image[rows, columns].transpose(2, 0, 1)
        return found

    def mask(self, mask: NDArray[np.integer], zoomed: tuple[int, int]) -> NDArray[np.int64]:
        """Class ids [h, w] of a mask [h', w'], resized to ``zoomed`` by the nearest pixel inside the window alone."""
        (rows, down), (columns, across) = self._overlap(zoomed)
        above, beside = _nearest(mask.shape[0], zoomed[0])[rows], _nearest(mask.shape[1], zoomed[1])[columns]
        if (len(above), len(beside)) == self.size:
            return mask[above][:, beside[::-1] if self.flip else beside].astype(np.int64)
        found = np.full(self.size, VOID, np.int64)
        (found[:, ::-1] if self.flip else found)[down, across] = mask[above][:, beside]
        return found

    def _overlap(self, image: tuple[int, ...]) -> list[tuple[slice, slice]]:
        """For rows and columns, what the window takes of the image and where that lies in the window."""
        found = []
        for side, first, wanted in zip(image, self.corner, self.size, strict=True):
            low, high = max(0, first), min(side, first + wanted)
            found.append((slice(low, high), slice(low - first, high - first)))
        return found


class _Lent:
    """An array without its flag: torch warns of those that are read-only, and a copy would take a tenth of a resize."""

    def __init__(self, array: NDArray[np.uint8]) -> None:
        self.__array_interface__ = array.__array_interface__ | {"data": (array.ctypes.data, False)}
        self.array = array  # which owns the memory


def _resized(image: NDArray[np.uint8], size: tuple[int, int], interpolation: str) -> NDArray[np.uint8]:
    tensor = torch.from_numpy(np.asarray(_Lent(np.ascontiguousarray(image))))
    found = tf.resize(tensor.permute(2, 0, 1), list(size), interpolation=INTERPOLATION[interpolation], antialias=True)
    pixels: NDArray[np.uint8] = found.permute(1, 2, 0).numpy()
    return pixels


@lru_cache(maxsize=1024)
def _nearest(side: int, zoomed: int) -> NDArray[np.int64]:
    """Which of ``side`` pixels each of ``zoomed`` is taken from: torch's own answer, as its roundings are its own."""
    ramp = torch.arange(side, dtype=torch.float32)[None, None, None]
    found: NDArray[np.int64] = F.interpolate(ramp, (1, zoomed), mode="nearest-exact").long().numpy()[0, 0, 0]
    found.setflags(write=False)
    return found


def _largest_share(mask: NDArray[np.int64]) -> float:
    """Of one class among the pixels that are not void; 1 where there is only one class, or none.

    ``cat_max_ratio`` of mmseg's ``RandomCrop``.
    """
    counts = np.bincount(mask[mask != VOID])
    return float(counts.max() / counts.sum()) if np.count_nonzero(counts) > 1 else 1.0


def _uniform(between: tuple[float, float], rng: torch.Generator) -> float:
    return between[0] + (between[1] - between[0]) * float(torch.rand((), generator=rng))


def _offset(side: int, wanted: int, rng: torch.Generator) -> int:
    """Where the crop starts; negative where the image is smaller and is padded on both sides."""
    low, high = sorted((0, side - wanted))
    return int(torch.randint(low, high + 1, (), generator=rng))
