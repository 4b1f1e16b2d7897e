"""From a file to something that turns images into masks, or into classes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from limbeck.artifact.metadata import Metadata
from limbeck.artifact.palette import Palette, palette
from limbeck.artifact.prediction import ClassPrediction, Prediction, largest
from limbeck.artifact.preprocess import Preprocess
from limbeck.artifact.resize import predict
from limbeck.build import check, find, names
from limbeck.record import UserError

__all__ = ["RUNTIMES", "Predictor", "load"]

Floats = NDArray[np.float32]
Image = NDArray[np.uint8]
Mask = NDArray[np.uint8] | NDArray[np.uint16]

RUNTIMES = {".onnx": "onnxruntime", ".xml": "openvino", ".safetensors": "eager"}
"""What runs a file unless another runtime is asked for."""


@final
class Predictor:
    """Images to masks, or to classes, the same way whatever computes the logits in between.

    Args:
        runtime: Maps ``pixel_values`` [n, 3, h, w] to logits [n, c, h', w'] or [n, c], both float32.
        preprocess: From an image to ``pixel_values``.
        classes: Names of the classes, by id; empty if unknown.
        colours: A colour for every class; made up if there are none.
        metadata: What the file says about itself.
        dense: Whether the network answers for every pixel; else it gives one class an image.

    Attributes:
        info: What really runs, as the runtime tells it.
    """

    def __init__(
        self,
        runtime: Callable[[Floats], Floats],
        preprocess: Preprocess,
        classes: Sequence[str] = (),
        colours: Palette = (),
        metadata: Metadata | None = None,
        dense: bool = True,
    ) -> None:
        self.runtime, self.preprocess, self.metadata, self.dense = runtime, preprocess, metadata, dense
        self.classes, self._colours = tuple(classes), colours
        self.info: dict[str, Any] = getattr(runtime, "info", {})

    @property
    def palette(self) -> Palette:
        """A colour for every class, or for 256 of them where their number is unknown."""
        return self._colours or palette(len(self.classes) or 256)

    def logits(self, pixel_values: Floats) -> Floats:
        """Logits [n, c, h', w'] at the network's own stride, or [n, c] of a classifier.

        Raises:
            UserError: If they hold NaN, or are not one map, or one number, a class.
        """
        logits = np.asarray(self.runtime(pixel_values), np.float32)
        if logits.ndim != (4 if self.dense else 2) or len(logits) != len(pixel_values):
            wanted = "[n, c, h, w]" if self.dense else "[n, c]"
            raise UserError(f"the network gives {list(logits.shape)} for {list(pixel_values.shape)}, not {wanted}.")
        if logits.size and np.isnan(logits.max()):
            raise UserError("the network gives NaN: its weights are broken, or it overflows in this precision.")
        return logits

    def mask_of(self, logits: Floats, image_hw: tuple[int, int], size: tuple[int, int] | None = None) -> Mask:
        """Class ids [h, w] from one image's logits [c, h', w']; the one id, without axes, from a classifier's [c].

        Args:
            image_hw: Size of the image that was preprocessed.
            size: Size of the mask, if not the image's own.
        """
        if not self.dense:
            return largest(logits)
        return predict(logits, size or image_hw, self.preprocess.window(image_hw))

    def masks(self, images: Sequence[Image]) -> list[Mask]:
        """Class ids of images, each at its own size, from one batch."""
        if not images:
            return []
        logits = self.logits(np.stack([self.preprocess(image) for image in images]))
        return [self.mask_of(own, _size(image)) for own, image in zip(logits, images, strict=True)]

    def mask(self, image: Image) -> Mask:
        """Class ids [h, w] of an RGB image [h, w, 3], at its size; the one id of a classifier."""
        (mask,) = self.masks([image])
        return mask

    def __call__(self, image: Image) -> Prediction | ClassPrediction:
        """Mask, or class, with names, colours and logits of an RGB image [h, w, 3]."""
        (logits,) = self.logits(self.preprocess(image)[None])
        if not self.dense:
            return ClassPrediction(int(largest(logits)), self.classes, logits)
        return Prediction(self.mask_of(logits, _size(image)), self.classes, self.palette, logits)


def _size(image: Image) -> tuple[int, int]:
    return image.shape[0], image.shape[1]


def load(
    path: Path,
    *,
    runtime: str | None = None,
    threads: int = 0,
    device: str = "cpu",
    precision: str = "fp32",
    root: Path | None = None,
) -> Predictor:
    """Open an exported file.

    Args:
        path: An ``.onnx``, ``.xml`` or ``.safetensors`` file, or another one that ``runtime`` reads.
        runtime: Kind of runtime; by the suffix if None.
        threads: 0 means the number of physical cores.
        device: ``cpu`` or ``cuda``.
        precision: What the runtime may compute in; ``fp32`` means no less than the file says.
        root: Folder of the recipe, where a file that names a user's own code (``./model.py:build``) finds it. Give it
            only for files you made: without it no such code is run.

    Raises:
        UserError: If the file is missing or has no metadata, no runtime reads it, or its package is missing.
    """
    path = Path(path)
    kind = runtime or RUNTIMES.get(path.suffix)
    if kind is None:
        raise UserError(f"{path}: no runtime known for {path.suffix!r}; readable: {_readable()}; or name a runtime.")
    component = find("runtimes", kind, "runtime", root)
    reads: frozenset[str] = getattr(component, "reads", frozenset())
    if path.suffix not in reads:
        known = ", ".join(sorted(reads))
        raise UserError(f"{path}: {kind} reads {known}, not {path.suffix!r}; readable: {_readable()}.")
    metadata = Metadata.read(path)
    if metadata is None:
        raise UserError(f"{path}: no metadata in it; say what it takes and gives in {path.name}.json beside it.")
    given = {"path": path, "threads": threads, "device": device, "precision": precision, "root": root}
    try:
        engine = component(**check(component, {}, "runtime", kind, given))
    except ValueError as error:
        raise UserError(f"{path}: {kind}: {error}") from error
    dense = _is_dense(metadata.task)
    return Predictor(engine, metadata.preprocess, metadata.classes, metadata.palette, metadata, dense)


def _is_dense(task: str) -> bool:
    """Whether a file of this task answers for every pixel, as those of tasks unknown here are taken to."""
    return bool(find("tasks", task, "task").dense) if task in names("tasks") else True  # type: ignore[attr-defined]


def _readable() -> str:
    return ", ".join(f"{suffix} ({kind})" for suffix, kind in RUNTIMES.items())
