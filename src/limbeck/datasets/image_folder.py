"""A folder of images for each class, in the layout of torchvision, ImageNet or the Intel scenes."""

import hashlib
from collections.abc import Mapping, Sequence
from itertools import permutations
from pathlib import Path

import numpy as np

from limbeck.data.pairs import IMAGES, Pair, pairs_digest, read_image
from limbeck.data.sample import Sample
from limbeck.place import nearest
from limbeck.record import UserError, digest

__all__ = ["ImageFolder"]

LAYOUTS: dict[str, tuple[str, ...]] = {
    "training": ("training", "train", "seg_train/seg_train", "seg_train"),
    "validation": ("validation", "val", "valid"),
    "test": ("test", "seg_test/seg_test", "seg_test"),
    "unlabelled": ("unlabelled", "seg_pred/seg_pred", "seg_pred"),
}
"""Folders of each split, the first that is there counts."""

HOLDOUT = 0.1
LITTER = ("thumbs.db", "desktop.ini")
"""What file browsers leave behind, besides hidden files."""


class ImageFolder:
    """Images whose class is the name of the folder they lie in: ``path/<split>/<class>/*``, at any depth.

    Folders of the splits are found by their usual names. Where there is none for validation, it takes a share of the
    training images of each class, chosen by a hash of their names, so that the test images never select anything. A
    split folder with images and no class folders has no truth.

    Args:
        split: Which of the splits to read; ``unlabelled`` too.
        root: Folder that holds data sets.
        path: The data set's folder, absolute or under ``root``.
        folders: Folder of each split inside ``path``; a split that is not named does not exist. None looks for
            ``training`` or ``train``, ``validation``, ``val`` or ``valid``, ``test``, and the Intel scenes' ``seg_*``.
        classes: Names of the class folders in the order of their ids; the training folders in alphabetical order if
            None.
        holdout: Share of each class's training images that validation takes, where it has no folder of its own; 0.1
            if None.

    Raises:
        UserError: If a folder is missing or empty, two splits share one, the splits have different classes, or a file
            is no image.
    """

    palette: tuple[tuple[int, int, int], ...] = ()

    def __init__(
        self,
        split: str,
        root: Path,
        *,
        path: str,
        folders: dict[str, str] | None = None,
        classes: list[str] | None = None,
        holdout: float | None = None,
    ) -> None:
        if holdout is not None and not 0 < holdout <= 0.5:
            raise ValueError(f"holdout must be above 0 and at most 0.5, got {holdout}")
        self.folder = root / path
        if not self.folder.is_dir():
            raise UserError(
                f"{self.folder}: no such data folder. Give data.path, or set LIMBECK_DATA to the folder that holds it."
            )
        found = _split_folders(self.folder, folders)
        shares = "validation" not in found and split in ("training", "validation")
        if holdout is not None and "validation" in found:
            raise UserError(
                f"data.holdout: there is a validation folder, {found['validation']}; leave holdout out, or name the "
                "folders without it: data.folders."
            )
        files = _existing(self.folder, found, "training" if shares else split)
        self.classes = tuple(classes) if classes is not None else _class_names(found, files)
        self.pairs, self.labels = _labelled(files, self.classes)
        if shares:
            self._share(holdout or HOLDOUT, split == "validation")

    def _share(self, holdout: float, validation: bool) -> None:
        """Keep what the split gets of every class: validation the images with the lowest hashes, training the rest."""
        kept: list[int] = []
        by_label: dict[int | None, list[int]] = {}
        for index, label in enumerate(self.labels):
            by_label.setdefault(label, []).append(index)
        for label, own in by_label.items():
            if label is not None and len(own) < 2:
                raise UserError(
                    f"{self.folder}: class {self.classes[label]!r} has one training image, and validation needs one of "
                    "it too; add images, or a validation folder."
                )
            count = max(1, round(holdout * len(own)))
            held = set(sorted(own, key=lambda index: _hash(self.pairs[index].name))[:count])
            kept += [index for index in own if (index in held) == validation]
        self.pairs = [self.pairs[index] for index in sorted(kept)]
        self.labels = [self.labels[index] for index in sorted(kept)]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        """Read one image."""
        found, label = self.pairs[index], self.labels[index]
        return Sample(read_image(found.image), None if label is None else np.array(label, np.int64), found.name)

    def digest(self) -> str:
        """Names and contents of the files, and their classes."""
        return digest([pairs_digest(self.pairs), self.labels, self.classes])


