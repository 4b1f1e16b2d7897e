"""A sheet of images: every sample in a row, as it is and as training or networks see it, with masks over it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from limbeck.record import whole

__all__ = ["GAP", "INK", "LINE", "PAPER", "Tile", "draw_sheet", "sheet"]

VOID = 255
GAP, LINE = 6, 18
INK, MUTED, PAPER = (23, 32, 42), (92, 104, 116), (254, 254, 254)


@dataclass(frozen=True)
class Tile:
    """An image uint8 [h, w, 3] and its mask [h, w], if one is to be shown; words that stand above it."""

    image: NDArray[np.uint8]
    mask: NDArray[np.integer] | None
    words: str = ""


def draw_sheet(
    rows: Mapping[str, Sequence[Tile]], colours: Sequence[tuple[int, int, int]], opacity: float, file: Path
) -> Path:
    """Write the sheet as PNG; the first tile of a row is the original, the others are views of epochs from 0 on."""
    views = len(next(iter(rows.values()))) - 1
    with whole(file) as part:
        sheet(rows, ["original", *(f"view {view}" for view in range(views))], colours, opacity).save(part, "PNG")
    return file


def sheet(
    rows: Mapping[str, Sequence[Tile]], titles: Sequence[str], colours: Sequence[tuple[int, int, int]], opacity: float
) -> Image.Image:
    """The tiles of each row side by side, its name above the first; a title for every column. All are of one size."""
    height, width = next(iter(rows.values()))[0].image.shape[:2]
    size = len(titles) * (width + GAP) + GAP, LINE + len(rows) * (height + LINE + GAP) + GAP
    page = Image.new("RGB", size, PAPER)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    for column, title in enumerate(titles):
        draw.text((GAP + column * (width + GAP), 2), title, INK, font)
    for row, (name, found) in enumerate(rows.items()):
        top = LINE + row * (height + LINE + GAP) + GAP
        draw.text((GAP, top), name, INK, font)
        for column, tile in enumerate(found):
            left = GAP + column * (width + GAP)
            draw.text((left, top), tile.words, MUTED, font)
            page.paste(_painted(tile, colours, opacity), (left, top + LINE))
    return page


def _painted(tile: Tile, colours: Sequence[tuple[int, int, int]], opacity: float) -> Image.Image:
    """The image under its mask; void stays as it is."""
    if tile.mask is None:
        return Image.fromarray(tile.image)
    table: Any = np.zeros((256, 3), np.float32)
    table[: len(colours)] = colours
    weight = np.where(tile.mask == VOID, 0.0, opacity)[..., None]
    mixed = tile.image * (1 - weight) + table[tile.mask] * weight
    return Image.fromarray(mixed.round().astype(np.uint8))
