"""Runtimes: one file, one engine that runs exported files.

``Runtime(path, threads=..., device=..., precision=...)`` loads a file once; calling it maps normalised float32
``pixel_values [n, 3, h, w]`` to float32 ``logits``. ``reads`` lists the suffixes; ``info`` says what really runs
(providers, inference precision, version).
"""

from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray


class Runtime(Protocol):
    """What every runtime offers."""

    reads: ClassVar[frozenset[str]]
    info: dict[str, Any]

    def __init__(self, path: Path, *, threads: int = 0, device: str = "cpu", precision: str = "fp32") -> None:
        """Load ``path``; 0 threads means the number of physical cores."""
        ...

    def __call__(self, pixel_values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits of a batch; returns only when they are computed."""
        ...
