"""Colours for class ids: far apart, for colour-blind readers too, and the same at every call."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from limbeck.data.sample import VOID

__all__ = ["VOID_COLOUR", "Palette", "colourise", "palette"]

Palette = tuple[tuple[int, int, int], ...]
Floats = NDArray[np.float64]

VOID_COLOUR = (40, 40, 40)
"""Dark grey, for void and for ids that a palette does not name."""

# Okabe and Ito, Color Universal Design, 2008, without black.
FIRST: Palette = (
    (0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (213, 94, 0), (240, 228, 66),
)  # fmt: skip

# How protanopes and deuteranopes see linear RGB: Machado et al., TVCG 2009, tables for severity 1.0.
VISIONS = np.array([
    [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
])  # fmt: skip

# Linear RGB to cone responses and their cube roots to OKLab: Ottosson, A perceptual color space, 2020.
TO_CONES = np.array([
    [0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
    [0.0883024619, 0.2817188376, 0.6299787005],
])  # fmt: skip
TO_LAB = np.array([
    [0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099],
    [0.0259040371, 0.7827717662, -0.8086757660],
])  # fmt: skip


@cache
def palette(n: int) -> Palette:
    """``n`` distinct RGB colours; a shorter palette is the beginning of a longer one.

    After seven well known colours each next one is the farthest from all before it in OKLab, for usual and for
    red-green blind eyes alike. Nothing is as dark as the colour of void.

    Raises:
        ValueError: If there are not that many colours: about 3000.
    """
    levels = np.arange(0, 256, 17)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)
    candidates = grid[_seen(grid)[:, 0, 0] > 0.4]
    if not 0 <= n <= len(candidates):
        raise ValueError(f"a palette has 0 to {len(candidates)} colours, got {n}")
    colours, seen = list(FIRST[:n]), _seen(candidates)
    nearest = np.min([_distance(seen, np.array(colour)) for colour in FIRST], axis=0)
    while len(colours) < n:
        red, green, blue = map(int, candidates[int(np.argmax(nearest))])
        colours.append((red, green, blue))
        nearest = np.minimum(nearest, _distance(seen, np.array(colours[-1])))
    return tuple(colours)


def _seen(rgb: NDArray[np.integer]) -> Floats:
    """OKLab values [n, visions, 3] of colours [n, 3]."""
    share = rgb / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    cones = np.einsum("vij,nj->nvi", TO_CONES @ VISIONS, linear)
    lab: Floats = np.cbrt(cones) @ TO_LAB.T
    return lab


def _distance(seen: Floats, colour: NDArray[np.integer]) -> Floats:
    """Distance of each candidate to a colour: the usual one, or twice what a dichromat sees of it if that is less.

    Twice, as two dimensions hold fewer distinct colours than three; rounded, so that every machine picks the same.
    """
    distance = np.linalg.norm(seen - _seen(colour[None]), axis=-1)
    nearer: Floats = np.minimum(distance[:, 0], 2 * distance.min(-1)).round(6)
    return nearer


def colourise(mask: NDArray[np.integer], colours: Palette) -> NDArray[np.uint8]:
    """RGB image [h, w, 3] of class ids [h, w]; void and unknown ids are dark grey."""
    table = np.full((max(256, len(colours) + 1), 3), VOID_COLOUR, np.uint8)
    table[: len(colours)] = np.asarray(colours, np.uint8).reshape(-1, 3)
    if len(colours) <= VOID:
        table[VOID] = VOID_COLOUR
    picture: NDArray[np.uint8] = table[np.minimum(mask, len(table) - 1)]
    return picture
