"""ADE20K scene parsing (SceneParsing benchmark 2016): 20,210 and 2,000 images, 150 classes."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from limbeck.data.licence import Licence
from limbeck.data.pairs import Pair, find_files, pair, pairs_digest, read_image, read_mask
from limbeck.data.sample import VOID, Sample
from limbeck.datasets._ade20k_classes import CLASSES, PALETTE
from limbeck.datasets._layout import folder_of_split, located
from limbeck.record import UserError, digest

__all__ = ["ADE20K"]

FOLDERS = {"training": "training", "validation": "validation"}
PROBED = 8
"""Masks that are looked at before anything begins."""


class ADE20K:
    """ADE20K with its 150 benchmark classes; label 0, "other", is void and all others move down by one, once.

    Published masks hold 0 to 150 and never 255. One with 255 was reduced already, and a second reduction would turn
    every wall into void and every building into wall: it is refused unless ``reduced`` says what it is.
    Cite: Zhou et al., Scene Parsing through ADE20K Dataset, CVPR 2017.

    Args:
        split: ``training`` or ``validation``; labels of the test images are not published.
        root: Folder that holds ``path``.
        path: The data set's folder, with ``images`` and ``annotations`` in it.
        reduced: True reads masks that hold 0 to 149 and 255 as they are. False takes them as published, 255 as void.

    Raises:
        UserError: If the folder, the split or masks are missing, or masks look reduced already.
    """

    classes: tuple[str, ...] = CLASSES
    palette: tuple[tuple[int, int, int], ...] = PALETTE
    licence = Licence(
        "ADE20K terms of use: non-commercial research and education; BSD-3-Clause for the annotations",
        "https://groups.csail.mit.edu/vision/datasets/ADE20K/terms/", commercial=False,
    )  # fmt: skip

    def __init__(
        self, split: str, root: Path, *, path: str = "ADEChallengeData2016", reduced: bool | None = None
    ) -> None:
        name = folder_of_split(split, FOLDERS, "ADE20K")
        folder = located((root / path, root / path / "ADEChallengeData2016"), "images", "ADE20K", "ade20k")
        self.pairs = pair(_files(folder, f"images/{name}"), _files(folder, f"annotations/{name}"))
        self.reduced = reduced
        for found in self.pairs[:PROBED]:
            self._refuse_reduced(found)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        """Read one pair, check it and reduce its labels."""
        found = self.pairs[index]
        assert found.mask is not None
        image = read_image(found.image)
        self._refuse_reduced(found)
        size = (image.shape[0], image.shape[1])
        return Sample(image, read_mask(found.mask, len(CLASSES), size, zero_label=not self.reduced), found.name)

    def digest(self) -> str:
        """Names and contents of the files, and how labels are read."""
        return digest([pairs_digest(self.pairs), bool(self.reduced)])

    def _refuse_reduced(self, found: Pair) -> None:
        if self.reduced is None and found.mask is not None and VOID in _ids(found.mask):
            raise UserError(
                f"{found.mask}: holds 255, and published ADE20K masks hold 0 to 150: its labels look reduced already. "
                "Set data.reduced to true if they are (0 is wall), to false if 255 only marks more void."
            )


def _files(folder: Path, inside: str) -> list[Path]:
    found = find_files(folder, inside)
    if not found:
        raise UserError(f"{folder / inside}: no images in this folder of ADE20K, or no such folder.")
    return found


def _ids(mask: Path) -> NDArray[np.int_]:
    """Values of an index mask; none where it is unreadable, which whoever reads it says better."""
    try:
        with Image.open(mask) as image:
            return np.unique(np.asarray(image)) if image.mode in ("L", "P") else np.empty(0, np.int_)
    except (OSError, SyntaxError, ValueError):
        return np.empty(0, np.int_)
