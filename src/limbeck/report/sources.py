"""Scores source by source, where the data come from several."""

from typing import Any

from limbeck.report.folder import Folder
from limbeck.report.markup import Markup, join, raw, tag
from limbeck.report.rows import SCORES, Row, model_name, number, precision_name, role, runtime_name, text
from limbeck.report.sections import section

__all__ = ["by_source", "lines"]

PER_CLASS = {"miou": ("iou", "IoU"), "accuracy": ("accuracy", "Accuracy")}
"""Key and title of what a score is the mean of."""


def sources(rows: list[Row]) -> list[str]:
    """Names of the sources that any row was scored on, in their order."""
    return list(dict.fromkeys(name for row in rows for name in row.get("sources") or {}))


def lines(rows: list[Row], score: str) -> list[str]:
    """A line for every row: its score on each source; empty where there is one source only."""
    names = sources(rows)
    return [
        f"{model_name(row)} {precision_name(row)} in {runtime_name(row)}: "
        + ", ".join(f"{name} {text(_score(row, name, score), 2)}" for name in names)
        for row in rows
        if names and row.get("sources")
    ]


def by_source(folder: Folder, score: str, pick: Row | None) -> Markup:
    """Every row's score on all images and on each source's, and its classes likewise; empty for a single source."""
    rows = [row for row in folder.rows if row.get("sources")]
    names = sources(rows)
    if not names:
        return raw("")
    counted = ", ".join(f"{name} {_images(rows, name)}" for name in names)
    hint = f"{SCORES[score]} on the images of each source, and on all of them together. Images: {counted}."
    overall = [(row, [number(row, score), *(_score(row, name, score) for name in names)]) for row in rows]
    table = _table(["Model", "Overall", *names], [(_who(row), values, row is pick) for row, values in overall])
    shown = pick if pick in rows else rows[0]
    words = f"Class by class: {model_name(shown).lower()} {precision_name(shown)} in {runtime_name(shown)}"
    details = tag("details", tag("summary", words), _classes(folder, shown, names, score))
    return section("sources", "Source by source", hint, table, details)


def _classes(folder: Folder, row: Row, names: list[str], score: str) -> Markup:
    key, title = PER_CLASS.get(score, ("iou", "IoU"))
    whole = _per_class(folder.evaluated.get(str(row.get("id")), {}), key)
    parts = [_per_class((row["sources"] or {}).get(name) or {}, key) for name in names]
    lines_of = [
        (tag("b", name), [_at(values, index) for values in (whole, *parts)], False)
        for index, name in enumerate(folder.classes)
    ]
    return _table([title, "Overall", *names], lines_of)


def _table(titles: list[str], body: list[tuple[Markup, list[float | None], bool]]) -> Markup:
    head = [tag("th", title, scope="col", class_="num" if at else None) for at, title in enumerate(titles)]
    found = [
        tag("tr", tag("th", who, scope="row"), *(tag("td", text(v, 2), class_="num") for v in values),
            class_="pick" if picked else None)
        for who, values, picked in body
    ]  # fmt: skip
    table = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *found), class_="rows")
    return tag("div", table, class_="scroll", tabindex="0")


def _who(row: Row) -> Markup:
    name = join(tag("i", class_=f"dot {role(row)}"), tag("b", model_name(row)), " ", precision_name(row))
    return join(name, tag("small", runtime_name(row)))


def _score(row: Row, name: str, score: str) -> float | None:
    return number((row.get("sources") or {}).get(name) or {}, score)


def _images(rows: list[Row], name: str) -> str:
    return text(next((number(row["sources"][name], "images") for row in rows if name in row["sources"]), None), 0)


def _per_class(scores: dict[str, Any], key: str) -> list[float | None]:
    found = (scores.get("per_class") or {}).get(key)
    return found if isinstance(found, list) else []


def _at(values: list[float | None], index: int) -> float | None:
    return values[index] if index < len(values) else None
