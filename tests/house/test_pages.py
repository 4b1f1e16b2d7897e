"""Pages stay small, names say something, and the project speaks of itself alone."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = ("src", "tests", "benchmarks")
LINES, FUNCTION_LINES = 400, 70

PROSE = (".py", ".md", ".yaml", ".yml", ".toml", ".txt", ".html", ".css", ".js", ".cfg", "")
HOSTS = re.compile(
    r"pypi\.org|pythonhosted\.org|index-url|npmjs\.(org|com)|anaconda\.(org|com)|docker\.io|ghcr\.io|quay\.io|nvcr\.io",
    re.I,
)


def python_files() -> list[Path]:
    return [path for folder in CODE for path in sorted((ROOT / folder).rglob("*.py"))]


def texts() -> Iterator[Path]:
    """Everything that is written by hand."""
    yield from (path for path in sorted(ROOT.iterdir()) if path.is_file() and path.suffix in PROSE)
    for folder in (*CODE, "docs", ".ci"):
        found = (path for path in sorted((ROOT / folder).rglob("*")) if path.is_file() and path.suffix in PROSE)
        yield from (
            path for path in found if not any(part.endswith("cache") or part == "__pycache__" for part in path.parts)
        )


def shown(offenders: dict[str, object]) -> str:
    return "\n" + "\n".join(f"{where}: {what}" for where, what in offenders.items())


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_files_are_short() -> None:
    lengths = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in python_files()}
    offenders = {name: length for name, length in lengths.items() if length > LINES}
    assert not offenders, shown(offenders)


def test_functions_are_short() -> None:
    offenders: dict[str, object] = {}
    for path in python_files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                if length > FUNCTION_LINES:
                    offenders[f"{name_of(path)}:{node.lineno} {node.name}"] = length
    assert not offenders, shown(offenders)


@pytest.mark.parametrize("word", ["utils", "util", "helpers", "misc", "common"])
def test_no_file_is_called_after_nothing(word: str) -> None:
    assert [name_of(path) for path in python_files() if path.stem.strip("_") == word] == []


def test_no_class_manages() -> None:
    offenders = {
        f"{name_of(path)}:{node.lineno}": node.name
        for path in python_files()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and node.name.endswith(("Manager", "Helper", "Utils"))
    }
    assert not offenders, shown(offenders)


def matches(pattern: re.Pattern[str], paths: list[Path]) -> dict[str, object]:
    here = Path(__file__)
    return {
        f"{name_of(path)}:{number}": line.strip()
        for path in paths
        if path != here
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if pattern.search(line)
    }


def test_nothing_is_left_to_do() -> None:
    offenders = matches(re.compile(r"\b(TODO|FIXME|XXX|HACK)\b"), python_files())
    assert not offenders, shown(offenders)


def test_no_package_registry_is_named() -> None:
    offenders = matches(HOSTS, list(texts()))
    assert not offenders, shown(offenders)


def test_no_folder_of_another_machine_is_named() -> None:
    offenders = matches(re.compile(r"(?<![\w.~-])/(work|home|root|Users)/"), list(texts()))
    assert not offenders, shown(offenders)
