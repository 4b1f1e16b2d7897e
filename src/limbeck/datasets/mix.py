"""Several data sets as one: each with its own weight, crop and map into one list of classes."""

from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import numpy as np

from limbeck import show
from limbeck.build import build
from limbeck.data.sample import VOID, Sample
from limbeck.datasets import Dataset
from limbeck.datasets._absent import absent
from limbeck.datasets._mix_source import NOT_SCORED, Source, cropped, mapped, table_of
from limbeck.place import Place
from limbeck.record import UserError, digest

__all__ = ["Mix"]

DATA = Place("recipe", ("data",))


class Mix:
    """Samples of several sources, one source after the other, with the classes of the mix.

    An image without a target counts as unlabelled where others have one.

    Args:
        split: Which of the splits to read.
        root: Folder that holds data sets.
        where: Place in the recipe, for messages.
        classes: Names in the order of their ids.
        sources: Each has ``name``, ``data``, ``map``, ``weight``, ``crop`` and ``splits``.
        colours: One RGB colour a class; None takes any distinct ones.
        missing: ``refuse`` names the sources that are not on this machine, ``skip`` goes on without them.

    Attributes:
        sources: Names of the sources that have this split.
        draws: For each of them its number of samples and how many of these an epoch of training draws.

    Raises:
        UserError: If a source is missing, or its map leaves out a class or names one that does not exist.
    """

    def __init__(
        self,
        split: str,
        root: Path,
        *,
        classes: list[str],
        sources: list[Source],
        colours: list[tuple[int, int, int]] | None = None,
        missing: Literal["refuse", "skip"] = "refuse",
        where: Place = DATA,
    ) -> None:
        _check_names(classes, sources, colours)
        self.classes, self.palette = tuple(classes), tuple(colours or ())
        where = where / "sources"
        present = _present(split, root, sources, missing, where)
        self._given, self._parts = [source for _, source, _ in present], [part for _, _, part in present]
        self._tables = [
            table_of(where / index / "map", source, tuple(part.classes), self.classes)
            for index, source, part in present
        ]
        self._ends = list(accumulate(len(part) for part in self._parts))
        self.sources = tuple(source.name for source in self._given)
        self.draws = tuple(
            (len(part), max(1, round(len(part) * source.weight)))
            for part, source in zip(self._parts, self._given, strict=True)
        )

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Sample:
        """The sample of a source, cropped, with the mix's classes; its name starts with the source's."""
        index = range(len(self))[index]
        which = bisect_right(self._ends, index)
        sample = self._parts[which][index - (self._ends[which - 1] if which else 0)]
        source, target, axes = self._given[which], sample.target, self._axes
        labelled = target is not None and sample.labelled
        if target is None and axes is not None:
            target = np.zeros(sample.image.shape[:axes], np.uint8)
        elif target is not None and labelled:  # else it says which pixels are picture, and has no classes to map
            target = mapped(self._tables[which], target)
        image, target = cropped(source, sample, target)
        name = f"{source.name}/{sample.name}"
        return Sample(image, target, name, source.name, labelled=labelled or target is None)

    @property
    def pairs(self) -> list[Any]:
        """Files of all sources that are files."""
        return [pair for part in self._parts for pair in getattr(part, "pairs", [])]

    def digest(self) -> str:
        """Names and data of the sources, how they are cropped, and what their classes become."""
        parts = zip(self._given, self._parts, self._tables, strict=True)
        return digest([self.classes, [(s.name, p.digest(), t.tolist(), s.crop) for s, p, t in parts]])

    @cached_property
    def _axes(self) -> int | None:
        """Axes of the targets, 2 of maps and 0 of classes; None where no source has any."""
        targets = (part[0].target for part in self._parts)
        return next((target.ndim for target in targets if target is not None), None)


def _check_names(classes: Sequence[str], sources: Sequence[Source], colours: Sequence[Any] | None) -> None:
    names = [source.name for source in sources]
    for what, given in (("classes", classes), ("sources", names)):
        if len(set(given)) != len(given) or not given:
            raise ValueError(f"{what}: each needs a name of its own, got {', '.join(given) or 'none'}")
    if NOT_SCORED in classes or len(classes) > VOID:
        raise ValueError(
            f"classes: at most {VOID}, and none may be called {NOT_SCORED!r}: pixels mapped to that count as void"
        )
    if colours is not None and len(colours) != len(classes):
        raise ValueError(f"colours: {len(colours)} for {len(classes)} classes; give one a class, or none")


def _present(
    split: str, root: Path, sources: Sequence[Source], missing: str, where: Place
) -> list[tuple[int, Source, Dataset]]:
    """Sources of the split that are on this machine, with their places in the recipe.

    Raises:
        UserError: If one of them cannot be read, or is missing and may not be.
    """
    wanted = [(index, source) for index, source in enumerate(sources) if split in source.splits]
    if not wanted:
        raise UserError(f"{where}: the split {split!r} is empty: no source has it among its `splits`.")
    found, lost = [], {}
    for index, source in wanted:
        try:
            found.append((index, source, _build(split, root, source, where / index)))
        except UserError:
            if not (missed := absent(source.data, root)):
                raise
            lost[source.name] = missed[0]
    shown = ", ".join(f"{name} ({path})" for name, path in lost.items())
    if lost and (missing == "refuse" or not found):
        others = ", or go on without with data.missing: skip" if found else ""
        raise UserError(f"{where}: no files of {shown}. Put them under LIMBECK_DATA ({root}){others}.")
    if lost:
        show.say(f"data: the {split} split goes without {shown}")
    return found


def _build(split: str, root: Path, source: Source, where: Place) -> Dataset:
    try:
        part: Dataset = build("datasets", source.data, where / "data", split=split, root=root, where=where / "data")
        if not len(part):
            raise UserError(f"the split {split!r} is empty; leave it out of the source's `splits`.")
    except UserError as error:
        raise UserError(f"{where}: {source.name}: {error}") from error
    return part
