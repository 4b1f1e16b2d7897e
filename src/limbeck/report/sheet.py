"""A sheet of training images: every sample in a row, as it is and as training sees it, with the masks over it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from limbeck.record import whole

__all__ = ["Tile", "draw_sheet"]

VOID = 255
GAP, LINE = 6, 18
INK, PAPER = (23, 32, 42), (254, 254, 254)


@dataclass(frozen=True)
class Tile:
    """An image uint8 [h, w, 3] and its mask [h, w], if one is to be shown."""

    image: NDArray[np.uint8]
    mask: NDArray[np.integer] | None


def draw_sheet(
    rows: Mapping[str, Sequence[Tile]], colours: Sequence[tuple[int, int, int]], opacity: float, file: Path
) -> Path:
    """Write the sheet as PNG; the first tile of a row is the original, the others are views of epochs from 0 on."""
    tiles = next(iter(rows.values()))
    height, width = tiles[0].image.shape[:2]
    size = len(tiles) * (width + GAP) + GAP, LINE + len(rows) * (height + LINE + GAP) + GAP
    page = Image.new("RGB", size, PAPER)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    for column in range(len(tiles)):
        title = f"view {column - 1}" if column else "original"
        draw.text((GAP + column * (width + GAP), 2), title, INK, font)
    for row, (name, found) in enumerate(rows.items()):
        top = LINE + row * (height + LINE + GAP) + GAP
        draw.text((GAP, top), name, INK, font)
        for column, tile in enumerate(found):
            page.paste(_painted(tile, colours, opacity), (GAP + column * (width + GAP), top + LINE))
    with whole(file) as part:
        page.save(part, "PNG")
    return file


def _painted(tile: Tile, colours: Sequence[tuple[int, int, int]], opacity: float) -> Image.Image:
    """The image under its mask; void stays as it is."""
    if tile.mask is None:
        return Image.fromarray(tile.image)
    table: Any = np.zeros((256, 3), np.float32)
    table[: len(colours)] = colours
    weight = np.where(tile.mask == VOID, 0.0, opacity)[..., None]
    mixed = tile.image * (1 - weight) + table[tile.mask] * weight
    return Image.fromarray(mixed.round().astype(np.uint8))
