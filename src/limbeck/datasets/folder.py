"""A folder of images and masks in any layout."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from limbeck.data.colours import Colour, ColourTable, colours_of, read_colour_mask
from limbeck.data.licence import Licence
from limbeck.data.pairs import Pair, find_files, pair, pairs_digest, read_image, read_mask
from limbeck.data.sample import VOID, Sample
from limbeck.datasets._folder_splits import Splits, named
from limbeck.record import UserError, digest

__all__ = ["Folder"]


class Folder:
    """Images and masks paired by stem; a mask holds class ids or, with ``colours``, colours.

    Args:
        split: Which of the splits to read.
        root: Folder that holds data sets.
        path: The data set's folder, absolute or under ``root``.
        images: Folder or glob of images, with ``{split}`` in it, or one for each split.
        annotations: The same for masks; None reads images alone.
        lists: Text file of stems for a split, likewise; None takes all files.
        classes: Names in the order of their ids, or a file of ``{"0": "name", ...}``; None takes those of ``colours``,
            else looks for ``id2label.json``.
        zero_label: Label 0 is "unlabelled": it becomes void and all others move down by one.
        image_suffix: End of an image's stem that its mask does not have, such as ``_leftImg8bit``.
        mask_suffix: End of a mask's stem that its image does not have.
        void: Label values that count as void, besides 255.
        colours: Masks hold colours: the colour, or several, of each class, or a colour a class in the order of the ids.
        void_colours: Colours that count as void; any other colour is an error.
        holdout: Share of the images that validation takes out of training, where both name the same files.
        group: Regular expression for the sequence that an image is of, in its stem or, with a slash in it, in its
            path: its first group, else all that it fits. Whole sequences are held out, and splits may share none.
        licence: Terms that the data come under, to be shown and carried by exported files.
        alpha: The network takes a fourth channel.

    Raises:
        UserError: If the folder, the split's files, masks or the class names are missing, or images would be both
            trained on and scored.
    """

    palette: tuple[tuple[int, int, int], ...] = ()

    def __init__(
        self,
        split: str,
        root: Path,
        *,
        path: str,
        images: str | Mapping[str, str] = "images/{split}",
        annotations: str | Mapping[str, str] | None = "annotations/{split}",
        lists: str | Mapping[str, str] | None = None,
        classes: list[str] | str | None = None,
        zero_label: bool = False,
        image_suffix: str = "",
        mask_suffix: str = "",
        void: list[int] | None = None,
        colours: Mapping[str, Colour | list[Colour]] | list[Colour] | None = None,
        void_colours: list[Colour] | None = None,
        holdout: float = 0.0,
        group: str | None = None,
        licence: str | None = None,
        alpha: bool = False,
    ) -> None:
        _check(holdout, group, colours, void_colours, zero_label or bool(void))
        self.folder = _existing(root / path)
        self.zero_label, self.void, self.alpha = zero_label, tuple(void or ()), alpha
        self.licence = Licence.named(licence) if licence else None
        found = Splits(self.folder, images, lists, holdout, group).files(split)
        masks = [] if annotations is None else find_files(self.folder, named(annotations, split))
        unlabelled = [Pair(image, None, image.stem) for image in found]
        self.pairs = unlabelled if annotations is None else pair(found, masks, image_suffix, mask_suffix)
        if classes is None and isinstance(colours, Mapping):
            classes = list(colours)
        self.classes = _class_names(self.folder, classes, annotations is not None)
        if len(self.classes) > VOID:
            raise UserError(f"{self.folder}: {len(self.classes)} classes; at most {VOID} fit, as id 255 is void.")
        self.colours: ColourTable | None = None
        if colours is not None:
            several = colours_of(colours, self.classes)
            self.colours, self.palette = ColourTable(several, void_colours or ()), tuple(each[0] for each in several)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        """Read one pair and check it."""
        found = self.pairs[index]
        image = read_image(found.image, alpha=self.alpha)
        if found.mask is None:
            return Sample(image, None, found.name)
        size = (image.shape[0], image.shape[1])
        if self.colours is not None:
            return Sample(image, read_colour_mask(found.mask, self.colours, size), found.name)
        return Sample(image, read_mask(found.mask, len(self.classes), size, self.zero_label, self.void), found.name)

    def digest(self) -> str:
        """Names and contents of the files, the class names and how labels are read."""
        read_as: list[Any] = [self.classes, self.zero_label, self.void]
        if self.colours is not None:
            read_as += [self.colours.codes.tolist(), self.colours.ids.tolist()]
        return digest([pairs_digest(self.pairs), *read_as])


def _check(
    holdout: float, group: str | None, colours: Any, void_colours: Sequence[Colour] | None, of_ids: bool
) -> None:
    """Refuse arguments that do not go together."""
    if not 0 <= holdout <= 0.5:
        raise ValueError(f"holdout must be between 0 and 0.5, got {holdout}")
    if colours is not None and of_ids:
        raise ValueError("zero_label and void are for masks of ids; masks of colours have void_colours")
    if void_colours and colours is None:
        raise ValueError("void_colours is for masks of colours; give colours too, or void for masks of ids")
    try:
        re.compile(group or "")
    except re.error as error:
        raise ValueError(f"group: {group!r} is no regular expression ({error})") from error


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such data folder. Give data.path, or set LIMBECK_DATA to the folder that holds it."
        )
    return folder


def _class_names(folder: Path, classes: list[str] | str | None, needed: bool) -> tuple[str, ...]:
    if isinstance(classes, list):
        return tuple(classes)
    file = folder / (classes or "id2label.json")
    if not file.is_file():
        if classes is None and not needed:
            return ()
        raise UserError(
            f'{file}: no such file of class names. Write one ({{"0": "sky", ...}}) or list them in data.classes.'
        )
    try:
        names = {int(key): str(name) for key, name in json.loads(file.read_text(encoding="utf-8")).items()}
        return tuple(names[i] for i in range(len(names)))
    except (ValueError, KeyError, AttributeError) as error:
        raise UserError(
            f'{file}: class names look like {{"0": "sky", "1": "road", ...}} without gaps ({error}).'
        ) from error
