"""What a scene is painted on: a number per pixel, the part seen there, so that image and labels cannot disagree."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from limbeck.datasets._scene_dice import Colour
from limbeck.datasets._scene_noise import FINE

__all__ = ["Canvas", "Look", "Part", "Point"]

Point = tuple[float, float]


class Look(NamedTuple):
    """The surface of a part.

    Attributes:
        texture: One of the noise tiles.
        grain: Strength of the texture; 0 is smooth.
        across: Change of brightness from the left to the right end of the part.
        down: Change of brightness from its top to its bottom.
        lit: It shines by itself: the light of the day does not change it.
        far: How strongly it fades towards the horizon, row by row (sky and ground).
        ground: Its texture lies flat on the ground.
    """

    texture: int = FINE
    grain: float = 0.05
    across: float = 0.0
    down: float = 0.0
    lit: bool = False
    far: float = 0.0
    ground: bool = False


class Part(NamedTuple):
    """How the pixels of one part look: colour times (level + across * u + down * v + grain * texture)."""

    label: int
    red: float
    green: float
    blue: float
    level: float
    across: float
    down: float
    texture: int
    grain: float
    far: float
    ground: bool


class Canvas:
    """Parts painted over each other, twice as fine as the image.

    Positions are in image heights: u from the middle to the right, v from the top down.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.height, self.width = 2 * size[0], 2 * size[1]
        self.parts: list[Part] = []
        self._ids = Image.new("I", (self.width, self.height), 0)
        self._pen = ImageDraw.Draw(self._ids)
        self._shadows = Image.new("L", (self.width, self.height), 0)
        self._shadow_pen = ImageDraw.Draw(self._shadows)

    def fill(self, outline: Sequence[Point], label: int, colour: Colour, look: Look) -> None:
        """Paint a polygon over what is there."""
        us, vs = zip(*outline, strict=True)
        left, right, top, bottom = min(us), max(us), min(vs), max(vs)
        half = self.width / self.height / 2
        if left > half or right < -half or top > 1 or bottom < 0:
            return
        across = look.across / max(right - left, 0.01)
        down = look.down / max(bottom - top, 0.01)
        level = 1 - across * (left + right) / 2 - down * (top + bottom) / 2
        surface = (level, across, down, look.texture, look.grain, look.far, look.ground)
        self.parts.append(Part(label, *colour, *surface))
        self._pen.polygon(self._pixels(outline), fill=len(self.parts) - 1)

    def veil(self, outline: Sequence[Point], label: int) -> None:
        """Give what shows inside a polygon another label and leave its look: a tree's crown is more than its twigs."""
        pixels = self._pixels(outline)
        left, right = (int(f(x for x, _ in pixels)) for f in (min, max))
        top, bottom = (int(f(y for _, y in pixels)) for f in (min, max))
        box = (max(left, 0), max(top, 0), min(right + 1, self.width), min(bottom + 1, self.height))
        if box[0] >= box[2] or box[1] >= box[3]:
            return
        mask = Image.new("1", (box[2] - box[0], box[3] - box[1]))
        ImageDraw.Draw(mask).polygon([(x - box[0], y - box[1]) for x, y in pixels], fill=1)
        old, place = np.unique(np.asarray(self._ids.crop(box)), return_inverse=True)
        new = np.arange(len(old), dtype=np.int32) + len(self.parts)
        self.parts += [self.parts[part]._replace(label=label) for part in old.tolist()]
        self._ids.paste(Image.fromarray(new[place].reshape(mask.size[::-1])), box, mask)

    def shadow(self, outline: Sequence[Point], strength: float) -> None:
        """Darken the ground inside a polygon by ``strength`` (0-1); things that stand there stay bright."""
        self._shadow_pen.polygon(self._pixels(outline), fill=int(255 * strength))

    def ids(self) -> NDArray[np.int32]:
        """Index into ``parts`` of every pixel [2h, 2w]."""
        return np.asarray(self._ids)

    def shadows(self) -> Image.Image:
        """Strength of the shadow on the ground, 0-255 [2h, 2w]."""
        return self._shadows

    def _pixels(self, outline: Sequence[Point]) -> list[Point]:
        scale, middle = self.height, self.width / 2
        return [(u * scale + middle, v * scale) for u, v in outline]
