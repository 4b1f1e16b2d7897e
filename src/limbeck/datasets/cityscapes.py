"""Cityscapes street scenes: 2,975 and 500 images of 1024x2048, 19 classes."""

from pathlib import Path

import numpy as np

from limbeck.data.licence import Licence
from limbeck.data.pairs import find_files, pair, pairs_digest, read_image, read_mask
from limbeck.data.sample import VOID, Sample
from limbeck.datasets._layout import folder_of_split, located
from limbeck.record import UserError

__all__ = ["Cityscapes"]

FOLDERS = {"training": "train", "validation": "val"}

SCORED = {
    "road": (7, (128, 64, 128)), "sidewalk": (8, (244, 35, 232)), "building": (11, (70, 70, 70)),
    "wall": (12, (102, 102, 156)), "fence": (13, (190, 153, 153)), "pole": (17, (153, 153, 153)),
    "traffic light": (19, (250, 170, 30)), "traffic sign": (20, (220, 220, 0)), "vegetation": (21, (107, 142, 35)),
    "terrain": (22, (152, 251, 152)), "sky": (23, (70, 130, 180)), "person": (24, (220, 20, 60)),
    "rider": (25, (255, 0, 0)), "car": (26, (0, 0, 142)), "truck": (27, (0, 0, 70)), "bus": (28, (0, 60, 100)),
    "train": (31, (0, 80, 100)), "motorcycle": (32, (0, 0, 230)), "bicycle": (33, (119, 11, 32)),
}  # fmt: skip
"""Label id in the masks and colour of the classes that the benchmark scores; all other ids are void."""

LABELS = 34
"""Ids in the masks: 0 to 33."""

TRAIN_IDS = np.full(256, VOID, np.uint8)
TRAIN_IDS[[label for label, _ in SCORED.values()]] = np.arange(len(SCORED), dtype=np.uint8)


class Cityscapes:
    """Cityscapes with fine annotations: the 34 label ids of ``*_gtFine_labelIds.png`` become 19 classes and void.

    Cite: Cordts et al., The Cityscapes Dataset for Semantic Urban Scene Understanding, CVPR 2016.

    Args:
        split: ``training`` or ``validation``; the masks of the test cities are blank, scores come from the benchmark's
            server.
        root: Folder that holds ``path``.
        path: The folder that holds ``leftImg8bit`` and ``gtFine``.

    Raises:
        UserError: If a folder, the split or masks are missing.
    """

    classes: tuple[str, ...] = tuple(SCORED)
    palette: tuple[tuple[int, int, int], ...] = tuple(colour for _, colour in SCORED.values())
    licence = Licence(
        "Cityscapes terms: non-commercial, registration needed", "https://www.cityscapes-dataset.com/license/",
        commercial=False,
    )  # fmt: skip

    def __init__(self, split: str, root: Path, *, path: str = "cityscapes") -> None:
        name = folder_of_split(split, FOLDERS, "Cityscapes")
        folder = located((root / path,), "leftImg8bit", "Cityscapes", "cityscapes")
        images = find_files(folder, f"leftImg8bit/{name}/*/*_leftImg8bit.png")
        masks = find_files(folder, f"gtFine/{name}/*/*_gtFine_labelIds.png")
        for found, place in ((images, "leftImg8bit"), (masks, "gtFine")):
            if not found:
                raise UserError(f"{folder / place / name}: no cities with images in it, or no such folder.")
        self.pairs = pair(images, masks, "_leftImg8bit", "_gtFine_labelIds")

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        """Read one pair, check it and keep the 19 scored classes."""
        found = self.pairs[index]
        assert found.mask is not None
        image = read_image(found.image)
        labels = read_mask(found.mask, LABELS, (image.shape[0], image.shape[1]))
        return Sample(image, TRAIN_IDS[labels], found.name)

    def digest(self) -> str:
        """Names and contents of the files of this split."""
        return pairs_digest(self.pairs)
