"""A sheet of images, their truth and what every method makes of them, side by side."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from limbeck.report.folder import Folder, inside
from limbeck.report.markup import Markup
from limbeck.report.named import card
from limbeck.report.overlays import colours
from limbeck.report.plots import shorten
from limbeck.report.rows import identity, number
from limbeck.report.sheet import GAP, INK, LINE, PAPER, VOID, Tile, sheet
from limbeck.sweep.methods import Method
from limbeck.sweep.results import Network

__all__ = ["MASKS", "cards", "draw"]

Json = dict[str, Any]
Mask = NDArray[np.uint8]

MOST_ROWS, OPACITY = 6, 0.7
WIDEST, NARROWEST, WHOLE = 300, 160, 2700  # pixels of a tile, and of all beside each other where they may be narrower
MASKS = "Image, truth, and the mask of every method over it, with its IoU on that image"


def draw(found: Sequence[Method]) -> Image.Image | None:
    """The sheet of the methods' first common seed; None where no image has the masks of two of them.

    The images are those that every run keeps, evenly spread over the split; else whatever all runs show.
    """
    shown = _shown(found)
    listed = [_listed(network) for _, network in shown if network.report.dense]
    names = _common(listed)[:MOST_ROWS]
    if not names:
        return None
    report = shown[0][1].report
    width = max(NARROWEST, min(WIDEST, WHOLE // (len(shown) + 2)))
    height = max(_height(report, listed[0][name], width) for name in names)
    rows = {name: _row(name, shown, [other[name] for other in listed], (height, width)) for name in names}
    titles = ["image", "truth", *(shorten(method.label) for method, _ in shown)]
    page = sheet(rows, titles, colours(report), OPACITY)
    return _with_legend(page, report, [tile.mask for tiles in rows.values() for tile in tiles if tile.mask is not None])


def cards(found: Sequence[Method]) -> list[Markup]:
    """The same of a classifier: every image with its class and what each method takes it for."""
    shown = _shown(found)
    listed = [_listed(network, "labels") for _, network in shown if not network.report.dense]
    made: list[Markup] = []
    for name in _common(listed):
        rows = zip(shown, listed, strict=True)
        said = [(method.label, other[name]["labels"][identity(network.row)]) for (method, network), other in rows]
        made += card(shown[0][1].report, listed[0][name], said)
    return made


def _shown(found: Sequence[Method]) -> list[tuple[Method, Network]]:
    """Methods with a network each; none where there is nothing to lay beside another."""
    known = [(method, network) for method in found if (network := _first(method, found)) is not None]
    return known if len(known) > 1 else []


def _common(listed: Sequence[dict[str, Json]]) -> list[str]:
    return [name for name in listed[0] if all(name in other for other in listed)] if listed else []


def _first(method: Method, found: Sequence[Method]) -> Network | None:
    """The network of the first seed that all methods with any share; else of the method's own first."""
    done = [other.networks for other in found if other.networks]
    common = [seed for seed in method.networks if all(seed in networks for networks in done)]
    return method.networks[common[0]] if common else next(iter(method.networks.values()), None)


def _listed(network: Network, answers: str = "masks") -> dict[str, Json]:
    """Images with this network's answer, by name."""
    wanted, report = identity(network.row), network.report
    found: dict[str, Json] = {}
    for sample in (*report.compared, *report.samples):
        answer = (sample.get(answers) or {}).get(wanted)
        here = answers == "labels" or inside(report.evaluation, answer)
        if answer is not None and here and inside(report.evaluation, sample.get("image")):
            found.setdefault(str(sample.get("name")), sample)
    return found


def _open(report: Folder, name: object) -> Image.Image:
    path = inside(report.evaluation, name)
    assert path is not None
    with Image.open(path) as image:
        image.load()
        return image


def _height(report: Folder, sample: Json, wide: int) -> int:
    size: tuple[int, int] = _open(report, sample["image"]).size
    return max(1, size[1] * wide // size[0])


def _row(
    name: str, shown: Sequence[tuple[Method, Network]], samples: Sequence[Json], size: tuple[int, int]
) -> list[Tile]:
    report, width = shown[0][1].report, size[1]
    own = width, _height(report, samples[0], width)
    photo = _open(report, samples[0]["image"]).convert("RGB").resize(own, Image.Resampling.LANCZOS)
    image = np.full((*size, 3), PAPER, np.uint8)
    image[: own[1]] = np.asarray(photo)
    truth = samples[0].get("truth")
    tiles = [Tile(image, None), Tile(image, _mask(report, truth, own, size) if truth else None)]
    for (_, network), sample in zip(shown, samples, strict=True):
        mask = _mask(network.report, sample["masks"][identity(network.row)], own, size)
        tiles.append(Tile(image, mask, _score(network, name)))
    return tiles


def _mask(report: Folder, name: object, own: tuple[int, int], size: tuple[int, int]) -> Mask:
    mask = np.full(size, VOID, np.uint8)
    mask[: own[1]] = np.asarray(_open(report, name).resize(own, Image.Resampling.NEAREST))
    return mask


def _score(network: Network, name: str) -> str:
    images = network.report.evaluated.get(identity(network.row), {}).get("images") or []
    value = next((number(image, "miou") for image in images if image.get("name") == name), None)
    return "" if value is None else f"IoU {value:.1f}"


def _with_legend(page: Image.Image, report: Folder, masks: Sequence[NDArray[np.integer]]) -> Image.Image:
    """The sheet with the colours of the classes that are in it below."""
    present = sorted({int(value) for mask in masks for value in np.unique(mask)} - {VOID})
    font, paint = ImageFont.load_default(13), colours(report)
    names = [report.classes[at] if at < len(report.classes) else f"class {at}" for at in present]
    places, left, line = [], GAP, 0
    for name in names:
        length = 34 + round(font.getlength(name))
        left, line = (GAP, line + 1) if left + length > page.width else (left, line)
        places.append((left, page.height + line * (LINE + 4) + 4))
        left += length
    whole = Image.new("RGB", (page.width, page.height + (line + 1) * (LINE + 4) + GAP), PAPER)
    whole.paste(page, (0, 0))
    draw = ImageDraw.Draw(whole)
    for at, name, (x, y) in zip(present, names, places, strict=True):
        draw.rectangle([x, y + 2, x + 12, y + 14], fill=paint[at])
        draw.text((x + 18, y), name, INK, font)
    return whole
