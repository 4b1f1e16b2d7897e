"""One pass over a split: every file is read and checked, every class counted; remembered by the data's digest."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from limbeck.data.sample import Sample, void_of
from limbeck.record import read_json, write_json

__all__ = ["ClassCounts", "count_classes"]


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


@dataclass(frozen=True)
class ClassCounts:
    """How often each class is there.

    Attributes:
        pixels: Pixels of each class, or images of it where each has one class; void left out.
        areas: Pixels that are not void of all the images that each class is in.
    """

    pixels: list[int]
    areas: list[int]


def count_classes(dataset: Known, progress: Callable[[int, int], None] | None = None) -> ClassCounts:
    """Count the classes of a split; zeros without truth.

    Raises:
        UserError: For the first sample that cannot be read or holds wrong ids.
    """
    num_classes = len(dataset.classes)  # where data name none, they are those of the weights
    file = cache_folder() / "class_counts" / f"{dataset.digest()}-{num_classes}.json"
    if file.is_file():
        return ClassCounts(**read_json(file))
    pixels, areas = np.zeros(num_classes, np.int64), np.zeros(num_classes, np.int64)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, counts in enumerate(pool.map(lambda i: _count(dataset[i], num_classes), range(len(dataset))), 1):
            pixels += counts
            areas += np.where(counts > 0, counts.sum(), 0)
            if progress:
                progress(done, len(dataset))
    found = ClassCounts(pixels.tolist(), areas.tolist())
    write_json(file, asdict(found))
    return found


def _count(sample: Sample, num_classes: int) -> NDArray[np.int64]:
    if sample.target is None or not sample.labelled:
        return np.zeros(num_classes, dtype=np.int64)
    valid = sample.target[sample.target != void_of(sample.target)]
    return np.bincount(valid.ravel(), minlength=num_classes)[:num_classes].astype(np.int64)
