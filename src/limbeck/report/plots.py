"""Charts in one look: inline SVG that follows the page's colours, and a PNG of each for slides."""

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from limbeck.record import whole
from limbeck.report.markup import Markup, raw, tag

__all__ = ["COLOURS", "GRID", "INK", "MUTED", "PAPER", "ROLES", "blank", "draw", "print_ready", "shorten", "tidy"]

# Okabe and Ito's colours, told apart by all common kinds of colour vision; each is a CSS variable on the page.
ROLES = {
    "teacher": "Teacher",
    "plain": "Student, plain",
    "student": "Student FP32",
    "bf16": "Student bf16",
    "int8": "Student INT8",
}
COLOURS = {
    "teacher": "#47525e",
    "plain": "#009e73",
    "student": "#0072b2",
    "bf16": "#56b4e9",
    "int8": "#d55e00",
    "sun": "#e69f00",
}
INK, MUTED, GRID, PAPER = "#17202a", "#5c6874", "#e3e8ed", "#fefefe"
VARIABLES = {INK: "ink", MUTED: "muted", GRID: "line", PAPER: "paper"} | {v: f"c-{k}" for k, v in COLOURS.items()}

LOOK: dict[str, Any] = {
    "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"], "font.size": 13, "text.color": INK,
    "text.parse_math": False, "legend.frameon": False, "legend.fontsize": 12,
    "axes.edgecolor": GRID, "axes.labelcolor": MUTED, "axes.labelsize": 12, "axes.facecolor": "none",
    "axes.titlesize": 14, "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.titlecolor": INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
    "grid.color": GRID, "grid.linewidth": 0.8, "xtick.color": MUTED, "ytick.color": MUTED, "xtick.labelsize": 12,
    "ytick.labelsize": 12, "xtick.major.size": 0, "ytick.major.size": 0, "xtick.minor.size": 0,
    "figure.facecolor": "none", "figure.dpi": 72, "svg.fonttype": "none", "svg.hashsalt": "limbeck",
}  # fmt: skip
ANONYMOUS = {"Date": None, "Creator": None, "Format": None, "Type": None}


def blank(width: int, height: int) -> Figure:
    """An empty figure of that many CSS pixels."""
    figure = Figure(figsize=(width / 72, height / 72), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def tidy(axes: Axes, grid: str = "y") -> None:
    """Leave the grid lines of one direction only."""
    axes.grid(visible=False, axis="x" if grid == "y" else "y")


def shorten(name: str) -> str:
    """At most 22 characters, so that names leave room for what they name."""
    return name if len(name) <= 22 else name[:21] + "\N{HORIZONTAL ELLIPSIS}"


def draw(name: str, words: str, paint: Callable[[int], Figure], folder: Path, widths: tuple[int, ...]) -> Markup:
    """Paint one chart at each width, widest first; the page shows the one that fits. The first is also ``<name>.png``.

    Args:
        name: File name of the PNG in ``folder`` and prefix of the ids in the SVG.
        words: What the chart shows, for those who cannot see it.
        paint: Takes a width in CSS pixels and returns the figure.
        folder: Where the PNG goes.
        widths: CSS pixels; two widths give a wide and a narrow version.
    """
    with mpl.rc_context(LOOK):
        figures = [paint(width) for width in widths]
        with whole(folder / f"{name}.png") as part:
            figures[0].savefig(part, format="png", dpi=150, facecolor="white")
        sizes = ("wide", "narrow") if len(widths) > 1 else ("only",)
        drawn = [_inline(f, f"{name}-{size}", words) for f, size in zip(figures, sizes, strict=True)]
    parts = [tag("div", svg, class_=f"chart {size}") for svg, size in zip(drawn, sizes, strict=True)]
    return raw("".join(parts))


def print_ready(name: str, paint: Callable[[int], Figure], folder: Path, width: int) -> None:
    """Write a chart as ``<name>.png`` with 220 dots an inch and as ``<name>.svg`` that needs no fonts, for a paper."""
    with mpl.rc_context(LOOK | {"svg.fonttype": "path"}):
        figure = paint(width)
        for form, settings in (("png", {"dpi": 220}), ("svg", {"metadata": ANONYMOUS})):
            with whole(folder / f"{name}.{form}") as part:
                figure.savefig(part, format=form, facecolor="white", **settings)


def _inline(figure: Figure, prefix: str, words: str) -> Markup:
    """The figure as an SVG element whose colours are the page's and whose ids are its own."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata=ANONYMOUS)
    source = stream.getvalue()
    body = re.sub(r"\s*<(metadata|style)\b.*?</\1>", "", source[source.index("<svg") :], flags=re.DOTALL)
    viewbox = re.search(r'viewBox="[^"]*"', body)
    body = re.sub(r"<!--.*?-->\s*", "", body[body.index(">") + 1 :], flags=re.DOTALL)
    body = re.sub(r'<g id="[^"]*">', "<g>", body)
    body = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{prefix}-", body)
    for colour, variable in VARIABLES.items():
        body = body.replace(colour, f"var(--{variable})")
    label = tag("title", words)
    return raw(f'<svg {viewbox[0] if viewbox else ""} role="img">{label}{body.strip()}')
