"""Speed against score: one point a row, its area the file's size, a line through the best."""

import math
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from matplotlib.transforms import Bbox

from limbeck.report.plots import COLOURS, INK, MUTED, PAPER, ROLES, blank
from limbeck.report.rows import (
    RUNTIMES,
    SCORES,
    Row,
    deployable,
    latency,
    model_name,
    number,
    role,
    runtime_name,
    sound,
)

__all__ = ["free", "frontier", "overlap", "paint", "points"]

MARKERS = {"onnxruntime": "o", "openvino": "s", "eager": "^"}
NARROW = 600  # CSS pixels below which only the points that matter are named
LARGEST, SMALLEST, RING = 1500.0, 36.0, 260.0  # areas in square points
BACKED = {"boxstyle": "square,pad=0.08", "facecolor": PAPER, "edgecolor": "none", "alpha": 0.8}
SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
GAPS = (5.0, 14.0, 26.0, 40.0, 60.0)  # pixels between a point and its name, the nearest first


def points(rows: list[Row], score: str) -> list[Row]:
    """The rows that have both coordinates and whose speed is real; agreement places exported students only."""
    real = [row for row in rows if sound(row) and latency(row) and number(row, score) is not None]
    return real if score != "agreement" else [row for row in real if deployable(row) and row.get("model") == "student"]


def frontier(rows: list[Row], score: str) -> list[Row]:
    """Of ``points``, those that no other beats in both speed and score, fastest first."""
    kept: list[Row] = []
    for row in sorted(rows, key=lambda r: (_x(r), -_y(r, score))):
        if not kept or _y(row, score) > _y(kept[-1], score):
            kept.append(row)
    return kept


def _x(row: Row) -> float:
    return latency(row) or 0.0


def _y(row: Row, score: str) -> float:
    return number(row, score) or 0.0


def paint(width: int, rows: list[Row], score: str, pick: Row | None) -> Figure:
    """The scatter of ``points``: left is faster, up is better, ``pick`` wears a ring."""
    figure = blank(width, 480 if width >= NARROW else 420)
    axes = figure.add_subplot()
    best = frontier(rows, score)
    axes.plot([_x(r) for r in best], [_y(r, score) for r in best], color=MUTED, lw=1.1, ls=(0, (4, 3)), zorder=1)
    areas = _areas(rows)
    for row, area in sorted(zip(rows, areas, strict=True), key=lambda pair: -pair[1]):
        _point(axes, row, score, area, ring=row is pick)
    _scale(axes, rows, score)
    _legend(figure, rows, width)
    figure.canvas.draw()  # the layout must be settled before places are measured
    _name(
        axes,
        rows,
        _named(rows, best, pick, width),
        score,
        [a + RING * (r is pick) for r, a in zip(rows, areas, strict=True)],
    )
    return figure


def _areas(rows: list[Row]) -> list[float]:
    sizes = [number(row, "file_mb") or 0.0 for row in rows]
    return [max(LARGEST * size / max(*sizes, 1e-9, 0.0), SMALLEST) for size in sizes]


def _point(axes: Axes, row: Row, score: str, area: float, ring: bool) -> None:
    marker = MARKERS.get(str(row.get("runtime")), "D")
    look: dict[str, Any] = {"marker": marker, "linewidths": 1.2, "edgecolors": PAPER, "alpha": 0.93, "zorder": 3}
    axes.scatter(_x(row), _y(row, score), s=area, color=COLOURS[role(row)], **look)
    if ring:
        axes.scatter(
            _x(row), _y(row, score), s=area + RING, facecolors="none", edgecolors=INK, linewidths=1.6, zorder=4
        )


def _scale(axes: Axes, rows: list[Row], score: str) -> None:
    taken = [_x(row) for row in rows]
    if max(taken) > 6 * min(taken):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.margins(x=0.12, y=0.16)
    axes.set_xlabel("latency, ms (median); left is faster")
    axes.set_ylabel(f"{SCORES[score]}, points; up is better")


