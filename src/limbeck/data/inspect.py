"""One tolerant pass over a split: what is in it, and everything that is wrong with it."""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from limbeck.data.sample import Sample, void_of
from limbeck.data.stats import Known, cache_folder, copies, hash_of
from limbeck.record import UserError, digest, read_json, write_json

__all__ = ["Survey", "duplicates", "grouped", "survey"]

MADE_BY = 2
"""Changes when a survey of the same data would say something else."""


@dataclass
class Survey:
    """What a split holds.

    Attributes:
        images: Samples that could be read.
        labelled: Those with a truth.
        class_pixels: Pixels of each class, or images of it where a target is one label; void left out.
        class_images: Images that each class is in.
        class_areas: Pixels that are not void of all the images that each class is in.
        void: Pixels without a class.
        sizes: Number of images of each size, ``height x width``.
        mean: Mean of red, green and blue, 0 to 1, over all pixels.
        std: Their standard deviation.
        pixels: Sample names by a hash of their image's pixels.
        problems: What is wrong, a line each.
    """

    images: int = 0
    labelled: int = 0
    class_pixels: list[int] = field(default_factory=list)
    class_images: list[int] = field(default_factory=list)
    class_areas: list[int] = field(default_factory=list)
    void: int = 0
    sizes: dict[str, int] = field(default_factory=dict)
    mean: list[float] = field(default_factory=lambda: [0.0] * 3)
    std: list[float] = field(default_factory=lambda: [0.0] * 3)
    pixels: dict[str, list[str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def survey(dataset: Known, progress: Callable[[int, int], None] | None = None) -> Survey:
    """Read every sample once; a sound split is remembered by its digest, one with problems is read again."""
    file = cache_folder() / "survey" / f"{digest([MADE_BY, dataset.digest(), dataset.classes])}.json"
    if file.is_file():
        return Survey(**read_json(file))
    found = _read(dataset, progress)
    if not found.problems:
        write_json(file, asdict(found))
    return found


def _read(dataset: Known, progress: Callable[[int, int], None] | None) -> Survey:
    found, count = Survey(), len(dataset.classes)
    levels = np.zeros((3, 256), np.int64)
    total, present, areas = (np.zeros(count, np.int64) for _ in range(3))
    sizes: Counter[str] = Counter()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, one in enumerate(pool.map(lambda index: _look(dataset, index, count), range(len(dataset))), 1):
            if progress:
                progress(done, len(dataset))
            if isinstance(one, str):
                found.problems.append(one)
                continue
            found.images += 1
            found.labelled += one.labelled
            found.void += one.void
            sizes[one.size] += 1
            total, present, levels = total + one.pixels, present + (one.pixels > 0), levels + one.levels
            areas += np.where(one.pixels > 0, one.pixels.sum(), 0)
            found.pixels.setdefault(one.hash, []).append(one.name)
    found.class_pixels, found.class_images, found.class_areas = total.tolist(), present.tolist(), areas.tolist()
    found.sizes = dict(sizes.most_common())
    found.mean, found.std = _moments(levels)
    return found


@dataclass(frozen=True)
class _Look:
    name: str
    size: str
    hash: str
    labelled: bool
    void: int
    pixels: Any
    levels: Any


def _look(dataset: Known, index: int, count: int) -> _Look | str:
    """What one sample adds, or what is wrong with it."""
    try:
        sample = dataset[index]
    except UserError as error:
        return str(error)
    pixels, void = _classes(sample, count)
    levels = np.stack([np.bincount(sample.image[..., channel].ravel(), minlength=256) for channel in range(3)])
    size = f"{sample.image.shape[0]}x{sample.image.shape[1]}"
    key = hash_of(sample.image)
    return _Look(sample.name, size, key, sample.target is not None and sample.labelled, void, pixels, levels)


def _classes(sample: Sample, count: int) -> tuple[Any, int]:
    if sample.target is None or not sample.labelled:
        return np.zeros(count, np.int64), 0
    target = sample.target.ravel()
    valid = target[target != void_of(sample.target)]
    return np.bincount(valid, minlength=count)[:count].astype(np.int64), int(target.size - valid.size)


def _moments(levels: Any) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel, exactly, from how often each of its 256 values occurs."""
    value, number = np.arange(256) / 255, np.maximum(levels.sum(1), 1)
    mean = levels @ value / number
    spread = np.sqrt(np.maximum(levels @ value**2 / number - mean**2, 0.0))
    return mean.tolist(), spread.tolist()


def duplicates(surveys: Mapping[str, Survey]) -> list[str]:
    """A line for every image that is, pixel for pixel, in more than one split."""
    return [_same(splits) for splits in copies({split: found.pixels for split, found in surveys.items()})]


def _same(splits: Mapping[str, Iterable[str]]) -> str:
    shown = " and ".join(f"{', '.join(names)} in {split}" for split, names in splits.items())
    return f"the same image is {shown}: what is trained on must not be scored."


SHOWN = 3
"""Places of equal problems that are named after the first."""


def grouped(problems: Iterable[str]) -> list[str]:
    """A line for each sort of problem: the first of it in full, how many are like it, and where the next of them are.

    Problems are ``place: what``, or ``split: place: what``; they are of one sort if they say the same in one split,
    numbers aside.
    """
    sorts: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for line in problems:
        split, place, what = _parts(line)
        sorts.setdefault((split, re.sub(r"\d+", "#", what)), []).append((place, line))
    return [_told(places) for places in sorts.values()]


def _parts(line: str) -> tuple[str, str, str]:
    """Split, place and what is wrong, as far as a problem says them."""
    split, _, rest = line.partition(": ")
    place, colon, what = rest.partition(": ")
    if split.isidentifier() and colon:
        return split, place, what
    return ("", split, rest)


def _told(problems: list[tuple[str, str]]) -> str:
    (_, first), *others = problems
    if not others:
        return first
    more = f", and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
    return f"{first}\n  {len(others)} more like it: {', '.join(place for place, _ in others[:SHOWN])}{more}"
