"""Joint transforms of image and target, drawn from one random stream a sample."""

from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tf

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
    """Resize, random zoom, crop, mirror and colour; without ``augment`` only the resize.

    Images are resized once, from their own size to the zoomed one. Padding is mean grey in the image and void in the
    target.
    """

    def __init__(self, size: tuple[int, int], resize: Resize, augment: Augment) -> None:
        self.size, self.resize, self.augment = size, resize, augment
        self.input = input_size(size, resize)
        strength = augment.color
        self.color = v2.ColorJitter(strength, strength, strength, strength / 10) if strength else None

    def __call__(self, sample: Sample, rng: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Image float32 [3, h, w] in 0..1 and target int64 [h, w] (None if the sample has none).

        ``rng`` draws the geometry; the colour is drawn from torch's global stream, which the caller forks.
        """
        image = tv_tensors.Image(torch.from_numpy(sample.image.copy()).permute(2, 0, 1))
        mask = None if sample.target is None else tv_tensors.Mask(torch.from_numpy(sample.target.copy())[None])
        factor = _uniform(self.augment.scale, rng) if self.augment.scale else 1.0
        height, width = fitted_size(sample.image.shape[:2], self.size, self.resize.mode == "keep_ratio")
        zoomed = [max(1, round(height * factor)), max(1, round(width * factor))]
        mode = INTERPOLATION[self.resize.interpolation]
        image = tf.resize(image, zoomed, interpolation=mode, antialias=True)
        top, left = (
            _offset(side, wanted, rng) if self.augment.scale else 0
            for side, wanted in zip(zoomed, self.input, strict=True)
        )
        flip = self.augment.flip and bool(torch.rand((), generator=rng) < 0.5)
        image = _placed(image, top, left, self.input, flip, GREY)
        if self.color is not None:
            image = self.color(image)
        if mask is not None:
            mask = tf.resize(mask, zoomed, interpolation=v2.InterpolationMode.NEAREST_EXACT)
            mask = _placed(mask, top, left, self.input, flip, float(VOID))
        target = None if mask is None else mask.as_subclass(Tensor)[0].long()
        return image.as_subclass(Tensor).contiguous().float().div_(255), target


def _uniform(between: tuple[float, float], rng: torch.Generator) -> float:
    return between[0] + (between[1] - between[0]) * float(torch.rand((), generator=rng))


def _offset(side: int, wanted: int, rng: torch.Generator) -> int:
    """Where the crop starts; negative where the image is smaller and is padded on both sides."""
    low, high = sorted((0, side - wanted))
    return int(torch.randint(low, high + 1, (), generator=rng))


def _placed(image: Any, top: int, left: int, size: tuple[int, int], flip: bool, fill: Any) -> Any:
    height, width = image.shape[-2:]
    padding = [max(0, -left), max(0, -top), max(0, left + size[1] - width), max(0, top + size[0] - height)]
    image = (
        tf.crop(tf.pad(image, padding, fill=fill), max(0, top), max(0, left), *size)
        if any(padding)
        else tf.crop(image, top, left, *size)
    )
    return tf.horizontal_flip(image) if flip else image
