"""One image with its truth, as every dataset yields it."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["NO_CLASS", "VOID", "Sample", "void_of"]

VOID = 255
"""The label in a map that no loss and no score looks at."""

NO_CLASS = -1
"""The same for a whole image, where the target is one class: there may be a class 255."""


class _Axes(Protocol):
    @property
    def ndim(self) -> int: ...


def void_of(target: _Axes) -> int:
    """What means void in a target or a batch of them: :data:`VOID` in maps, :data:`NO_CLASS` among classes."""
    return VOID if target.ndim > 1 else NO_CLASS


@dataclass(frozen=True, slots=True)
class Sample:
    """An image and what is on it.

    Attributes:
        image: RGB, uint8, [h, w, 3]; [h, w, 4] with alpha, or channels of a data set of its own.
        target: Class ids [h, w] (uint8 or int64, 255 is void), or the image's one class as an array without axes;
            None where there is no truth.
        name: Stem of the file, or another name that is unique in the split.
        source: Name of the source that it is from, where the data set has several.
        labelled: False where the target says nothing: its classes are made up, void is still what is no picture.
    """

    image: NDArray[np.uint8]
    target: NDArray[np.integer] | None
    name: str
    source: str | None = None
    labelled: bool = True

    @property
    def truth(self) -> NDArray[np.integer] | None:
        """The target as scores may see it: None where there is none, or its classes are not meant."""
        whole_image = self.target is not None and self.target.ndim == 0
        return None if not self.labelled or (whole_image and self.target == NO_CLASS) else self.target
