"""Weather, light and loose stones over uint8 images [h, w, 3]: drawn, not simulated; ``strength`` is in 0 to 1."""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

__all__ = ["dusk", "fog", "gravel", "rain", "shadow", "snow"]

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
GAMMA = 2.2
"""Between the values of a file and light."""


def fog(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Light lost with distance and replaced by that of the air: I t + A (1 - t), t = exp(-beta d).

    Koschmieder's law as in Sakaridis et al., Semantic foggy scene understanding, 2018, equations 1 and 2. There is no
    depth, so that distance grows from the lower edge to a drawn horizon, and the fog is thicker here than there.
    """
    height, width = image.shape[:2]
    horizon, bright = rng.uniform(0.2, 0.5), rng.uniform(190, 235)
    air = 0.5 * bright + 0.5 * float(np.percentile(image, 95))  # fog at dusk is darker than at noon
    rows = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    distance = np.clip(1.15 - (rows - horizon) / (1 - horizon), 0.15, 1.0)
    through = np.exp(-3.0 * strength * distance * _clouds(height, width, rng))[..., None]
    return _bytes(image * through + air * (1 - through))


def _clouds(height: int, width: int, rng: np.random.Generator) -> Floats:
    """A smooth field around 1."""
    coarse = Image.fromarray(rng.uniform(0.6, 1.4, (4, 6)).astype(np.float32))
    found: Floats = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
    return found


def dusk(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Less light, down to a sixteenth, bluer and with less colour, as eyes and cameras have it after sunset."""
    light = (np.arange(256, dtype=np.float32) / 255) ** GAMMA
    light = light[image] * np.float32(2.0 ** (-4.0 * strength * rng.uniform(0.8, 1.0)))
    grey = light @ np.asarray([0.2126, 0.7152, 0.0722], np.float32)
    light += (grey[..., None] - light) * np.float32(0.5 * strength)
    light *= 1 - np.float32(strength) * np.asarray([0.35, 0.15, 0.0], np.float32)
    return _bytes(255 * light ** np.float32(1 / GAMMA))


def rain(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Slanted bright streaks, near ones longer and wider, under a darker and flatter sky light."""
    height, width = image.shape[:2]
    layer = Image.new("L", (width, height))
    draw, slant = ImageDraw.Draw(layer), np.tan(np.radians(rng.uniform(-20, 20)))
    number = int(strength * height * width / 160)
    for x, y, near in rng.random((number, 3)):
        length = height * (0.02 + 0.08 * near**2) * (0.5 + strength)
        start = (x * 1.4 - 0.2) * width, (y * 1.2 - 0.2) * height
        end = start[0] + slant * length, start[1] + length
        draw.line([start, end], fill=int(50 + 100 * near), width=1 + int(near > 0.85) * max(1, height // 300))
    streaks = np.asarray(layer.filter(ImageFilter.GaussianBlur(0.5)), np.float32)[..., None] / 255
    dull = 1 - np.float32(0.3 * strength)
    flat = image * dull + (1 - dull) * 0.6 * image.mean(dtype=np.float32)
    return _bytes(flat + streaks * (225 - flat))


def snow(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """White flakes, near ones larger and softer, before air that is brighter for them."""
    height, width = image.shape[:2]
    found = image + np.float32(0.3 * strength) * (215 - image.astype(np.float32))
    for reach, share, blur in ((0.003, 200, 0.6), (0.006, 900, 1.0), (0.014, 6000, 2.0)):
        layer = Image.new("L", (width, height))
        draw = ImageDraw.Draw(layer)
        for x, y, size in rng.random((int(strength * height * width / share), 3)):
            radius = max(0.7, height * reach * (0.5 + size))
            centre = x * width, y * height
            draw.ellipse([centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius], fill=220)
        soft = layer.filter(ImageFilter.GaussianBlur(max(0.5, blur * height / 360)))
        flakes = np.asarray(soft, np.float32)[..., None] / 255
        found += flakes * (245 - found)
    return _bytes(found)


def shadow(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """One soft-edged shadow with four corners, in the lower part of the image."""
    height, width = image.shape[:2]
    left, span = rng.uniform(-0.3, 0.9), rng.uniform(0.3, 0.8)
    top = rng.uniform(0.3, 0.7)
    edges = rng.uniform(-0.25, 0.25, 2)
    corners = ((left, top), (left + span, top), (left + span + edges[0], 1.0), (left + edges[1], 1.0))
    layer = Image.new("L", (width, height))
    ImageDraw.Draw(layer).polygon([(x * width, y * height) for x, y in corners], fill=255)
    shade = np.asarray(layer.filter(ImageFilter.GaussianBlur(height / 90)), np.float32)[..., None] / 255
    return _bytes(image * (1 - np.float32(0.75 * strength) * shade))


def gravel(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Five patches of small stones in the lower part, each stone lighter or darker than the ground it lies on.

    Stones grow towards the lower edge, where they are near; their number grows with ``strength``.
    """
    height, width = image.shape[:2]
    layer = Image.new("L", (width, height), 128)
    draw = ImageDraw.Draw(layer)
    for x, y in zip(rng.uniform(0.1, 0.9, 5), rng.uniform(0.5, 0.95, 5), strict=True):
        near = (y - 0.4) / 0.6
        spread = np.asarray([0.16 * width, 0.07 * height]) * near
        number = math.ceil(strength * spread[0] * spread[1] / 4)
        for (east, south), size, light in zip(
            rng.standard_normal((number, 2)), rng.uniform(0.5, 1.5, number), rng.uniform(-90, 90, number), strict=True
        ):
            radius = max(0.5, size * near * height / 200)
            centre = x * width + east * spread[0] / 2, y * height + south * spread[1] / 2
            box = [centre[0] - radius, centre[1] - 0.7 * radius, centre[0] + radius, centre[1] + 0.7 * radius]
            draw.ellipse(box, fill=int(128 + light))
    day = np.float32(min(1.0, float(image.mean()) / 100))  # at night stones are hardly lighter than the road
    return _bytes(image + day * (np.asarray(layer, np.float32) - 128)[..., None])


def _bytes(values: NDArray[np.floating]) -> Pixels:
    found: Pixels = np.clip(values + 0.5, 0, 255).astype(np.uint8)
    return found
