"""Joint transforms of image and target, drawn from one random stream a sample."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tf

from limbeck.data.augment import effects, has_effects
from limbeck.data.augment_color import color_jitter
from limbeck.data.sample import VOID, Sample
from limbeck.recipe import Augment, Resize

__all__ = ["Augmentation", "fitted_size", "input_size"]

GREY = [124.0, 116.0, 104.0]
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
        image = _tensor(sample.image).permute(2, 0, 1)
        factor = _uniform(self.augment.scale, rng) if self.augment.scale else 1.0
        height, width = fitted_size(sample.image.shape[:2], self.size, self.resize.mode == "keep_ratio")
        zoomed = [max(1, round(height * factor)), max(1, round(width * factor))]
        mask = None if sample.target is None else _resized(_tensor(sample.target)[None], zoomed)
        corner = self._corner(zoomed, mask, rng) if self.augment.scale else (0, 0)
        flip = self.augment.flip and bool(torch.rand((), generator=rng) < 0.5)
        image = tf.resize(image, zoomed, interpolation=INTERPOLATION[self.resize.interpolation], antialias=True)
        image = _placed(image, corner, self.input, flip, GREY if len(image) == 3 else _grey(len(image)))
        colours, rest = _split(image) if self.augment.color or self.has_effects else (image, image[:0])
        if self.augment.color:
            colours = color_jitter(colours, self.augment.color, rng)
        if self.has_effects:
            colours = effects(colours, self.augment, int(torch.randint(2**62, (), generator=rng)))
        image = torch.cat([colours, rest]) if len(rest) else colours
        target = None if mask is None else _placed(mask, corner, self.input, flip, float(VOID))[0].long()
        return image.float().contiguous().div_(255), target

    def _corner(self, zoomed: Sequence[int], mask: Tensor | None, rng: torch.Generator) -> tuple[int, int]:
        """Top and left of a random crop; drawn again where one class has too much of it."""
        corner = (0, 0)
        for _ in range(TRIES):
            corner = _offset(zoomed[0], self.input[0], rng), _offset(zoomed[1], self.input[1], rng)
            if self.augment.max_share == 1 or mask is None:
                break
            if _largest_share(_placed(mask, corner, self.input, False, float(VOID))) < self.augment.max_share:
                break
        return corner


def _grey(channels: int) -> list[float]:
    """Padding of images that are not RGB: mean grey, behind it nothing."""
    return [*GREY, *[0.0] * (channels - 3)] if channels > 3 else [GREY[1]] * channels


def _split(image: Tensor) -> tuple[Tensor, Tensor]:
    """Red, green and blue, which colour changes are about, and the other channels."""
    return (image[:3], image[3:]) if len(image) >= 3 else (image[:1].expand(3, -1, -1).contiguous(), image[1:])


def _tensor(array: NDArray[Any]) -> Tensor:
    """The array's own memory, which nothing here writes to."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of arrays that are read-only
        return torch.from_numpy(array)


def _resized(mask: Tensor, size: Sequence[int]) -> Tensor:
    found: Tensor = tf.resize(mask, size, interpolation=v2.InterpolationMode.NEAREST_EXACT)
    return found


def _largest_share(mask: Tensor) -> float:
    """Of one class among the pixels that are not void; 1 where there is only one class, or none.

    ``cat_max_ratio`` of mmseg's ``RandomCrop``.
    """
    counts = torch.bincount(mask[mask != VOID].long())
    return float(counts.max() / counts.sum()) if len(counts.nonzero()) > 1 else 1.0


def _uniform(between: tuple[float, float], rng: torch.Generator) -> float:
    return between[0] + (between[1] - between[0]) * float(torch.rand((), generator=rng))


def _offset(side: int, wanted: int, rng: torch.Generator) -> int:
    """Where the crop starts; negative where the image is smaller and is padded on both sides."""
    low, high = sorted((0, side - wanted))
    return int(torch.randint(low, high + 1, (), generator=rng))


def _placed(image: Tensor, corner: tuple[int, int], size: tuple[int, int], flip: bool, fill: Any) -> Tensor:
    top, left = corner
    height, width = image.shape[-2:]
    padding = [max(0, -left), max(0, -top), max(0, left + size[1] - width), max(0, top + size[0] - height)]
    image = (
        tf.crop(tf.pad(image, padding, fill=fill), max(0, top), max(0, left), *size)
        if any(padding)
        else tf.crop(image, top, left, *size)
    )
    return tf.horizontal_flip(image) if flip else image
