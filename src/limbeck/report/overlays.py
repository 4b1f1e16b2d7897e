"""Sample images with what each network sees in them, small enough to travel inside the page."""

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from limbeck.report.folder import Folder, Json, inside
from limbeck.report.rows import number

__all__ = ["Panel", "Sample", "colours", "samples"]

Mask = NDArray[np.uint8]

VOID = 255
MOST_SAMPLES = 12
BUDGET_BYTES = 5_000_000  # for all samples together; a page must pass as an attachment
SETTINGS = ((560, 82), (440, 76), (320, 70), (240, 62))  # width in pixels and JPEG quality, the best that fits wins
WRONG = (214, 0, 108)


@dataclass(frozen=True)
class Panel:
    """One view of a sample. ``mask`` is a PNG data URI; ``role`` is truth, errors, changes or a network's role."""

    role: str
    mask: str
    score: str


@dataclass(frozen=True)
class Sample:
    """One image with its panels; ``present`` are the classes in any of its masks, ``shape`` is (width, height)."""

    name: str
    why: str
    photo: str
    shape: tuple[int, int]
    panels: tuple[Panel, ...]
    present: frozenset[int]


def colours(folder: Folder) -> list[tuple[int, int, int]]:
    """256 colours: the data set's palette, continued by one in which neighbours differ."""
    return [*folder.palette, *(_bits(index) for index in range(len(folder.palette) + 1, 257))][:256]


def _bits(index: int) -> tuple[int, int, int]:
    # PASCAL VOC's colour map: the bits of the index, dealt to the three channels from the top.
    red, green, blue = (
        sum(((index >> (3 * bit + channel)) & 1) << (7 - bit) for bit in range(3)) for channel in range(3)
    )
    return red, green, blue


def samples(folder: Folder, ids: dict[str, str]) -> list[Sample]:
    """The samples of the evaluation, drawn for the rows in ``ids`` (role to id), at the best quality that fits.

    A sample without an image is left out, and so is a mask that is missing or no index image.
    """
    made: list[Sample] = []
    for width, quality in SETTINGS:
        listed = folder.samples[:MOST_SAMPLES]
        made = [sample for each in listed for sample in _sample(folder, each, ids, width, quality)]
        if sum(map(_weight, made)) <= BUDGET_BYTES:
            return made
    while sum(map(_weight, made)) > BUDGET_BYTES:
        made.pop()
    return made


def _weight(sample: Sample) -> int:
    return 2 * len(sample.photo) + sum(len(panel.mask) for panel in sample.panels)


def _sample(folder: Folder, listed: Json, ids: dict[str, str], width: int, quality: int) -> Iterator[Sample]:
    photo = _open(inside(folder.evaluation, listed.get("image")))
    if photo is None:
        return
    masks = dict(_masks(folder, listed, ids))
    shape = (min(width, photo.width), max(round(photo.height * min(width / photo.width, 1)), 1))
    name = str(listed.get("name") or "")
    panels = [_panel(folder, name, role, mask, ids, shape) for role, mask in masks.items()]
    panels += _differences(masks, shape)
    classes = frozenset(int(value) for mask in masks.values() for value in np.unique(mask)) - {VOID}
    yield Sample(name, str(listed.get("why") or ""), _jpeg(photo, shape, quality), shape, tuple(panels), classes)


def _masks(folder: Folder, listed: Json, ids: dict[str, str]) -> Iterator[tuple[str, Mask]]:
    """Truth first, then one mask a network, in the order of ``ids``."""
    files = listed.get("masks") if isinstance(listed.get("masks"), dict) else {}
    wanted = {"truth": listed.get("truth")} | {role: (files or {}).get(name) for role, name in ids.items()}
    for role, file in wanted.items():
        image = _open(inside(folder.evaluation, file))
        if image is not None and image.mode in ("P", "L"):
            yield role, np.asarray(image, dtype=np.uint8)


def _open(path: Path | None) -> Image.Image | None:
    if path is None:
        return None
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except OSError:  # half a file of a killed run: the page shows the others
        return None


def _panel(folder: Folder, name: str, role: str, mask: Mask, ids: dict[str, str], shape: tuple[int, int]) -> Panel:
    paint = [value for colour in colours(folder) for value in colour]
    return Panel(role, _png(mask, paint, shape), _score(folder, name, ids.get(role, "")))


def _score(folder: Folder, name: str, row: str) -> str:
    """What the row scored on this image: its IoU, else its agreement with FP32; empty when unknown."""
    images = folder.evaluated.get(row, {}).get("images") or []
    for image in images:
        if image.get("name") == name and number(image, "miou") is not None:
            return f"IoU {number(image, 'miou'):.1f}"
        if image.get("name") == name and number(image, "agreement") is not None:
            return f"agreement {number(image, 'agreement'):.1f}"
    return ""


def _differences(masks: dict[str, Mask], shape: tuple[int, int]) -> list[Panel]:
    """Where INT8 (else the student) differs from the truth; without truth, where INT8 differs from FP32."""
    judged = next((role for role in ("int8", "student", "teacher") if role in masks), None)
    against = "truth" if "truth" in masks else "student" if judged == "int8" and "student" in masks else None
    if judged is None or against is None:
        return []
    expected = masks[against]
    seen = _resize(masks[judged], (expected.shape[1], expected.shape[0]))
    wrong, counted = (seen != expected) & (expected != VOID), expected != VOID
    share = wrong.sum() / max(int(counted.sum()), 1)
    mask = np.where(wrong, 1, VOID).astype(np.uint8)
    role = f"errors-{judged}" if against == "truth" else "changes-int8"
    return [Panel(role, _png(mask, [0, 0, 0, *WRONG], shape), f"{share:.1%} of pixels")]


def _resize(mask: Mask, shape: tuple[int, int]) -> Mask:
    return np.asarray(Image.fromarray(mask).resize(shape, Image.Resampling.NEAREST))


def _png(mask: Mask, paint: list[int], shape: tuple[int, int]) -> str:
    image = Image.fromarray(_resize(mask, shape))
    image.putpalette(paint + [0] * (768 - len(paint)))
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True, transparency=VOID)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def _jpeg(photo: Image.Image, shape: tuple[int, int], quality: int) -> str:
    stream = io.BytesIO()
    photo.convert("RGB").resize(shape, Image.Resampling.LANCZOS).save(stream, "JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
