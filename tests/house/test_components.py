"""Every component file keeps to the rules that let its name in a recipe be the name of its file."""

import ast
import importlib
import inspect
from pathlib import Path

import pytest

import limbeck
from limbeck.build import find, names
from limbeck.recipe import Data, Export, Model, Quantize, Section, Task, TaskLoss, Teacher, Term

PACKAGE = Path(limbeck.__file__).parent

RESERVED: dict[str, tuple[type[Section], ...]] = {
    "datasets": (Data,),
    "tasks": (Task,),
    "models": (Model, Teacher),
    "losses": (Term, TaskLoss),
    "quantizers": (Quantize,),
    "exporters": (Export,),
    "runtimes": (),
}
ROOMS = tuple(RESERVED)
COMPONENTS = [(room, kind) for room in ROOMS for kind in names(room)]


def source(room: str, kind: str) -> Path:
    file = PACKAGE / room / f"{kind}.py"
    return file if file.is_file() else PACKAGE / room / kind / "__init__.py"


def test_every_room_is_looked_at() -> None:
    from limbeck.stages.catalogue import ROOMS as LISTED

    assert sorted(ROOMS) == sorted(LISTED)
    assert all(names(room) for room in ROOMS)


@pytest.mark.parametrize(("room", "kind"), COMPONENTS)
def test_one_public_name(room: str, kind: str) -> None:
    module = importlib.import_module(f"limbeck.{room}.{kind}")
    assert len(module.__all__) == 1
    component = getattr(module, module.__all__[0])
    assert component is find(room, kind, "here")
    assert component.__module__ == module.__name__, "a component is defined in its own file"


@pytest.mark.parametrize(("room", "kind"), COMPONENTS)
def test_no_parameter_of_a_reserved_name(room: str, kind: str) -> None:
    reserved = {name for section in RESERVED[room] for name in section.model_fields}
    taken = reserved & set(inspect.signature(find(room, kind, "here")).parameters)
    assert not taken, f"the section {[s.__name__ for s in RESERVED[room]]} keeps {sorted(taken)} to itself"


@pytest.mark.parametrize(("room", "kind"), COMPONENTS)
def test_a_docstring_that_ls_can_show(room: str, kind: str) -> None:
    text = ast.get_docstring(ast.parse(source(room, kind).read_text(encoding="utf-8"))) or ""
    first = text.partition("\n")[0]
    assert 5 < len(first) <= 120
    assert first.endswith(".")


@pytest.mark.parametrize(("room", "kind"), COMPONENTS)
def test_components_do_not_know_each_other(room: str, kind: str) -> None:
    tree = ast.parse(source(room, kind).read_text(encoding="utf-8"))
    used = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    used |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    others = {f"limbeck.{a}.{b}" for a, b in COMPONENTS if (a, b) != (room, kind)}
    assert not used & others
