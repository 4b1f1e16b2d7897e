"""Sections of a recipe about images: where they come from, and how they are fed."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from limbeck.recipe.section import Component, Count, Positive, Quality, Section, Share

__all__ = ["Augment", "Chance", "Data", "Resize"]


class Resize(Section):
    """How an image comes to the network's input size."""

    mode: Literal["squash", "keep_ratio"] = "squash"
    """``squash`` to the size, or ``keep_ratio`` and pad at the right and bottom."""
    multiple: Count = 1
    """The padded size is rounded up to a multiple of this."""
    interpolation: Literal["bilinear", "bicubic", "nearest"] = "bilinear"


def _rising(between: tuple[Any, Any]) -> tuple[Any, Any]:
    if between[0] > between[1]:
        raise ValueError(f"a range is [smallest, largest], such as [{between[1]}, {between[0]}]")
    return between


class Chance(Section):
    """Something that happens to some training images; a number alone is its probability."""

    probability: Share
    """Share of the images."""

    @model_validator(mode="before")
    @classmethod
    def _alone(cls, value: Any) -> Any:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return {"probability": value} if is_number else value


class Weather(Chance):
    """Weather, light or noise over some images."""

    strength: Annotated[tuple[Share, Share], AfterValidator(_rising)] = (0.2, 0.8)
    """Range that each image's strength is drawn from, 0 to 1."""


class Blur(Chance):
    """Gaussian blur of some images."""

    sigma: Annotated[tuple[Positive, Positive], AfterValidator(_rising)] = (0.3, 1.5)
    """Range of its width, in pixels of the input."""


class Jpeg(Chance):
    """JPEG artefacts in some images."""

    quality: Annotated[tuple[Quality, Quality], AfterValidator(_rising)] = (30, 90)
    """Range of libjpeg's quality, 1 to 100."""


class Augment(Section):
    """Random changes of training images; the target follows every geometric one."""

    scale: tuple[Positive, Positive] | None = None
    """Range of a random zoom; the result is cropped or padded (void) to the input size."""
    max_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Largest share of one class in a crop; up to ten crops are drawn, and the last one stays (mmseg: 0.75)."""
    flip: bool = False
    """Mirror every second image."""
    color: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Strength of random brightness, contrast and saturation; hue moves by a tenth of it."""
    photometric: bool = False
    """Brightness, contrast, saturation and hue as mmseg distorts them, each in every second image."""
    gravel: Weather | None = None
    """Patches of small stones, light and dark, on the ground."""
    dusk: Weather | None = None
    shadow: Weather | None = None
    fog: Weather | None = None
    rain: Weather | None = None
    snow: Weather | None = None
    blur: Blur | None = None
    noise: Weather | None = None
    """Of a sensor at high ISO."""
    gray: Chance | None = None
    """Without colour, in some images."""
    jpeg: Jpeg | None = None

    @model_validator(mode="after")
    def _room_to_choose(self) -> Self:
        if self.max_share < 1 and self.scale is None:
            raise ValueError("max_share chooses among crops, and without scale there is only one")
        return self


class Data(Component):
    """Where images come from and how they are fed."""

    size: tuple[Annotated[int, Field(ge=16)], Annotated[int, Field(ge=16)]]
    """Input size of the networks, [height, width]."""
    resize: Resize = Resize()
    augment: Augment = Augment()
    unlabelled: str | None = None
    """A folder of images that only the teacher's terms learn from; under the data's root, or absolute."""
    batch: Count = 8
    workers: Annotated[int, Field(ge=0)] | None = None
    """Processes that prepare images ahead; 0 leaves it to a thread, the default beside a CPU that trains."""
    cache: Literal["memory", "disk", "none"] = "memory"
    """Where decoded images are kept: in memory for this run, or in a file of the cache folder for all runs."""
    cache_gib: Positive = 1.0
    """Size of the cache for each split, in GiB; images that do not fit are decoded each time."""
