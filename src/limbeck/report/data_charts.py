"""Charts of a data set: how often each class is there, and how large the images are."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from limbeck.record import whole
from limbeck.report.plots import INK, LOOK, MUTED, blank, shorten, tidy

__all__ = ["draw"]

MOST_SIZES = 20
WIDTH, ROW = 900, 24


def draw(
    classes: Sequence[str], colours: Sequence[tuple[int, int, int]], numbers: Mapping[str, Any], folder: Path
) -> list[Path]:
    """Write ``classes`` (where there is truth) and ``sizes`` as PNG and SVG; returns the files.

    ``numbers`` are those of :class:`limbeck.data.inspect.Survey`.
    """
    found: list[Path] = []
    with mpl.rc_context(LOOK):
        if numbers["labelled"] and classes:
            found += _write(_classes(classes, colours, numbers), folder / "classes")
        found += _write(_sizes(numbers["sizes"]), folder / "sizes")
    return found


def _write(figure: Figure, path: Path) -> list[Path]:
    files = [path.with_suffix(f".{suffix}") for suffix in ("png", "svg")]
    for file in files:
        with whole(file) as part:
            figure.savefig(part, format=file.suffix[1:], dpi=150, facecolor="white")
    return files


def _classes(classes: Sequence[str], colours: Sequence[tuple[int, int, int]], numbers: Mapping[str, Any]) -> Figure:
    """Share of the pixels, and of the images, that each class has; most frequent first.

    Where each image has one class, the two are one.
    """
    total = max(1, sum(numbers["class_pixels"]))
    pixels = [100 * count / total for count in numbers["class_pixels"]]
    images = [100 * count / max(1, numbers["labelled"]) for count in numbers["class_images"]]
    order = sorted(range(len(classes)), key=lambda index: -pixels[index])
    figure = blank(WIDTH, 110 + ROW * len(classes))
    charts = [(pixels, "Pixels, %"), (images, "Images it is in, %")]
    if numbers["class_pixels"] == numbers["class_images"]:
        charts = [(images, "Images, %")]
    places = figure.subplots(1, len(charts), sharey=True, width_ratios=[3, 2][: len(charts)], squeeze=False)[0]
    paint = ["#{:02x}{:02x}{:02x}".format(*colours[index]) for index in order]
    for axes, (values, title) in zip(places, charts, strict=True):
        shown = [values[index] for index in order]
        axes.barh(range(len(order)), shown, color=paint, edgecolor=INK, linewidth=0.4, height=0.72)
        axes.set_title(title)
        axes.set_xlim(0, 1.14 * max(*shown, 1e-9))
        for row, value in enumerate(shown):
            axes.text(value, row, f" {value:.3g}", va="center", fontsize=11, color=MUTED)
        tidy(axes, "x")
    places[0].set_yticks(range(len(order)), [shorten(classes[index]) for index in order])
    places[0].invert_yaxis()
    return figure


def _sizes(sizes: Mapping[str, int]) -> Figure:
    """Number of images of each size; rare sizes together."""
    common = list(sizes.items())[:MOST_SIZES]
    rest = sum(sizes.values()) - sum(count for _, count in common)
    rows = [*common, (f"{len(sizes) - len(common)} others", rest)] if rest else common
    figure = blank(WIDTH, 84 + ROW * len(rows))
    axes = figure.subplots()
    axes.barh(range(len(rows)), [count for _, count in rows], color="#0072b2", height=0.72)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    for row, (_, count) in enumerate(rows):
        axes.text(count, row, f" {count}", va="center", fontsize=11, color=MUTED)
    axes.invert_yaxis()
    axes.set_title("Images of each size, height x width")
    tidy(axes, "x")
    return figure
