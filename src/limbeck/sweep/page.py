"""Write what a sweep says: table in four formats, pictures, sheet, and one offline page with all of them."""

import base64
import io
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from limbeck.record import UserError, whole, write_json, write_text
from limbeck.report.headline import named
from limbeck.report.markup import Markup, raw, tag
from limbeck.report.page import document
from limbeck.report.rows import POINTS, text
from limbeck.report.sections import section
from limbeck.sweep.compare import curve
from limbeck.sweep.formats import Column, best, columns, csv_text, file_columns, latex, markdown
from limbeck.sweep.methods import Method, methods
from limbeck.sweep.results import Sweep, read
from limbeck.sweep.table import tabulate

__all__ = ["write"]

Json = dict[str, Any]

WIDE, NARROW = 980, 360  # CSS pixels
TITLES = {"gains": "Gains", "scores": "Scores", "time": "Time", "curves": "Curves", "sheet": "Masks", "files": "Files"}


def write(folder: Path, block: int = 1) -> Json:
    """Write ``table.json``, ``.md``, ``.csv``, ``.tex`` and ``report/`` with page and pictures into a sweep's folder.

    Args:
        folder: With a ``sweep.json``; nothing is run.
        block: Consecutive images that the bootstrap draws together, for frames of a video.

    Returns:
        The table, see :func:`limbeck.sweep.table.tabulate`.

    Raises:
        UserError: If it is no sweep's folder, one of its files is not JSON, or matplotlib is missing.
    """
    sweep = read(folder)
    table = tabulate(sweep, block=block)
    write_json(folder / "table.json", table)
    for name, words in {"table.md": markdown(table), "table.csv": csv_text(table), "table.tex": latex(table)}.items():
        write_text(folder / name, words)
    pictures = _pictures(table, methods(sweep), sweep, folder / "report")
    write_text(
        folder / "report" / "index.html", document(f"{sweep.name}: Limbeck sweep", _body(sweep, table, pictures))
    )
    return table


def _pictures(table: Json, found: list[Method], sweep: Sweep, folder: Path) -> dict[str, Markup]:
    """The sections with pictures, by name; empty ones where there is nothing to draw."""
    try:
        from limbeck.sweep import plots
    except ModuleNotFoundError as error:
        raise UserError(f'report: needs {error.name}, which is not installed: pip install "limbeck[report]"') from error
    score = sweep.score
    rows = [row for row in table["rows"] if row["mean"] is not None]
    gained = [row for row in rows if row["gain"]]
    timed = [row for row in rows if row["training_hours"]]
    curves = {method.label: _curves(method, score) for method in found}
    painted: dict[str, tuple[str, str, Callable[[int], Any] | None]] = {
        "gains": (
            "What a method is ahead of its control",
            "Paired by seed, at equal steps. Thick: interval of 95 % on other images, with these very networks; thin: "
            "with other seeds too. Only what keeps clear of 0 there is resolved, and filled.",
            partial(plots.paint_gains, rows=gained, score=score) if gained else None,
        ),
        "scores": (
            "Every seed", "A small dot a seed, the mean with its standard deviation; the control's mean goes through.",
            partial(plots.paint_scores, rows=rows, score=score) if rows else None,
        ),
        "time": (
            "Score against time", "Mean over the seeds; the line is a standard deviation to both sides.",
            partial(plots.paint_time, rows=timed, score=score) if timed else None,
        ),
        "curves": (
            "How training went", "Mean of the seeds, between the worst and the best of them.",
            partial(plots.paint_curves, rows=rows, curves=curves, score=score)
            if any(len(each) for kept in curves.values() for each in kept) else None,
        ),
    }  # fmt: skip
    sections = {
        name: section(name, title, hint, _picture(folder / "figures", name, title, paint)) if paint else raw("")
        for name, (title, hint, paint) in painted.items()
    }
    return sections | {"sheet": _sheet(found, folder / "figures")}


def _curves(method: Method, score: str) -> list[Any]:
    """Step, minutes and score of each validation, a curve for each seed."""
    found = []
    for network in method.networks.values():
        known = {line["step"]: line for line in network.checks if line.get(score) is not None}
        spent = [seconds / 60 for seconds, _ in curve(network, score)]
        if len(known) == len(spent):
            found.append(np.array([[s, m, known[s][score]] for s, m in zip(known, spent, strict=True)]).reshape(-1, 3))
    return found


