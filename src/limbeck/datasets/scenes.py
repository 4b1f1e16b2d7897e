"""Drawn street scenes: a data set for segmentation that needs no download.

Every scene is a pure function of seed, split and index, drawn when it is asked for: sky, houses, trees, cars, people,
poles and signs along a road, in changing light. Twelve classes, some of them rare and thin.
"""

import operator

from limbeck.data.licence import Licence
from limbeck.data.sample import Sample
from limbeck.datasets._scene_dice import Dice, generator
from limbeck.datasets._scene_labels import CLASSES, PALETTE
from limbeck.datasets._scene_layout import paint_scene
from limbeck.datasets._scene_render import annotate, photograph
from limbeck.record import UserError, digest

__all__ = ["Scenes"]

SPLITS = ("training", "validation", "test")

DRAWING = 1
"""Raised whenever the same seed draws something else, so that old results are not taken for new ones."""

MIN_SIDE = 16


class Scenes:
    """Street scenes drawn on the fly, with perfect labels.

    The same seed gives the same street at every size. Edges between large regions are void here and there, and so is
    the bonnet of the own car.

    Args:
        split: "training", "validation" or "test"; their scenes differ.
        canvas: Height and width of the drawing in pixels, at least 16 each.
        training: Number of scenes in the training split.
        validation: Number of scenes in the validation split.
        test: Number of scenes in the test split.
        seed: Another seed gives other scenes in all splits. Not negative.

    Raises:
        UserError: If the split is unknown or empty, the canvas is too small, or the seed is negative.
    """

    classes = CLASSES
    palette = PALETTE
    licence = Licence("Apache-2.0", "https://www.apache.org/licenses/LICENSE-2.0", commercial=True)

    def __init__(
        self,
        split: str,
        *,
        canvas: tuple[int, int] = (120, 160),
        training: int = 400,
        validation: int = 60,
        test: int = 60,
        seed: int = 0,
    ) -> None:
        lengths = dict(zip(SPLITS, (training, validation, test), strict=True))
        if split not in lengths:
            raise UserError(f"scenes: no such split {split!r}; known: {', '.join(SPLITS)}.")
        if lengths[split] < 1:
            raise UserError(f"scenes: {split} has {lengths[split]} scenes; ask for 1 or more.")
        if min(canvas) < MIN_SIDE:
            raise UserError(f"scenes: canvas [height, width] is {list(canvas)}; each must be {MIN_SIDE} or more.")
        if seed < 0:
            raise UserError(f"scenes: seed is {seed}; it must be 0 or more.")
        self.split, self.canvas, self.seed = split, (canvas[0], canvas[1]), seed
        self._length = lengths[split]

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Sample:
        index = range(self._length)[operator.index(index)]
        easel = paint_scene(Dice(*self._entropy(index, 1)), self.canvas)
        image = photograph(easel, generator(*self._entropy(index, 2)))
        target = annotate(easel.canvas, generator(*self._entropy(index, 3)))
        return Sample(image, target, f"{self.split}-{index:05d}")

    def digest(self) -> str:
        """A short hash of the arguments and of the version of the drawing: it needs no scene to be drawn."""
        return digest(["scenes", DRAWING, self.split, self.canvas, self._length, self.seed])

    def _entropy(self, index: int, use: int) -> tuple[int, int, int, int]:
        """Four numbers, the last never zero: trailing zeros would not count."""
        return self.seed, index, SPLITS.index(self.split), use