def _hash(name: str) -> str:
    return hashlib.blake2b(name.encode(), digest_size=8).hexdigest()


def _split_folders(folder: Path, given: Mapping[str, str] | None) -> dict[str, Path]:
    """The folders of the splits: those that are given, else those that are there."""
    if given is None:
        return {s: folder / n for s, names in LAYOUTS.items() for n in reversed(names) if (folder / n).is_dir()}
    for split in given:
        if split not in LAYOUTS:
            known = ", ".join(LAYOUTS)
            raise UserError(f"data.folders: no such split {split!r}.{nearest(split, list(LAYOUTS))} Known: {known}.")
    found = {split: folder / name for split, name in given.items()}
    _refuse_overlap({split: place for split, place in found.items() if split != "unlabelled"})
    return found


def _refuse_overlap(found: Mapping[str, Path]) -> None:
    """What is trained on, or selects, is not what is scored."""
    for one, other in permutations(found, 2):
        if found[other].resolve().is_relative_to(found[one].resolve()):
            raise UserError(
                f"data.folders: {other} ({found[other]}) lies in {one} ({found[one]}); scores on images that were "
                "trained on say nothing. Without a validation folder, validation takes a share of training by itself."
            )


def _existing(folder: Path, found: Mapping[str, Path], split: str) -> Path:
    if split not in found:
        tried = ", ".join(LAYOUTS.get(split, ())) or "nothing"
        raise UserError(
            f"{folder}: no folder for the split {split!r} (tried {tried}); name it: data.folders: {{{split}: ...}}."
        )
    if not found[split].is_dir():
        raise UserError(f"{found[split]}: no such folder, which data.folders names for {split}.")
    return found[split]


def _class_names(found: Mapping[str, Path], files: Path) -> tuple[str, ...]:
    """The class folders of training, or of the split itself where there is no training; none for plain images."""
    training = found.get("training", files)
    return tuple(sorted(path.name for path in _visible(training if training.is_dir() else files) if path.is_dir()))


def _visible(folder: Path) -> list[Path]:
    return [p for p in sorted(folder.iterdir()) if not p.name.startswith(".") and p.name.lower() not in LITTER]


def _labelled(folder: Path, classes: Sequence[str]) -> tuple[list[Pair], list[int | None]]:
    """Images of a split and the ids of their classes; without class folders all ids are None."""
    inside = _visible(folder)
    own = [path.name for path in inside if path.is_dir()]
    if not own:
        pairs = _images(folder, folder)
        return pairs, [None] * len(pairs)
    loose = [path for path in inside if not path.is_dir()]
    if loose:
        raise UserError(f"{loose[0]}: lies beside the class folders; move it into one of them, or away.")
    _same_classes(folder, own, classes)
    by_class = [_images(folder, folder / name) for name in classes]
    labels = [label for label, pairs in enumerate(by_class) for _ in pairs]
    return [pair for pairs in by_class for pair in pairs], list(labels)


def _same_classes(folder: Path, own: Sequence[str], classes: Sequence[str]) -> None:
    unknown, missing = [n for n in own if n not in classes], [n for n in classes if n not in own]
    if unknown:
        hint = nearest(unknown[0], list(classes))
        known = ", ".join(classes)
        raise UserError(
            f"{folder / unknown[0]}: class {unknown[0]!r} is none of those trained on.{hint} Known: {known}."
        )
    if missing:
        raise UserError(
            f"{folder / missing[0]}: class {missing[0]!r} has no folder in this split; every split needs all classes."
        )


def _images(split: Path, folder: Path) -> list[Pair]:
    """The images below a folder, named by their path within the split.

    Raises:
        UserError: If there are none, or there are other files.
    """
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name.lower() not in LITTER]
    files = [path for path in files if not any(part.startswith(".") for part in path.relative_to(split).parts)]
    wrong = [path for path in files if path.suffix.lower() not in IMAGES]
    if wrong:
        raise UserError(f"{wrong[0]}: no image by its name ({', '.join(sorted(IMAGES))}); convert it or take it away.")
    if not files:
        raise UserError(f"{folder}: holds no images.")
    return [Pair(path, None, path.relative_to(split).as_posix()) for path in files]
