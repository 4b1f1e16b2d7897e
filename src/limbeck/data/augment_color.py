"""Colour changes of uint8 images [3, h, w]: jitter with torchvision's numbers, and mmseg's photometric distortion."""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from limbeck.data.augment_hue import hue

__all__ = ["as_bytes", "color_jitter", "photometric"]

Floats = NDArray[np.float32]


def color_jitter(image: Tensor, strength: float, rng: torch.Generator) -> Tensor:
    """Brightness, contrast and saturation within 1 -+ ``strength`` and hue within a tenth of it, in random order.

    Draws and computes bit for bit what ``torchvision.transforms.v2.ColorJitter`` does from the same stream, in half of
    its time: levels are whole numbers in float32 between the steps and after them, as torch is slow to make bytes.

    Returns:
        float32, 0 to 255.
    """
    order = torch.randperm(4, generator=rng).tolist()
    low, tenth = max(0.0, 1.0 - strength), strength / 10
    factors = [_drawn(low, 1 + strength, rng) for _ in range(3)] + [_drawn(-tenth, tenth, rng)]
    steps = (_brightness, _contrast, _saturation, _hue)
    levels = image.contiguous().float()  # planes: several times faster than interleaved channels
    for step in order:
        levels = steps[step](levels, factors[step])
    return levels


def _drawn(low: float, high: float, rng: torch.Generator) -> float:
    return float(torch.empty(1).uniform_(low, high, generator=rng))


def _brightness(levels: Tensor, factor: float) -> Tensor:
    return _whole(levels.mul_(factor))


def _contrast(levels: Tensor, factor: float) -> Tensor:
    mean = _grey(levels).mean(dim=(-3, -2, -1), keepdim=True)
    return _whole(levels.mul_(factor).add_(mean, alpha=1 - factor))


def _saturation(levels: Tensor, factor: float) -> Tensor:
    grey = _grey(levels)
    return _whole(levels.mul_(factor).add_(grey, alpha=1 - factor))


def _hue(levels: Tensor, turn: float) -> Tensor:
    return hue(as_bytes(levels), turn).float()


def _whole(levels: Tensor) -> Tensor:
    return levels.clamp_(0, 255).floor_()


def _grey(levels: Tensor) -> Tensor:
    red, green, blue = levels.unbind(-3)
    return red.mul(0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114).floor_()[None]


def as_bytes(levels: Tensor) -> Tensor:
    """Levels as uint8, if they are not yet; in a seventh of the time of torch's own conversion."""
    return torch.from_numpy(levels.numpy().astype(np.uint8, copy=False))


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
