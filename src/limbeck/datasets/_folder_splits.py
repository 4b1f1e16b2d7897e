"""Which files of a folder are trained on and which are scored, and that no file is both."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from limbeck.data.pairs import find_files, listed
from limbeck.datasets._layout import held_out
from limbeck.record import UserError

__all__ = ["Layout", "Splits", "named"]

Layout = str | Mapping[str, str]
"""A path or glob with ``{split}`` in it, or one for each split."""

SPLITS = ("training", "validation", "test")


@dataclass(frozen=True)
class Splits:
    """How a folder's images are shared out.

    Attributes:
        folder: The data set's folder.
        images: Where the images of each split are.
        lists: Text files of names, where only some of them are taken.
        holdout: Share that validation takes out of training, where both name the same files.
        group: Regular expression for the sequence that an image is of.
    """

    folder: Path
    images: Layout
    lists: Layout | None
    holdout: float
    group: str | None

    def files(self, split: str) -> list[Path]:
        """The split's images.

        Raises:
            UserError: If an image would be both trained on and scored, or the split is not given or empty.
        """
        self._refuse_equal_layouts(split)
        found = self._chosen(split)
        if not found:
            where = named(self.images, split)
            raise UserError(f"{self.folder}: the split {split!r} is empty: no images in {where!r}.")
        for other in ("training", "validation"):
            if other != split and self._names(other):
                self._refuse_overlap(split, found, other, self._elsewhere(other))
        return found

    def _elsewhere(self, split: str) -> list[Path]:
        """Images of a split that was not asked for; what is wrong with it is said when it is."""
        try:
            return self._chosen(split)
        except UserError:
            return []

    def _chosen(self, split: str) -> list[Path]:
        found = find_files(self.folder, named(self.images, split))
        if self.lists is not None:
            found = listed(found, self.folder / named(self.lists, split))
        if not self.holdout or split == "test":
            return found
        if self.group is None:
            return _evenly(found, split, self.holdout)
        return _whole_groups(found, self._groups(found, self.group), split, self.holdout)

    def _groups(self, files: Sequence[Path], pattern: str) -> list[str]:
        """The sequence of each file, as the pattern finds it in its stem or, with a slash in it, in its path."""
        found = []
        for file in files:
            inside = file.relative_to(self.folder) if file.is_relative_to(self.folder) else file
            match = re.search(pattern, inside.with_suffix("").as_posix() if "/" in pattern else file.stem)
            if match is None:
                raise UserError(f"{file}: data.group {pattern!r} fits nothing in its name.")
            found.append(match[1] if match.re.groups else match[0])
        return found

    def _names(self, split: str) -> tuple[str, ...]:
        """What names the split's files; empty where a layout does not have it."""
        given = [layout for layout in (self.images, self.lists) if layout is not None]
        if any(not isinstance(layout, str) and split not in layout for layout in given):
            return ()
        return tuple(named(layout, split) for layout in given)

    def _refuse_equal_layouts(self, split: str) -> None:
        """A layout without ``{split}`` names the same files for all splits."""
        files = {name: self._names(name) for name in SPLITS}
        if not self.holdout and files["training"] and files["training"] == files["validation"]:
            raise UserError(
                f"data.images: training and validation are the same files ({files['training'][0]!r}); set "
                "data.holdout, such as 0.2, or write {split} where they differ."
            )
        if self.holdout and files["training"] != files["validation"]:
            named_apart = " and ".join(", ".join(files[name]) or "none" for name in SPLITS[:2])
            raise UserError(
                f"data.holdout: is for training and validation that name the same files; these are {named_apart}. "
                "Leave it out, or name the same files for both: `images: images`."
            )
        if split == "test" and files["test"] and files["test"] in (files["training"], files["validation"]):
            raise UserError(
                f"data.images: 'test' names the same files ({files['test'][0]!r}) as training or validation; score "
                "validation, or give it images of its own: {training: ..., validation: ..., test: ...}."
            )

    def _refuse_overlap(self, split: str, files: Sequence[Path], other: str, others: Sequence[Path]) -> None:
        both = sorted(set(files) & set(others))
        if both:
            raise UserError(
                f"{self.folder}: {len(both)} images are in {split} and in {other} too, such as {both[0].name}; take "
                "them out of one, or scores say nothing."
            )
        if self.group is None:
            return
        shared = sorted(set(self._groups(files, self.group)) & set(self._groups(others, self.group)))
        if shared:
            raise UserError(
                f"{self.folder}: {split} and {other} share {len(shared)} sequences of data.group, such as "
                f"{shared[0]!r}; neighbouring frames on both sides reward memory. Move each to one side."
            )


def named(layout: Layout, split: str) -> str:
    """The path or glob that a layout has for a split.

    Raises:
        UserError: If it has none.
    """
    if isinstance(layout, str):
        return layout.replace("{split}", split)
    if split not in layout:
        raise UserError(f"data: the split {split!r} is not given; known: {', '.join(layout)}.")
    return layout[split]


def _evenly(files: list[Path], split: str, holdout: float) -> list[Path]:
    """Validation's share of the files, evenly spread over them, or all the others for training."""
    return [file for number, file in enumerate(files) if held_out(number, holdout) == (split == "validation")]


def _whole_groups(files: list[Path], groups: Sequence[str], split: str, holdout: float) -> list[Path]:
    """Validation's share of whole groups, or all the others for training."""
    scored = _scored_groups(groups, holdout)
    if files and not 0 < len(scored) < len(set(groups)):
        raise UserError(
            f"data.holdout: {holdout} of {len(set(groups))} groups leaves one side without any; another share or a "
            "finer data.group would work."
        )
    return [file for file, group in zip(files, groups, strict=True) if (group in scored) == (split == "validation")]


def _scored_groups(groups: Sequence[str], holdout: float) -> set[str]:
    """Groups, evenly spread in their order, that together hold about the share of the images."""
    sizes: dict[str, int] = {}
    for group in groups:
        sizes[group] = sizes.get(group, 0) + 1
    scored: set[str] = set()
    seen = taken = 0
    for group, size in sizes.items():
        seen += size
        if taken + size / 2 <= holdout * seen:
            taken += size
            scored.add(group)
    return scored