def _picture(folder: Path, name: str, words: str, paint: Callable[[int], Any]) -> Markup:
    from limbeck.report.plots import draw, print_ready

    drawn = draw(name, words, paint, folder, (WIDE, NARROW))
    print_ready(name, paint, folder, WIDE)
    return tag("figure", drawn)


def _sheet(found: list[Method], folder: Path) -> Markup:
    from limbeck.sweep import sheet

    if cards := sheet.cards(found):
        hint = "Of one seed; the images are evenly spread over the split, whatever any network said."
        return section("sheet", "What the methods see", hint, tag("div", *cards, class_="named"))
    page = sheet.draw(found)
    if page is None:
        return raw("")
    with whole(folder / "sheet.png") as part:
        page.save(part, "PNG", dpi=(220, 220))
    hint = f"{sheet.MASKS}. Of one seed; the images are evenly spread over the split, whatever any network scored."
    image = tag("img", src=_data(page), alt=sheet.MASKS, class_="sheet")
    return section("sheet", "What the methods see", hint, tag("div", image, class_="scroll", tabindex="0"))


def _data(page: Image.Image) -> str:
    """The sheet inside the page, as JPEG: a page must pass as an attachment."""
    stream = io.BytesIO()
    page.save(stream, "JPEG", quality=86, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def _body(sweep: Sweep, table: Json, pictures: Mapping[str, Markup]) -> Markup:
    sections = {**pictures, "files": _files(table)}
    links = [tag("a", TITLES[name], href=f"#{name}") for name, made in sections.items() if made]
    environment = next((run.report.environment for run in sweep.runs if run.report), {})
    foot = tag("footer", "Made by Limbeck from the files of the runs; every number comes from them.")
    nav = tag("nav", *links, aria_label="Sections")
    return tag("main", named(sweep.name, environment), _verdict(table), nav, _table(table), *sections.values(), foot)


def _verdict(table: Json) -> Markup:
    notes = tag("ul", *(tag("li", note) for note in table["notes"]), class_="caveats")
    parts = [tag("p", "Sweep", class_="eyebrow"), tag("h1", _headline(table)), notes]
    return tag("section", *parts, class_="verdict", id="verdict")


def _headline(table: Json) -> str:
    marked, rows = best(table), table["rows"]
    row = next((row for row in rows if row["method"] == marked), None)
    if row is not None:
        gain = row["gain"]
        return f"{marked} gains {text(gain['value'], 1)} {POINTS[table['score']]} over {gain['against']}"
    if any(found["gain"] for found in rows):
        return "No method is resolved to be the best"
    return f"{len(rows)} methods, {sum(len(found['seeds']) for found in rows)} networks"


def _table(table: Json) -> Markup:
    hint = "Scores are points, 0 to 100. A method is marked only where its gain is resolved."
    shown, marked = columns(table), best(table)
    gains = _grid([column for column in shown if not column.cost], table["rows"], marked)
    costs = [column for column in shown if column.cost]
    spent = _grid([shown[0], *costs], table["rows"], marked)
    return section("table", "All methods", hint, gains, *([tag("h3", "What they cost"), spent] if costs else []))


def _files(table: Json) -> Markup:
    if not table["files"]:
        return raw("")
    hint = "Means over the runs. Change: against the same networks in fp32 in PyTorch."
    return section("files", "Exported files", hint, _grid(file_columns(table), table["files"], None))


WORDS = ("Method", "Verdict", "Precision", "Runtime")


def _grid(shown: list[Column], rows: list[Json], marked: str | None) -> Markup:
    kinds = [None if column.title in WORDS else "num" for column in shown]
    head = [tag("th", column.title, scope="col", class_=kind) for column, kind in zip(shown, kinds, strict=True)]
    body = [
        tag("tr", *(tag("td", _cell(column.write(row), marked == row["method"]), class_=kind)
                    for column, kind in zip(shown, kinds, strict=True)),
            class_="pick" if marked == row["method"] else "unsound" if row["mean"] is None else None)
        for row in rows
    ]  # fmt: skip
    return tag("div", tag("table", tag("thead", tag("tr", *head)), tag("tbody", *body)), class_="scroll", tabindex="0")


def _cell(words: str, marked: bool) -> Markup | str:
    return tag("b", words) if marked and words else words
