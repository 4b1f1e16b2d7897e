"""Masks that say their classes in colours."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from limbeck.data.sample import VOID
from limbeck.record import UserError

__all__ = ["Colour", "ColourTable", "colours_of", "read_colour_mask"]

Colour = tuple[int, int, int]


class ColourTable:
    """Which colour is which class.

    Args:
        classes: One or several colours for each class, in the order of the ids.
        void: Colours that count as void.

    Raises:
        ValueError: If a colour stands for two things, or is none.
    """

    def __init__(self, classes: Sequence[Sequence[Colour]], void: Iterable[Colour] = ()) -> None:
        pairs = [(colour, index) for index, several in enumerate(classes) for colour in several]
        pairs += [(colour, VOID) for colour in void]
        seen: dict[Colour, int] = {}
        for colour, index in pairs:
            if not all(0 <= level <= 255 for level in colour):
                raise ValueError(f"the colour {list(colour)} has levels outside 0 to 255")
            if seen.setdefault(colour, index) != index:
                raise ValueError(f"the colour {list(colour)} stands for two classes")
        known = sorted((_packed(np.array(colour)).item(), index) for colour, index in seen.items())
        self.codes = np.array([code for code, _ in known], np.int64)
        self.ids = np.array([index for _, index in known], np.uint8)


def _packed(pixels: NDArray[np.integer]) -> NDArray[np.int64]:
    """One number for each colour in the last axis."""
    wide = pixels.astype(np.int64)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]


def read_colour_mask(path: Path, table: ColourTable, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Class ids [h, w] of an RGB, RGBA or palette image; 255 is void.

    Args:
        path: The mask.
        table: What its colours mean.
        size: Height and width of the image it belongs to.

    Raises:
        UserError: If the mask is unreadable, has no colours, is of another size, or holds colours that mean nothing.
    """
    try:
        with Image.open(path) as image:
            mode, pixels = image.mode, np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path}: not a readable mask ({error}); restore or remove it.") from error
    if mode not in ("RGB", "RGBA", "P"):
        raise UserError(
            f"{path}: data.colours reads masks of colours (mode RGB, RGBA or P), found mode {mode}; leave it out where "
            "masks hold class ids."
        )
    if pixels.shape[:2] != size:
        raise UserError(f"{path}: the mask is {pixels.shape[0]}x{pixels.shape[1]}, its image is {size[0]}x{size[1]}.")
    codes = _packed(pixels)
    places = np.minimum(np.searchsorted(table.codes, codes), len(table.codes) - 1)
    unknown = table.codes[places] != codes
    if unknown.any():
        raise UserError(_unknown(path, codes[unknown]))
    return table.ids[places]


SHOWN = 3


def _unknown(path: Path, codes: NDArray[np.int64]) -> str:
    found, counts = np.unique(codes, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:SHOWN]
    shown = ", ".join(f"{_unpacked(int(found[i]))} ({counts[i]} pixels)" for i in order)
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    hint = " A mask stored as JPEG has colours that nobody chose." if path.suffix.lower() in (".jpg", ".jpeg") else ""
    return (
        f"{path}: colours that are no class: {shown}{more}. Add them to data.colours, or to data.void_colours if they "
        f"count as void.{hint}"
    )


def _unpacked(code: int) -> list[int]:
    return [code >> 16, code >> 8 & 255, code & 255]


def colours_of(given: Mapping[str, Colour | list[Colour]] | list[Colour], classes: Sequence[str]) -> list[list[Colour]]:
    """The colours of each class, in the order of ``classes``.

    Raises:
        ValueError: If classes and colours do not name the same things.
    """
    if isinstance(given, list):
        if len(given) != len(classes):
            raise ValueError(f"colours: {len(given)} for {len(classes)} classes; one each, or names with theirs")
        return [[colour] for colour in given]
    if set(given) != set(classes):
        odd = sorted(set(given) ^ set(classes))
        raise ValueError(f"colours and classes name different classes: {', '.join(odd)} is in one of them only")
    return [[c] if isinstance(c := given[name], tuple) else c for name in classes]
