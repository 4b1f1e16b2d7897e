"""Colour changes of uint8 images [3, h, w]: jitter with torchvision's numbers, and mmseg's photometric distortion."""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as tf

__all__ = ["color_jitter", "hue", "photometric"]

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


def color_jitter(image: Tensor, strength: float, rng: torch.Generator) -> Tensor:
    """Brightness, contrast and saturation within 1 -+ ``strength`` and hue within a tenth of it, in random order.

    Draws and returns bit for bit what ``torchvision.transforms.v2.ColorJitter`` does from the same stream.
    """
    order = torch.randperm(4, generator=rng).tolist()
    low, tenth = max(0.0, 1.0 - strength), strength / 10
    factors = [_drawn(low, 1 + strength, rng) for _ in range(3)] + [_drawn(-tenth, tenth, rng)]
    steps = (tf.adjust_brightness_image, tf.adjust_contrast_image, tf.adjust_saturation_image, hue)
    image = image.contiguous()  # planes: several times faster than interleaved channels
    for step in order:
        image = steps[step](image, factors[step])
    return image


def _drawn(low: float, high: float, rng: torch.Generator) -> float:
    return float(torch.empty(1).uniform_(low, high, generator=rng))


def hue(image: Tensor, turn: float) -> Tensor:
    """Hue of a uint8 image turned by a share of the circle: torchvision's ``adjust_hue``, bit for bit, and faster.

    A turn moves the largest and the smallest channel of a pixel without changing them, and changes the middle one:
    only that is computed, and the order of the three is chosen among bytes.
    """
    red, green, blue = image.numpy()
    high = np.maximum(np.maximum(red, green), blue)
    low = np.minimum(np.minimum(red, green), blue)
    is_red, is_green = _mask(high == red), _mask(high == green)
    ahead = _chosen(is_red, blue, _chosen(is_green, red, green))
    behind = _chosen(is_red, green, _chosen(is_green, blue, red))
    third = _chosen(is_red, np.uint8(0), _chosen(is_green, np.uint8(2), np.uint8(4)))
    value, grey = _unit(high), high == low
    span = value - _unit(low)
    divisor = span + grey  # where all channels are equal there is nothing to divide
    sector = (value - _unit(ahead)) / divisor + third - (value - _unit(behind)) / divisor
    sector = _fraction(_fraction(sector * np.float32(1 / 6) + 1) + np.float32(turn)) * 6
    whole = np.floor(sector)
    saturation = span / (value + grey * (1 - value))
    rising = (sector - whole) * saturation
    odd = whole.astype(np.uint8) & 1
    middle = np.where(odd, 1 - rising, rising + (1 - saturation)) * value
    middle = (np.clip(middle, 0, 1) * np.float32(255.999)).astype(np.uint8)
    return torch.from_numpy(_dealt(whole.astype(np.uint8), high, middle, low))


def _unit(channel: Bytes) -> Floats:
    return channel.astype(np.float32) * np.float32(1 / 255)


def _fraction(value: Floats) -> Floats:
    found: Floats = value - np.floor(value)
    return found


def _mask(where: NDArray[np.bool_]) -> Bytes:
    return np.negative(where.view(np.uint8))


def _chosen(mask: Bytes, one: Bytes | np.uint8, other: Bytes | np.uint8) -> Bytes:
    """``np.where`` among bytes, in a tenth of its time; ``mask`` is 255 or 0."""
    return ((one ^ other) & mask) ^ other


def _dealt(sector: Bytes, high: Bytes, middle: Bytes, low: Bytes) -> Bytes:
    """RGB of the largest, middle and smallest channel in each sixth of the hue circle; a sixth sixth is the first."""
    is_ = [sector == number for number in range(6)]
    is_[0] |= sector == 6
    red = _chosen(_mask(is_[2] | is_[3]), low, _chosen(_mask(is_[1] | is_[4]), middle, high))
    green = _chosen(_mask(is_[4] | is_[5]), low, _chosen(_mask(is_[0] | is_[3]), middle, high))
    blue = _chosen(_mask(is_[0] | is_[1]), low, _chosen(_mask(is_[2] | is_[5]), middle, high))
    return np.stack((red, green, blue))


def photometric(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Brightness, contrast, saturation and hue, each every second time, as mmseg's ``PhotoMetricDistortion``.

    Brightness adds up to 32 of 255, contrast multiplies by 0.5 to 1.5 before or after saturation (0.5 to 1.5) and hue
    (18 of 180). Liu et al., SSD, 2016, section 2.2 ("Data augmentation") after Howard 2013.
    """
    pixels = image.permute(1, 2, 0).numpy().astype(np.float32)
    if rng.random() < 0.5:
        pixels = _cut(pixels + rng.uniform(-32, 32))
    late = rng.random() < 0.5
    contrast = rng.uniform(0.5, 1.5) if rng.random() < 0.5 else 1.0
    pixels = pixels if late else _cut(pixels * contrast)
    saturation = rng.uniform(0.5, 1.5) if rng.random() < 0.5 else 1.0
    turn = int(rng.integers(-18, 18)) / 180 if rng.random() < 0.5 else 0.0
    if saturation != 1.0 or turn:
        pixels = _in_hsv(pixels, saturation, turn)
    pixels = _cut(pixels * contrast) if late else pixels
    return torch.from_numpy(pixels.astype(np.uint8)).permute(2, 0, 1)


def _cut(pixels: Floats) -> Floats:
    return np.floor(np.clip(pixels, 0, 255))


def _in_hsv(pixels: Floats, saturation: float, turn: float) -> Floats:
    hsv = np.asarray(Image.fromarray(pixels.astype(np.uint8)).convert("HSV")).astype(np.float32)
    hsv[..., 0] = (hsv[..., 0] + round(turn * 256)) % 256
    hsv[..., 1] = _cut(hsv[..., 1] * saturation)
    found = Image.fromarray(hsv.astype(np.uint8), "HSV").convert("RGB")
    return np.asarray(found).astype(np.float32)
