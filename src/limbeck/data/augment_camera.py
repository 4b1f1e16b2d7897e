"""What lens, sensor and file do to uint8 images [h, w, 3]."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

__all__ = ["blur", "gray", "jpeg", "noise"]

Pixels = NDArray[np.uint8]


def blur(image: Pixels, sigma: float) -> Pixels:
    """Gaussian blur; ``sigma`` in pixels of the network's input."""
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(sigma)))


def noise(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """A sensor at high ISO: noise of variance a I + b, independent in each channel; ``strength`` from 0 to 1.

    Shot and read noise, Foi et al., Practical Poissonian-Gaussian noise modeling and fitting, 2008, equation 1. At full
    strength the standard deviation is 19 of 255 in the dark and 37 in the light.
    """
    shot, read = 4.0 * strength**2, 19.0 * strength
    levels = np.sqrt(shot * np.arange(256, dtype=np.float32) + read**2)
    found = image + levels[image] * rng.standard_normal(image.shape, dtype=np.float32)
    clipped: Pixels = np.clip(found + 0.5, 0, 255).astype(np.uint8)
    return clipped


def gray(image: Pixels) -> Pixels:
    """Luma in all three channels: 0.299 red + 0.587 green + 0.114 blue, ITU-R BT.601, as Pillow has it."""
    return np.repeat(np.asarray(Image.fromarray(image).convert("L"))[..., None], 3, axis=2)


def jpeg(image: Pixels, quality: int) -> Pixels:
    """Written as JPEG and read again; ``quality`` as Pillow and libjpeg count it, 1 to 100."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))
