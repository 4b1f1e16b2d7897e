"""What there is: recipes, and the kinds of every room with the first line of their docstring; imports none of them."""

import ast
from importlib import resources
from pathlib import Path

from limbeck.place import nearest
from limbeck.recipe import packaged
from limbeck.record import UserError

__all__ = ["ROOMS", "catalogue"]

ROOMS = ("datasets", "tasks", "models", "losses", "quantizers", "exporters", "runtimes")


def catalogue(only: str | None = None) -> dict[str, list[tuple[str, str]]]:
    """Name and meaning of everything a recipe can name, by room; of one room if given.

    Raises:
        UserError: If there is no such room.
    """
    known = ["recipes", *ROOMS]
    if only is not None and only not in known:
        raise UserError(f"ls: no such room {only!r}.{nearest(only, known)} Known: {', '.join(known)}.")
    return {room: _recipes() if room == "recipes" else _kinds(room) for room in known if only in (None, room)}


def _recipes() -> list[tuple[str, str]]:
    return [(name, _comment(path)) for name, path in packaged().items()]


def _comment(path: Path) -> str:
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def _kinds(room: str) -> list[tuple[str, str]]:
    folder = Path(str(resources.files("limbeck") / room))
    found = [p for p in sorted(folder.iterdir()) if p.suffix == ".py" or (p / "__init__.py").is_file()]
    return [(path.stem, _meaning(path)) for path in found if not path.stem.startswith("_")]


def _meaning(path: Path) -> str:
    source = path if path.is_file() else path / "__init__.py"
    return (ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or "").partition("\n")[0]
