"""One pass over a split: every file is read and checked, every class counted; remembered by the data's digest."""

import hashlib
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from limbeck.data.sample import Sample, void_of
from limbeck.record import digest, read_json, write_json

__all__ = ["ClassCounts", "Contents", "contents", "copies", "count_classes", "hash_of"]

MADE_BY = 2
"""Changes when a pass over the same data would find something else."""


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


@dataclass(frozen=True)
class Contents:
    """What one pass over a split found.

    Attributes:
        counts: How often each class is there; zeros without truth.
        images: Names of samples by a hash of their image's pixels.
    """

    counts: ClassCounts
    images: dict[str, list[str]]


def count_classes(dataset: Known) -> ClassCounts:
    """How often each class of a split is there; see :func:`contents`."""
    return contents(dataset).counts


def contents(dataset: Known, progress: Callable[[int, int], None] | None = None) -> Contents:
    """Read every sample of a split once: count its classes, and hash its images.

    Raises:
        UserError: For the first sample that cannot be read or holds wrong ids.
    """
    num_classes = len(dataset.classes)  # where data name none, they are those of the weights
    file = cache_folder() / "contents" / f"{digest([MADE_BY, dataset.digest(), num_classes])}.json"
    if file.is_file():
        known = read_json(file)
        return Contents(ClassCounts(**known["counts"]), known["images"])
    pixels, areas = np.zeros(num_classes, np.int64), np.zeros(num_classes, np.int64)
    images: dict[str, list[str]] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        looks = pool.map(lambda index: _look(dataset[index], num_classes), range(len(dataset)))
        for done, (counts, key, name) in enumerate(looks, 1):
            pixels += counts
            areas += np.where(counts > 0, counts.sum(), 0)
            images.setdefault(key, []).append(name)
            if progress:
                progress(done, len(dataset))
    found = Contents(ClassCounts(pixels.tolist(), areas.tolist()), images)
    write_json(file, asdict(found))
    return found


def hash_of(image: NDArray[np.uint8]) -> str:
    """A hash of an image's pixels and size."""
    size = f"{image.shape[0]}x{image.shape[1]}".encode()
    return hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=12, person=size[:16]).hexdigest()


def copies(splits: Mapping[str, Mapping[str, list[str]]]) -> list[dict[str, list[str]]]:
    """Names by split of every image that is, pixel for pixel, in more than one of the splits."""
    where: dict[str, dict[str, list[str]]] = {}
    for split, images in splits.items():
        for key, names in images.items():
            where.setdefault(key, {})[split] = names
    return [found for found in where.values() if len(found) > 1]


def _look(sample: Sample, num_classes: int) -> tuple[NDArray[np.int64], str, str]:
    return _count(sample, num_classes), hash_of(sample.image), sample.name


def _count(sample: Sample, num_classes: int) -> NDArray[np.int64]:
    if sample.target is None or not sample.labelled:
        return np.zeros(num_classes, dtype=np.int64)
    valid = sample.target[sample.target != void_of(sample.target)]
    return np.bincount(valid.ravel(), minlength=num_classes)[:num_classes].astype(np.int64)
