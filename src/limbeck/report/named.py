"""The sample images of a classifier: the photograph, its true class, and what each network takes it for."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from limbeck.report.folder import Folder, Json, inside
from limbeck.report.markup import Markup, join, raw, tag
from limbeck.report.overlays import MOST_SAMPLES
from limbeck.report.samples import TITLES, networks
from limbeck.report.sections import section

__all__ = ["card", "named_pictures"]

WIDEST, SMALLEST = 320, 160  # pixels; a thumbnail is enlarged so that one sees what the network saw


def named_pictures(folder: Folder, ids: dict[str, str]) -> Markup:
    """The section with the sample images, named by the rows in ``ids`` (role to id); empty without images."""
    cards = [made for listed in folder.samples[:MOST_SAMPLES] for made in card(folder, listed, _said(listed, ids))]
    if not cards:
        return raw("")
    hint = f"Each image with its true class and what the networks take it for. {networks(folder.rows, ids)}"
    return section("samples", "What the networks see", hint, tag("div", *cards, class_="named"))


def _said(listed: Json, ids: dict[str, str]) -> list[tuple[str, int]]:
    labels = listed.get("labels") or {}
    return [(TITLES[role], labels[row]) for role, row in ids.items() if row in labels]


def card(folder: Folder, listed: Json, said: list[tuple[str, int]]) -> Iterator[Markup]:
    """A sample image over its true class and what was ``said`` by whom; nothing where the image is missing."""
    path = inside(folder.evaluation, listed.get("image"))
    photo = _photo(path) if path else None
    if photo is None:
        return
    truth, name = listed.get("label"), str(listed.get("name") or "")
    lines = [tag("li", "Truth ", tag("b", _name(folder, truth)))] if truth is not None else []
    lines += [_line(folder, title, label, truth) for title, label in said]
    why = [tag("em", str(listed["why"])), " "] if listed.get("why") else []
    image = tag("img", src=photo, alt=f"Photograph {name}")
    yield tag("article", image, tag("h3", *why, name), tag("ul", *lines), class_="sample")


def _line(folder: Folder, title: str, label: int, truth: int | None) -> Markup:
    wrong = truth is not None and label != truth
    said = tag("b", _name(folder, label), class_="mistaken" if wrong else None)
    return tag("li", join(title, " "), said, *([" (wrong)"] if wrong else []))


def _name(folder: Folder, label: int) -> str:
    return folder.classes[label] if label < len(folder.classes) else f"class {label}"


def _photo(path: Path) -> str | None:
    """A JPEG data URI of the image in a file; None for half a file of a killed run."""
    try:
        with Image.open(path) as image:
            return _shown(image)
    except OSError:
        return None


def _shown(image: Image.Image) -> str:
    """Between ``SMALLEST`` and ``WIDEST`` pixels wide; what is enlarged keeps its pixels' edges."""
    width = min(max(image.width, SMALLEST), WIDEST)
    how = Image.Resampling.NEAREST if width > image.width else Image.Resampling.LANCZOS
    stream = io.BytesIO()
    size = width, max(1, round(image.height * width / image.width))
    image.convert("RGB").resize(size, how).save(stream, "JPEG", quality=82, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
