"""The images of a classifier that the report shows: changed by INT8, taken for another class, typical."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from limbeck.datasets import Dataset
from limbeck.record import whole

__all__ = ["class_sample", "class_samples"]


class Answers(Protocol):
    """The classes that rows gave to images, arrays without axes."""

    @property
    def rows(self) -> list[str]: ...

    def has(self, row: str, index: int) -> bool: ...

    def mask(self, row: str, index: int) -> NDArray[np.integer[Any]]: ...


def class_samples(
    dataset: Dataset, answers: Answers, found: Sequence[dict[str, Any]], reference: str, count: int, folder: Path
) -> list[dict[str, Any]]:
    """Write up to ``count`` images into ``folder`` and say of each its true class and what every row took it for.

    Args:
        found: The evaluated rows.
        reference: Id of the FP32 student's row.
    """
    images = {row["id"]: row.get("images") or [] for row in found}
    integer = next((row["id"] for row in found if row["precision"] == "int8" and _agreements(images[row["id"]])), "")
    chosen = _chosen(images.get(reference, []), images.get(integer, []), count)
    return [class_sample(dataset, answers, index, why, folder) for index, why in chosen]


def _agreements(images: Sequence[dict[str, Any]]) -> bool:
    return bool(images) and "agreement" in images[0]


def _chosen(own: Sequence[dict[str, Any]], integer: Sequence[dict[str, Any]], count: int) -> list[tuple[int, str]]:
    """Indices and reasons: up to a third changed, up to a third wrong, and the rest evenly spread."""
    changed = [index for index, image in enumerate(integer) if image["agreement"] < 100]
    wrong = [index for index, image in enumerate(own) if image["accuracy"] == 0]
    wishes = [(i, "changed by INT8") for i in _spread(changed, count // 3)]
    wishes += [(i, "wrong") for i in _spread(wrong, count // 3)]
    wishes += [(i, "typical") for i in _spread(range(len(own)), count)]
    unique: dict[int, str] = {}
    for index, why in wishes:
        unique.setdefault(index, why)
    return list(unique.items())[:count]


def _spread(indices: Sequence[int], count: int) -> list[int]:
    """Up to ``count`` of the indices, evenly spread."""
    if not indices or not count:
        return []
    return [indices[i] for i in dict.fromkeys(np.linspace(0, len(indices) - 1, count).astype(int).tolist())]


def class_sample(dataset: Dataset, answers: Answers, index: int, why: str, folder: Path) -> dict[str, Any]:
    """Write an image into ``folder`` and say what it is, and what every row took it for."""
    sample = dataset[index]
    name = f"{index:05d}.jpg"
    with whole(folder / name) as part:
        Image.fromarray(sample.image).save(part, quality=92)
    return {
        "name": sample.name, "why": why, "image": f"{folder.name}/{name}",
        "label": None if sample.truth is None else int(sample.truth),
        "labels": {row: int(answers.mask(row, index)) for row in answers.rows if answers.has(row, index)},
    }  # fmt: skip
