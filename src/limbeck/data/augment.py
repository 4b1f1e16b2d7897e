"""The effects of ``data.augment`` on an image, in the order of nature: ground, light, weather, lens, sensor, file."""

import numpy as np
import torch
from torch import Tensor

from limbeck.data.augment_camera import blur, gray, jpeg, noise
from limbeck.data.augment_color import photometric
from limbeck.data.augment_weather import dusk, fog, gravel, rain, shadow, snow
from limbeck.recipe import Augment, Chance

__all__ = ["effects", "has_effects"]

WEATHER = {"gravel": gravel, "dusk": dusk, "shadow": shadow, "fog": fog, "rain": rain, "snow": snow}
CAMERA = ("blur", "noise", "gray", "jpeg")
DRAWN = ("photometric", "dusk", "shadow", "fog", "rain", "snow", "blur", "noise", "jpeg", "gravel", "gray")
"""A position here is a random stream: new effects go to the end of the list, or all others change."""


def has_effects(augment: Augment) -> bool:
    """Whether anything here would ever be drawn."""
    return augment.photometric or any(getattr(augment, name) is not None for name in (*WEATHER, *CAMERA))


def effects(image: Tensor, augment: Augment, seed: int) -> Tensor:
    """The image uint8 [3, h, w] after all effects that this ``seed`` draws; what one draws depends on no other."""
    streams = {name: np.random.default_rng([seed, number]) for number, name in enumerate(DRAWN)}
    if augment.photometric:
        image = photometric(image, streams["photometric"])
    pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
    for name, change in WEATHER.items():
        section = getattr(augment, name)
        if _happens(section, streams[name]):
            pixels = change(pixels, streams[name].uniform(*section.strength), streams[name])
    return torch.from_numpy(np.array(_through_camera(pixels, augment, streams))).permute(2, 0, 1)


def _through_camera(pixels: np.ndarray, augment: Augment, streams: dict[str, np.random.Generator]) -> np.ndarray:
    if augment.blur is not None and _happens(augment.blur, streams["blur"]):
        pixels = blur(pixels, streams["blur"].uniform(*augment.blur.sigma))
    if augment.noise is not None and _happens(augment.noise, streams["noise"]):
        pixels = noise(pixels, streams["noise"].uniform(*augment.noise.strength), streams["noise"])
    if _happens(augment.gray, streams["gray"]):
        pixels = gray(pixels)
    if augment.jpeg is not None and _happens(augment.jpeg, streams["jpeg"]):
        low, high = augment.jpeg.quality
        pixels = jpeg(pixels, int(streams["jpeg"].integers(low, high + 1)))
    return pixels


def _happens(section: Chance | None, rng: np.random.Generator) -> bool:
    return section is not None and rng.random() < section.probability
