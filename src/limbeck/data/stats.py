"""One pass over a split: every file is read and checked, every class counted; remembered by the data's digest."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from limbeck.data.sample import Sample, void_of
from limbeck.record import read_json, write_json

__all__ = ["class_pixels"]


class Known(Protocol):
    """A dataset, as far as this file is concerned."""

    classes: tuple[str, ...]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...

    def digest(self) -> str: ...


def cache_folder() -> Path:
    """``LIMBECK_CACHE``, else the user's cache folder."""
    given = os.environ.get("LIMBECK_CACHE")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "limbeck"


def class_pixels(dataset: Known, progress: Callable[[int, int], None] | None = None) -> NDArray[np.int64]:
    """Pixels of each class over the split, or images where each has one class; void left out, zeros without truth.

    Raises:
        UserError: For the first sample that cannot be read or holds wrong ids.
    """
    file = cache_folder() / "class_pixels" / f"{dataset.digest()}.json"
    if file.is_file():
        return np.asarray(read_json(file), dtype=np.int64)
    total = np.zeros(len(dataset.classes), dtype=np.int64)
    num_classes = len(total)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, counts in enumerate(pool.map(lambda i: _count(dataset[i], num_classes), range(len(dataset))), 1):
            total += counts
            if progress:
                progress(done, len(dataset))
    write_json(file, total.tolist())
    return total


def _count(sample: Sample, num_classes: int) -> NDArray[np.int64]:
    if sample.target is None or not sample.labelled:
        return np.zeros(num_classes, dtype=np.int64)
    valid = sample.target[sample.target != void_of(sample.target)]
    return np.bincount(valid.ravel(), minlength=num_classes)[:num_classes].astype(np.int64)
