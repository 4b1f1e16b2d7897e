"""One source of a mix: what its recipe says, which part of its images is used, what its classes become."""

from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from limbeck.data.sample import NO_CLASS, VOID, Sample
from limbeck.place import Place, nearest
from limbeck.recipe import Section
from limbeck.record import UserError

__all__ = ["NOT_SCORED", "Source", "cropped", "mapped", "table_of"]

Split = Literal["training", "validation", "test"]
Side = Annotated[float, Field(ge=0)]
NOT_SCORED = "void"
"""What a class is mapped to that no loss and no score shall look at."""


class Source(Section):
    """One data set of a mix."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=40)]
    data: dict[str, Any]
    """``kind`` and arguments, as ``data`` would have them."""
    map: dict[str, str] | None = None
    """From each of its classes, by name or id, to one of the mix or ``void``; None where the names are the mix's."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """How often each image is drawn in an epoch of training."""
    crop: tuple[Side, Side, Side, Side] | None = None
    """Left, top, right and bottom of the part that is used; shares of the image if none is above 1, else pixels."""
    splits: tuple[Split, ...] = ("training", "validation", "test")
    """Where it takes part; ``[test]`` keeps it out of training and of every choice."""

    @field_validator("crop")
    @classmethod
    def _shares_or_pixels(cls, crop: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if crop and max(crop) > 1 and any(value % 1 for value in crop):
            raise ValueError("shares of the image, 0 to 1, and pixels do not mix")
        return crop

    @field_validator("data")
    @classmethod
    def _has_kind(cls, data: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(data.get("kind"), str):
            raise ValueError("say which kind of data set it is, such as {kind: folder, path: ...}")
        return data


def table_of(where: Place, source: Source, theirs: tuple[str, ...], ours: tuple[str, ...]) -> NDArray[np.uint8]:
    """The mix's id for each of the 256 ids of a source; whatever is no class stays void.

    Raises:
        UserError: If a class of the source is left out or mapped twice, or a name is none.
    """
    given = {name: name for name in theirs} if source.map is None else source.map
    table, known = np.full(VOID + 1, VOID, np.uint8), {name: index for index, name in enumerate(ours)}
    seen: dict[int, str] = {}
    for key, target in given.items():
        number = _number(where, source.name, key, theirs)
        if target not in known and target != NOT_SCORED:
            raise UserError(
                f"{where}: {source.name} maps {key!r} to {target!r}, which is no class of the mix."
                f"{nearest(target, [*ours, NOT_SCORED])} Known: {', '.join(ours)}, {NOT_SCORED}."
            )
        if number in seen:
            raise UserError(
                f"{where}: {source.name} maps the class {theirs[number]!r} twice, as {seen[number]!r} and {key!r}."
            )
        seen[number], table[number] = key, known.get(target, VOID)
    left = [name for number, name in enumerate(theirs) if number not in seen]
    if left:
        raise UserError(
            f"{where}: {source.name} has classes that go nowhere: {', '.join(left)}. Map each to one of "
            f"{', '.join(ours)}, or to {NOT_SCORED}."
        )
    return table


def _number(where: Place, name: str, key: str, theirs: tuple[str, ...]) -> int:
    """The id of a source's class that is called by its name or its id."""
    if key in theirs:
        return theirs.index(key)
    number = int(key) if key.isdecimal() else -1
    if not 0 <= number < len(theirs):
        raise UserError(
            f"{where}: {name} has no class {key!r}.{nearest(key, list(theirs))} "
            f"It has {', '.join(theirs) or 'none: its images have no masks'}."
        )
    return number


def mapped(table: NDArray[np.uint8], target: NDArray[np.integer]) -> NDArray[np.integer]:
    """A source's target with the mix's classes: a map [h, w], or one class without axes."""
    if target.ndim:
        found: NDArray[np.integer] = table[target]
        return found
    label = VOID if int(target) == NO_CLASS else table[int(target)]
    return np.asarray(NO_CLASS if label == VOID else label, np.int64)


def cropped(source: Source, sample: Sample, target: Any) -> tuple[NDArray[np.uint8], Any]:
    """The part of a sample's image and target that is used.

    Raises:
        UserError: If it does not lie within the image.
    """
    if source.crop is None:
        return sample.image, target
    height, width = sample.image.shape[:2]
    sides = zip(source.crop, (width, height, width, height), strict=True)
    shares = max(source.crop) <= 1
    left, top, right, bottom = (round(value * side) if shares else round(value) for value, side in sides)
    if not (left < right <= width and top < bottom <= height):
        raise UserError(
            f"{source.name}/{sample.name}: the crop [left, top, right, bottom] = {list(source.crop)} does not lie "
            f"within its image of {height}x{width}."
        )
    part = slice(top, bottom), slice(left, right)
    return np.ascontiguousarray(sample.image[part]), target[part] if np.ndim(target) == 2 else target
