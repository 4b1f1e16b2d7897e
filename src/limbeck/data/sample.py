"""One image with its truth, as every dataset yields it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["VOID", "Sample"]

VOID = 255
"""The label that no loss and no score looks at."""


@dataclass(frozen=True, slots=True)
class Sample:
    """An image and what is on it.

    Attributes:
        image: RGB, uint8, [h, w, 3].
        target: Class ids [h, w] (uint8 or int64, 255 is void), or None where there is no truth.
        name: Stem of the file, or another name that is unique in the split.
        source: Name of the source that it is from, where the data set has several.
    """

    image: NDArray[np.uint8]
    target: NDArray[np.integer] | None
    name: str
    source: str | None = None
