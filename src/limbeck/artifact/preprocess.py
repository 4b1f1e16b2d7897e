"""From an image to a network's input: one rule for every runtime, so that masks are equal."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from limbeck.artifact.resize import Window

__all__ = ["Preprocess"]

Interpolation = Literal["bilinear", "bicubic", "nearest"]
RESAMPLING = {name: Image.Resampling[name.upper()] for name in get_args(Interpolation)}


@dataclass(frozen=True)
class Preprocess:
    """Resize, normalise, pad: the whole way from a picture's pixels to ``pixel_values``.

    The image is resized by Pillow, whose filters look at every pixel when they shrink, and put at the top left; what is
    left of the input is 0 after normalisation. An image that already has its size is not resampled.

    Args:
        size: What the image is resized to, [h, w].
        keep_ratio: Scale the image to fit inside ``size`` instead of squashing it.
        multiple: The input's height and width are ``size`` rounded up to multiples of this.
        mean: Mean of each channel, for values 0-1.
        std: Standard deviation of each channel, for values 0-1.
        interpolation: Pillow's filter.

    Raises:
        ValueError: If a size or standard deviation is not positive, or mean and std differ in length.
    """

    size: tuple[int, int]
    keep_ratio: bool = False
    multiple: int = 1
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        if len(self.size) != 2 or min(*self.size, self.multiple) < 1:
            raise ValueError(f"size and multiple must be at least 1, got {self.size} and {self.multiple}")
        if not self.mean or len(self.mean) != len(self.std) or min(self.std) <= 0:
            raise ValueError(f"mean and std need one value a channel, std above 0, got {self.mean} and {self.std}")
        if self.interpolation not in RESAMPLING:
            raise ValueError(f"interpolation must be one of {', '.join(RESAMPLING)}, got {self.interpolation!r}")

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the network's input."""
        height, width = (-(-side // self.multiple) * self.multiple for side in self.size)
        return height, width

    def region(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        """The part of the input, from its top left corner, that holds an image of this height and width."""
        if not self.keep_ratio:
            return self.size
        scale = min(self.size[0] / image_hw[0], self.size[1] / image_hw[1])
        height, width = (
            min(limit, max(1, round(side * scale))) for side, limit in zip(image_hw, self.size, strict=True)
        )
        return height, width

    def window(self, image_hw: tuple[int, int]) -> Window | None:
        """The region within the input, or None where it fills the input."""
        region = self.region(image_hw)
        return None if region == self.shape else Window(region, self.shape)

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """``pixel_values`` [channels, h, w] of an image [h, w, channels].

        Grey, RGB and RGB with alpha become what the network takes: Pillow's grey, an opaque fourth channel.

        Raises:
            ValueError: If the image is not uint8 or has other channels.
        """
        channels = len(self.mean)
        image = _with_channels(image, channels)
        height, width = region = self.region((image.shape[0], image.shape[1]))
        if image.shape[:2] != region:
            image = _resized(image, (width, height), RESAMPLING[self.interpolation])
        scale = np.asarray([1 / (255 * std) for std in self.std], np.float32)[:, None, None]
        shift = np.asarray([mean / std for mean, std in zip(self.mean, self.std, strict=True)], np.float32)
        pixel_values = np.zeros((channels, *self.shape), np.float32)
        inside = pixel_values[:, :height, :width]
        np.multiply(image.transpose(2, 0, 1), scale, out=inside)
        inside -= shift[:, None, None]
        return pixel_values

    def to_json(self) -> dict[str, Any]:
        """The ``preprocess`` part of a file's metadata."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Preprocess":
        """What :meth:`to_json` wrote; unknown keys are left alone.

        Raises:
            KeyError, TypeError, ValueError: If a value is missing or is of the wrong kind.
        """
        height, width = (int(side) for side in value["size"])
        return cls(
            size=(height, width),
            keep_ratio=bool(value.get("keep_ratio", False)),
            multiple=int(value.get("multiple", 1)),
            mean=tuple(float(channel) for channel in value["mean"]),
            std=tuple(float(channel) for channel in value["std"]),
            interpolation=value.get("interpolation", "bilinear"),
        )


def _with_channels(image: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """An image as the network takes it: grey by Pillow's rule, opaque where it has no alpha."""
    found = image.shape[2] if image.ndim == 3 else 0
    if image.dtype != np.uint8 or (found != count and not {found, count} <= {1, 3, 4}):
        raise ValueError(f"needs a uint8 image [h, w, {count}], got {image.dtype} {list(image.shape)}")
    if found == count:
        return image
    if count == 1:
        return np.asarray(Image.fromarray(np.ascontiguousarray(image[..., :3])).convert("L"))[..., None]
    colours = image[..., :3].repeat(3, -1) if found == 1 else image[..., :3]
    opaque = np.full((*image.shape[:2], 1), 255, np.uint8)
    return np.ascontiguousarray(colours if count == 3 else np.concatenate([colours, opaque], -1))


def _resized(image: NDArray[np.uint8], size: tuple[int, int], filter_: Image.Resampling) -> NDArray[np.uint8]:
    """Channel by channel, but for RGB, which gives the same: Pillow would mix alpha into the colours."""
    if image.shape[2] == 3:
        return np.asarray(Image.fromarray(image).resize(size, filter_))
    channels = (Image.fromarray(np.ascontiguousarray(image[..., at])) for at in range(image.shape[2]))
    return np.stack([np.asarray(channel.resize(size, filter_)) for channel in channels], -1)
