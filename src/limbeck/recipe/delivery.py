"""Sections of a recipe about what comes after training: integers, files, scores, speed."""

from typing import Annotated, Literal

from pydantic import Field

from limbeck.recipe.section import Component, Count, Positive, Section
from limbeck.recipe.training import Qat

__all__ = ["Bench", "Evaluate", "Export", "Quantize"]


class Calibration(Section):
    """Images that set the first activation ranges; never those that are scored."""

    samples: Count = 200
    images: str | None = None
    """A folder of images; training images if absent."""


class Quantize(Component):
    """From float to integers, for one target runtime."""

    kind: str = "pt2e"
    calibration: Calibration = Calibration()
    qat: Qat | None = None


class Export(Component):
    """A file format to write."""

    kind: str = "onnx"
    dynamic: list[Literal["height", "width"]] = []
    """Sizes that stay free in the file; batch always is."""


class Slide(Section):
    """Scoring by a window of the networks' input size that moves over the image."""

    overlap: Annotated[float, Field(ge=0, lt=1)] = 1 / 3
    """Share of a window's height and width that the next one covers again."""
    stride: tuple[Count, Count] | None = None
    """Pixels between two windows, [height, width]; instead of ``overlap``."""
    image: Literal["cover", "own"] = "cover"
    """``cover`` resizes the image, in its own shape, until it just covers the window; ``own`` leaves it as it is."""

    def strides(self, size: tuple[int, int]) -> tuple[int, int]:
        """Pixels between two windows of this size."""
        height, width = self.stride or (max(1, round(side * (1 - self.overlap))) for side in size)
        return height, width


class Evaluate(Section):
    """Which split is scored, and how images are shown to the networks: whole and once, unless said otherwise."""

    split: Literal["training", "validation", "test", "unlabelled"] = "validation"
    """``unlabelled``: images without truth, where a data set has them; then networks are compared with each other."""
    batch: Count = 8
    slide: Slide | None = None
    flip: bool = False
    """Average with the mirrored image's answer."""
    scales: Annotated[list[Positive], Field(min_length=1)] = [1.0]
    """Average the answers to the image at these multiples of its size."""
    boundary: bool = False
    """Score edges too (boundary IoU): one or two milliseconds an image."""
    samples: Annotated[int, Field(ge=0)] = 8
    """Images that the report shows: best, worst, most changed by quantization, typical."""


class Bench(Section):
    """How speed is measured."""

    runtimes: list[str] = ["eager", "onnxruntime", "openvino"]
    threads: Annotated[int, Field(ge=0)] = 0
    """0 means the number of physical cores."""
    warmup: Annotated[int, Field(ge=0)] = 10
    runs: Count = 60
    rounds: Count = 4
    """Turns that every row gets, forwards and backwards in turn."""
    batches: list[Count] = [1, 8]
    """Batch sizes tried for throughput."""
