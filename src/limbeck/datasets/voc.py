"""PASCAL VOC 2012 segmentation: 1,464 and 1,449 images, 20 classes and background; 10,582 to train on with SBD."""

from pathlib import Path

from limbeck.data.licence import Licence
from limbeck.data.pairs import Pair, pairs_digest, read_image, read_mask
from limbeck.data.sample import Sample
from limbeck.datasets._layout import folder_of_split, located, without_overlap
from limbeck.record import UserError

__all__ = ["VOC"]

LISTS = {"training": "train", "validation": "val"}
AUGMENTED_LISTS = ("train_aug.txt", "trainaug.txt")
"""Names that the list of SBD's images goes by; without one, all of its masks but those of validation."""

CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


def _colour(index: int) -> tuple[int, int, int]:
    """The devkit's colour of an id: its bits, three at a time, are the highest bits of red, green and blue."""
    red = green = blue = 0
    for place in range(7, -1, -1):
        red |= (index & 1) << place
        green |= (index >> 1 & 1) << place
        blue |= (index >> 2 & 1) << place
        index >>= 3
    return red, green, blue


class VOC:
    """PASCAL VOC 2012; the rim around objects, 255, is void and background is a class.

    Test labels are kept by the organisers: what papers call VOC results are those of validation ("val").
    Cite: Everingham et al., IJCV 2010; with ``augmented``, Hariharan et al., ICCV 2011.

    Args:
        split: ``training`` or ``validation``.
        root: Folder that holds ``path``.
        path: ``VOCdevkit``, or the folder above it or in it.
        augmented: Train on SBD's masks too, in ``SegmentationClassAug``; validation stays as it is.

    Raises:
        UserError: If the folder, a list, an image or a mask is missing, or training holds images of validation.
    """

    classes: tuple[str, ...] = CLASSES
    palette: tuple[tuple[int, int, int], ...] = tuple(_colour(index) for index in range(len(CLASSES)))
    licence = Licence(
        "Flickr terms of use of the images' owners; annotations of VOC for research",
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/#rights",
    )  # fmt: skip

    def __init__(self, split: str, root: Path, *, path: str = "VOCdevkit", augmented: bool = False) -> None:
        name = folder_of_split(split, LISTS, "PASCAL VOC")
        folder = located(_places(root, path), "ImageSets/Segmentation", "PASCAL VOC 2012", "voc")
        masks = "SegmentationClass"
        if augmented and split == "training":
            stems, masks = _augmented(folder), "SegmentationClassAug"
        else:
            stems = _stems(folder, f"{name}.txt")
        if split == "training":
            without_overlap(stems, _stems(folder, "val.txt"), folder / "ImageSets" / "Segmentation")
        self.pairs = [Pair(folder / f"JPEGImages/{s}.jpg", folder / f"{masks}/{s}.png", s) for s in stems]
        _refuse_missing(self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        """Read one pair and check it; a palette mask gives ids, not colours."""
        found = self.pairs[index]
        assert found.mask is not None
        image = read_image(found.image)
        return Sample(image, read_mask(found.mask, len(CLASSES), (image.shape[0], image.shape[1])), found.name)

    def digest(self) -> str:
        """Names and contents of the files of this split."""
        return pairs_digest(self.pairs)


def _places(root: Path, path: str) -> list[Path]:
    """Where VOC2012 may be: archives of the organisers and of mirrors unpack to different depths."""
    given = root / path
    elsewhere = [*sorted(root.glob("VOCtrainval*/VOCdevkit/VOC2012")), root / "VOC2012"]
    inside = [given / "VOC2012", given, given / "VOCdevkit" / "VOC2012"]
    return inside + (elsewhere if path == "VOCdevkit" else [])


def _stems(folder: Path, name: str) -> list[str]:
    """Names in a list: a stem a line, or paths of image and mask."""
    file = folder / "ImageSets" / "Segmentation" / name
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"{file}: this list of images cannot be read ({error.strerror}).") from error
    found = [Path(line.split()[0]).stem for line in lines if line.strip()]
    if not found:
        raise UserError(f"{file}: this list of images is empty.")
    return found


def _augmented(folder: Path) -> list[str]:
    masks = sorted(path.stem for path in (folder / "SegmentationClassAug").glob("*.png"))
    if not masks:
        raise UserError(
            f"{folder / 'SegmentationClassAug'}: no masks of SBD here. Fetch them with `limbeck data get voc_aug`, or "
            "leave data.augmented out."
        )
    given = [name for name in AUGMENTED_LISTS if (folder / "ImageSets" / "Segmentation" / name).is_file()]
    if given:
        return _stems(folder, given[0])
    scored = set(_stems(folder, "val.txt"))
    return [stem for stem in masks if stem not in scored]


def _refuse_missing(pairs: list[Pair]) -> None:
    missing = [path for p in pairs for path in (p.image, p.mask) if path is not None and not path.is_file()]
    if missing:
        raise UserError(
            f"{missing[0]}: {len(missing)} of the files that its list names are missing, this one first; unpack the "
            "archive again."
        )
