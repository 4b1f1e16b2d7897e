"""docs/coverage.md names only what is there: files, recipe keys, commands with their options, tests."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from limbeck.cli import app
from limbeck.recipe import Recipe, packaged
from limbeck.recipe.reading import _section_of

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "coverage.md"
LISTS = ("quantize", "export", "distil.terms")
"""Sections of several entries: ``quantize.qat`` is a key of each."""

SYSTEMS = ("DistiQAT", "ELEC 475", "SegDistill", "Quanty", "CSE 5368")


def rows() -> Iterator[tuple[str, str, str, str]]:
    """System, feature, place and proof of every table row."""
    system = ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            system = line[3:]
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]
        if len(cells) == 3 and cells[0] != "there" and not set(cells[0]) <= set("-: "):
            yield system, *cells


ROWS = list(rows())


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def subjects() -> set[str]:
    """What is still to come, as the page's own legend names it."""
    return set(re.findall(r"^- \*later: ([^*]+)\*", PAGE.read_text(encoding="utf-8"), re.MULTILINE))


def is_there(name: str) -> bool:
    """Whether a place named in the page exists: a command, a file of the project, a recipe or a recipe's key."""
    if name.startswith("limbeck "):
        return is_command(name.split()[1:])
    path = name.partition("#")[0].rstrip("/")
    if "/" in path or path.endswith((".md", ".py")):
        return (ROOT / path).exists() or (ROOT / "src" / "limbeck" / path).exists() or path in packaged()
    return is_key(name)


def is_command(words: list[str]) -> bool:
    command = typer.main.get_command(app)
    for word in words:
        found = getattr(command, "commands", {}).get(word)
        if found is None:
            break
        command = found
    known = {option for parameter in command.params for option in parameter.opts}
    return command.name in words and all(word in known for word in words if word.startswith("--"))


def is_key(dotted: str) -> bool:
    section: object = Recipe
    for part in dotted.split("."):
        fields = getattr(section, "model_fields", {})
        if part not in fields:
            return False
        section = _section_of(fields[part].annotation)
    return True


def test_every_system_has_its_table() -> None:
    assert {system for system, *_ in ROWS} >= set(SYSTEMS)
    assert all(sum(one == system for one, *_ in ROWS) >= 10 for system in SYSTEMS)


@pytest.mark.parametrize(("system", "what", "place", "proof"), ROWS, ids=[f"{row[0]}: {row[1][:40]}" for row in ROWS])
def test_what_is_named_is_there(system: str, what: str, place: str, proof: str) -> None:
    later = re.findall(r"later: ([^;|]+)", proof)
    assert all(subject.strip() in subjects() for subject in later), later
    assert later or (quoted(place) and quoted(proof)), "name where it is and the test that shows it"
    assert [name for name in quoted(place) if not is_there(name)] == []
    assert [name for name in quoted(proof) if not is_test(name)] == []


def is_test(name: str) -> bool:
    """Whether ``folder/test_file.py::test_name`` is a test of this project."""
    file, _, function = name.partition("::")
    path = ROOT / "tests" / file
    if not path.is_file():
        return False
    return function in {
        node.name for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.FunctionDef)
    }
