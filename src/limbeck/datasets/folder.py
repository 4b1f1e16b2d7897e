"""A folder of images and masks in any layout."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from limbeck.data.pairs import Pair, find_files, listed, pair, pairs_digest, read_image, read_mask
from limbeck.data.sample import VOID, Sample
from limbeck.record import UserError, digest

__all__ = ["Folder"]


class Folder:
    """Images and index masks paired by stem.

    Args:
        split: Which of the splits to read.
        root: Folder that holds data sets.
        path: The data set's folder, absolute or under ``root``.
        images: Folder or glob of images, with ``{split}`` in it, or one for each split.
        annotations: The same for masks; None reads images alone.
        lists: Text file of stems for a split, likewise; None takes all files.
        classes: Names in the order of their ids, or a file of ``{"0": "name", ...}``; None looks for ``id2label.json``.
        zero_label: Label 0 is "unlabelled": it becomes void and all others move down by one.
        image_suffix: End of an image's stem that its mask does not have, such as ``_leftImg8bit``.
        mask_suffix: End of a mask's stem that its image does not have.
        void: Label values that count as void, besides 255.
        holdout: Share of the images that validation takes out of training, where both name the same files.

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
        holdout: float = 0.0,
    ) -> None:
        if not 0 <= holdout <= 0.5:
            raise ValueError(f"holdout must be between 0 and 0.5, got {holdout}")
        _keep_apart(split, holdout, images, lists)
        self.folder = _existing(root / path)
        self.zero_label, self.void = zero_label, tuple(void or ())
        found = _files(self.folder, images, split)
        masks = [] if annotations is None else _files(self.folder, annotations, split)
        if lists is not None:
            found = listed(found, self.folder / _of_split(lists, split))
        found = _held_out(found, split, holdout)
        if not found:
            raise UserError(f"{self.folder}: the split {split!r} is empty: no images in {_of_split(images, split)!r}.")
        unlabelled = [Pair(image, None, image.stem) for image in found]
        self.pairs = unlabelled if annotations is None else pair(found, masks, image_suffix, mask_suffix)
        self.classes = _class_names(self.folder, classes, annotations is not None)
        if len(self.classes) > VOID:
            raise UserError(f"{self.folder}: {len(self.classes)} classes; at most {VOID} fit, as id 255 is void.")

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        """Read one pair and check it."""
        found = self.pairs[index]
        image = read_image(found.image)
        if found.mask is None:
            return Sample(image, None, found.name)
        height, width = image.shape[:2]
        mask = read_mask(found.mask, len(self.classes), (height, width), self.zero_label, self.void)
        return Sample(image, mask, found.name)

    def digest(self) -> str:
        """Names and contents of the files, the class names and how labels are read."""
        return digest([pairs_digest(self.pairs), self.classes, self.zero_label, self.void])


def _keep_apart(split: str, holdout: float, *layouts: str | Mapping[str, str] | None) -> None:
    """Refuse layouts that train on what they score: a layout without ``{split}`` names the same files for all."""
    files = {name: _named(name, layouts) for name in ("training", "validation", "test")}
    if not holdout and files["training"] and files["training"] == files["validation"]:
        raise UserError(
            f"data.images: training and validation are the same files ({files['training'][0]!r}); set data.holdout, "
            "such as 0.2, or write {split} where they differ."
        )
    if split == "test" and files["test"] and files["test"] in (files["training"], files["validation"]):
        raise UserError(
            f"data.images: 'test' names the same files ({files['test'][0]!r}) as training or validation; score "
            "validation, or give it images of its own: {training: ..., validation: ..., test: ...}."
        )


def _named(split: str, layouts: Sequence[str | Mapping[str, str] | None]) -> tuple[str, ...]:
    """What names the split's files; empty where a layout does not have it."""
    given = [layout for layout in layouts if layout is not None]
    if any(not isinstance(layout, str) and split not in layout for layout in given):
        return ()
    return tuple(_of_split(layout, split) for layout in given)


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such data folder. Give data.path, or set LIMBECK_DATA to the folder that holds it."
        )
    return folder


def _of_split(layout: str | Mapping[str, str], split: str) -> str:
    if isinstance(layout, str):
        return layout.replace("{split}", split)
    if split not in layout:
        raise UserError(f"data: the split {split!r} is not given; known: {', '.join(layout)}.")
    return layout[split]


def _files(folder: Path, layout: str | Mapping[str, str], split: str) -> list[Path]:
    return find_files(folder, _of_split(layout, split))


def _held_out(files: list[Path], split: str, holdout: float) -> list[Path]:
    """Every n-th file for validation, the others for training, so that no file is in both."""
    if not holdout or split == "test":
        return files
    every = round(1 / holdout)
    return [file for number, file in enumerate(files) if (number % every == every - 1) == (split == "validation")]


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
