"""What the student learned from its teacher: what met what, and how each term pulled beside the labels."""

import math
from typing import Any

from limbeck.report.curves import title
from limbeck.report.folder import Folder
from limbeck.report.markup import Markup, join, raw, tag
from limbeck.report.rows import TIMES, UNKNOWN, number, short
from limbeck.report.sections import section

__all__ = ["distilled"]

Json = dict[str, Any]

HEAD = ("Term", "Student", "Teacher", "Weight", "Gradient", "Angle")
NUMBERS = frozenset(HEAD[3:])
HINT = (
    "What each term compares, with shapes and strides. Its gradient in the student is compared once, early on and at "
    "full weight, with that of {against}: by size, and by angle (0\N{DEGREE SIGN} pulls the same way, "
    "90\N{DEGREE SIGN} has nothing to do with it, more works against it)."
)


def distilled(folder: Folder) -> Markup:
    """The terms of the distillation, a table for every stage that they taught; empty without terms."""
    stages = list(dict.fromkeys(str(line.get("stage")) for line in folder.pulls)) or ["student"] * bool(folder.terms)
    found = {stage: _pulls(folder, stage) for stage in stages}
    against = list(dict.fromkeys(name for pulls in found.values() for name in _references(pulls)))
    named = " and ".join("the labels" if name == "task" else name for name in against) or "the labels"
    tables = [_table(folder, stage, pulls, several=len(stages) > 1) for stage, pulls in found.items()]
    return section("distilled", "Learned from the teacher", HINT.format(against=named), *tables) if tables else raw("")


def _pulls(folder: Folder, stage: str) -> dict[str, Json]:
    """What was measured, by term; a later line adds terms that began later."""
    lines = [line for line in folder.pulls if line.get("stage") == stage]
    return {str(name): pull for line in lines for name, pull in line["gradients"].items() if isinstance(pull, dict)}


def _references(pulls: dict[str, Json]) -> list[str]:
    return [name for name, pull in pulls.items() if "ratio" not in pull]


def _table(folder: Folder, stage: str, pulls: dict[str, Json], several: bool) -> Markup:
    head = [tag("th", title, scope="col", class_="num" if title in NUMBERS else None) for title in HEAD]
    rows = [row for row in folder.taught.get(stage, folder.terms) if row.get("term") in pulls or not pulls]
    known = {str(row.get("term")) for row in rows}
    rows += [{"term": name} for name in pulls if name not in known and name != "task"]
    seen: set[str] = set()
    body = []
    for row in rows:
        name = str(row.get("term"))
        body.append(_row(row, pulls.get(name, {}), first=name not in seen))
        seen.add(name)
    table = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *body), class_="terms")
    heading = [tag("h3", title(stage))] if several else []
    return join(*heading, tag("div", table, class_="scroll", tabindex="0"))


def _row(row: Json, pull: Json, first: bool) -> Markup:
    """A term, or, where it compares several pairs of places, one of the later ones."""
    if not first:
        return tag("tr", tag("th", "", scope="row"), *_places(row), *[tag("td", "", class_="num")] * len(NUMBERS))
    beside = number(row, "params_beside")
    trained = [tag("small", f"{beside:,.0f} parameters trained beside")] if beside else []
    told = [tag("small", f"try weight {pull['suggested']:g}", class_="note")] if number(pull, "suggested") else []
    weight = number(row, "weight") if number(row, "weight") is not None else number(pull, "weight")
    moves = [tag("small", str(row["schedule"]))] if row.get("schedule") else []
    ratio = number(pull, "ratio")
    cells = (
        tag("td", UNKNOWN if weight is None else f"{weight:g}", *moves, class_="num"),
        tag("td", UNKNOWN if ratio is None else f"{short(ratio)}{TIMES}", *told, class_="num"),
        tag("td", _angle(number(pull, "cosine")), class_="num"),
    )
    return tag("tr", tag("th", tag("b", str(row.get("term"))), *trained, scope="row"), *_places(row), *cells)


def _places(row: Json) -> list[Markup]:
    """Cells of the student's place and of the teachers'."""
    sides = ([row.get("student")], row.get("teachers") or [])
    found = [[_place(side) for side in several if isinstance(side, dict)] for several in sides]
    return [tag("td", *places) if places else tag("td", UNKNOWN) for places in found]


def _place(side: Json) -> Markup:
    shape = TIMES.join(str(part) for part in side.get("shape") or ())
    stride = TIMES.join(dict.fromkeys(f"{part:g}" for part in side.get("stride") or ()))
    words = [tag("small", shape), *([tag("small", f"stride {stride}")] if stride else [])]
    return join(tag("code", str(side.get("at"))), *words)


def _angle(cosine: float | None) -> str:
    return UNKNOWN if cosine is None else f"{math.degrees(math.acos(max(-1.0, min(1.0, cosine)))):.0f}\N{DEGREE SIGN}"