def _legend(figure: Figure, rows: list[Row], width: int) -> None:
    def handle(words: str, marker: str, colour: str) -> Any:
        return Line2D([], [], ls="", marker=marker, ms=8, mec="none", color=colour, label=words)

    roles, engines = {role(row) for row in rows}, {str(row.get("runtime")) for row in rows}
    handles = [handle(words, "o", COLOURS[key]) for key, words in ROLES.items() if key in roles]
    handles += [handle(RUNTIMES[key], marker, MUTED) for key, marker in MARKERS.items() if key in engines]
    columns = len(handles) if width >= NARROW else 2
    figure.legend(handles=handles, loc="outside upper left", ncols=columns, handletextpad=0.2, columnspacing=1.2)


def _named(rows: list[Row], best: list[Row], pick: Row | None, width: int) -> list[Row]:
    """The rows that get a name, the most important first: all where there is room, else pick, frontier, reference."""
    plain = [row for row in rows if role(row) == "student" and row.get("runtime") == "onnxruntime"]
    rest = [*best, *(rows if len(rows) <= 16 else [])] if width >= NARROW else best[-1:]
    wanted = [row for row in (pick, *plain, *rest) if any(row is point for point in rows)]
    return list({id(row): row for row in wanted if row is not None}.values())


def _words(row: Row) -> str:
    quantized = f"{str(row.get('precision') or '').upper()} {str(row.get('quantization') or '').upper()}".strip()
    who = {"teacher": model_name(row), "plain": "Plain student"}.get(role(row), quantized)
    return f"{who}, {runtime_name(row).replace('ONNX Runtime', 'ORT').replace('PyTorch ', '')}"


def _name(axes: Axes, rows: list[Row], named: list[Row], score: str, areas: list[float]) -> None:
    """Write each name at the nearest free place beside its point, with a thin line where that is far."""
    at = {id(row): axes.transData.transform((_x(row), _y(row, score))) for row in rows}
    reach = {id(row): math.sqrt(area) / 2 for row, area in zip(rows, areas, strict=True)}
    taken = [_box(at[key] - reach[key], 2 * reach[key], 2 * reach[key]) for key in at]
    for row in named:
        place, radius = at[id(row)], reach[id(row)]
        note = axes.annotate(
            _words(row), (_x(row), _y(row, score)), (0, 0), textcoords="offset points", fontsize=12, bbox=BACKED
        )
        note.set_in_layout(False)
        size = note.get_window_extent()
        box, gap = free(place, radius, size.width, size.height, taken, axes.bbox)
        note.set_position((box.x0 - place[0], box.y0 - place[1] + size.height * 0.22))
        taken.append(box)
        if gap > GAPS[0]:
            _lead(axes, place, box)


def _box(corner: Any, width: float, height: float) -> Bbox:
    return Bbox.from_bounds(float(corner[0]), float(corner[1]), width, height)


def free(place: Any, radius: float, width: float, height: float, taken: list[Bbox], frame: Bbox) -> tuple[Bbox, float]:
    """The first box beside ``place`` that covers nothing, else the one that covers least; and its gap."""
    tried: list[tuple[float, Bbox, float]] = []
    for gap in GAPS:
        for right, up in SIDES:
            away = (radius + gap) * (0.75 if right and up else 1.0)
            corner = (
                place[0] + right * (away + width / 2) - width / 2,
                place[1] + up * (away + height / 2) - height / 2,
            )
            box = _box(corner, width, height)
            covered = sum(overlap(box, other) for other in taken) + width * height - overlap(box, frame)
            if covered < 1:
                return box, gap
            tried.append((covered, box, gap))
    return min(tried, key=lambda entry: entry[0])[1:]


def overlap(one: Bbox, other: Bbox) -> float:
    """Area that two boxes share."""
    across: float = min(one.x1, other.x1) - max(one.x0, other.x0)
    along: float = min(one.y1, other.y1) - max(one.y0, other.y0)
    return max(across, 0.0) * max(along, 0.0)


def _lead(axes: Axes, place: Any, box: Bbox) -> None:
    end = (min(max(place[0], box.x0), box.x1), min(max(place[1], box.y0), box.y1))
    (x0, y0), (x1, y1) = axes.transData.inverted().transform([place, end])
    axes.plot([x0, x1], [y0, y1], color=MUTED, lw=0.7, zorder=2)
