"""The tables of the page: all rows, parity, environment, recipe. Each section is empty where nothing is known."""

import json
from collections.abc import Iterator

from limbeck.report.folder import Folder
from limbeck.report.markup import Markup, join, raw, tag
from limbeck.report.rows import (
    TIMES,
    Row,
    file_name,
    model_name,
    number,
    precision_name,
    role,
    runtime_name,
    sound,
    text,
)
from limbeck.report.tables import FULL, SCORES, Column, agreement, known, note

__all__ = ["all_rows", "parity", "provenance", "section"]


def section(name: str, title: str, words: str, *inside: str) -> Markup:
    """One section of the page: a heading, a sentence that tells how to read it, its content."""
    return tag("section", tag("h2", title), *([tag("p", words, class_="hint")] if words else []), *inside, id=name)


def all_rows(folder: Folder, pick: Row | None) -> Markup:
    """Every row of the summary, with the best value of each column marked."""
    if not folder.rows:
        return raw("")
    tables = [_table(folder.rows, known(FULL, folder.rows), pick)]
    if more := known(SCORES, folder.rows):
        scored = [row for row in folder.rows if not row.get("error")]
        tables.append(tag("details", tag("summary", "More scores"), _table(scored, more, pick)))
    return section("rows", "Every measured row", _conditions(folder.rows, folder.counted), *tables)


def _table(rows: list[Row], shown: list[Column], pick: Row | None) -> Markup:
    titles = [tag("th", "Model", scope="col"), *(tag("th", c.title, scope="col", class_="num") for c in shown)]
    best = [column.best(rows) for column in shown]
    body = [tag("tr", _who(row, row is pick), *_cells(row, shown, best), class_=_mood(row, pick)) for row in rows]
    table = tag("table", tag("thead", tag("tr", *titles)), tag("tbody", *body), class_="rows")
    return tag("div", table, class_="scroll", tabindex="0")


def _mood(row: Row, pick: Row | None) -> str | None:
    return "pick" if row is pick else None if sound(row) else "unsound"


def _who(row: Row, chosen: bool) -> Markup:
    name = join(tag("i", class_=f"dot {role(row)}"), tag("b", model_name(row)), " ", precision_name(row))
    engine = tag("small", runtime_name(row), *([tag("em", "ship")] if chosen else []))
    told = [tag("small", note(row), class_="note")] if note(row) and not row.get("error") else []
    return tag("th", name, engine, *told, scope="row")


def _cells(row: Row, shown: list[Column], best: list[float | None]) -> list[Markup]:
    if row.get("error"):
        return [tag("td", note(row), colspan=str(len(shown)), class_="note")]
    pairs = [
        (column.write(column.read(row)), column.is_best(row, top)) for column, top in zip(shown, best, strict=True)
    ]
    return [tag("td", tag("mark", said) if marked else said, class_="num") for said, marked in pairs]


def _conditions(rows: list[Row], counted: str) -> str:
    """How to read the table, and what all rows have in common."""
    said = "Scores are points, 0 to 100. Latency is the median of single runs. The best of each column is marked."
    if any(number(row, "agreement") is not None for row in rows):
        said += f" Agreement counts the {counted} that get the same class as from the FP32 student in PyTorch."
    facts = (
        _shared(rows, "device", "{}"),
        _shared(rows, "threads", "{} threads"),
        _shared(rows, "input", "input {}"),
        _shared(rows, "split", "{} images"),
        _shared(rows, "protocol", "shown as {}"),
    )
    kept = ", ".join(fact for fact in facts if fact)
    return f"{said} All rows: {kept}." if kept else said


def _shared(rows: list[Row], key: str, form: str) -> str:
    """The value of all rows that tell it, in words; empty where they differ."""
    values = {json.dumps(row[key]) for row in rows if row.get(key) is not None}
    value = json.loads(values.pop()) if len(values) == 1 else None
    if value is None:
        return ""
    return form.format(TIMES.join(map(str, value)) if isinstance(value, list) else value)


def parity(folder: Folder) -> Markup:
    """How far each exported file is from the network it was exported from."""
    if not folder.parity:
        return raw("")
    titles = ("File", "In", f"Same class, % of {folder.counted}", "Largest difference of logits, relative", "Images")
    head = [tag("th", title, scope="col", class_="num" if at > 1 else None) for at, title in enumerate(titles)]
    body = [tag("tr", *_parity(row)) for row in folder.parity]
    table = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *body))
    hint = "The same images through the exported file and through the network in PyTorch that it was made from."
    scroll = tag("div", table, class_="scroll", tabindex="0")
    return section("parity", "Exported files against their networks", hint, scroll)


def _parity(row: Row) -> list[Markup]:
    largest = number(row, "largest_difference")
    file, against = file_name(row) or text(None), runtime_name({"runtime": row.get("against")})
    difference = text(None) if largest is None else f"{largest:.2g}"
    numbers = (agreement(number(row, "argmax_agreement")), difference, text(number(row, "images"), 0))
    names = [tag("th", tag("code", file), scope="row"), tag("td", against)]
    return names + [tag("td", said, class_="num") for said in numbers]


def provenance(folder: Folder) -> Markup:
    """Recipe, environment and the command that repeats the run."""
    parts: list[Markup] = []
    if folder.recipe:
        opened = tag("details", tag("summary", "Resolved recipe"), tag("pre", tag("code", folder.recipe)))
        command = str(folder.environment.get("command") or "limbeck run recipe.yaml")
        parts = [tag("h3", "Repeat it, in the run folder"), tag("pre", tag("code", command)), opened]
    facts = [tag("div", tag("dt", key), tag("dd", value)) for key, value in _facts(folder)]
    if facts:
        parts += [tag("h3", "Environment"), tag("dl", *facts, class_="pairs")]
    if folder.unread:
        left_out = f"{folder.unread} lines of metrics.jsonl could not be read and are left out."
        parts.append(tag("p", left_out, class_="hint"))
    return section("provenance", "Where these numbers come from", "", *parts) if parts else raw("")


def _facts(folder: Folder) -> Iterator[tuple[str, str]]:
    for key, value in folder.environment.items():
        if isinstance(value, dict):
            yield from ((str(name), _plain(part)) for name, part in value.items() if part is not None)
        elif value not in (None, "", []) and key != "command":
            yield key.replace("_", " "), _plain(value)


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
