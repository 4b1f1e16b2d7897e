import sys
from typing import Literal

import pytest

from limbeck.build import build, check, find, names
from limbeck.place import Place
from limbeck.record import UserError

WHERE = Place("r.yaml", ("student",), {("student",): 4, ("student", "width"): 5, ("student", "kind"): 4})

MODELS = """\
from pathlib import Path
LOADED = []
LOADED.append(1)

def build(num_classes: int, width: int = 8, *, sizes: tuple[int, int] = (1, 2), name: str | None = None):
    return ("net", num_classes, width, sizes, name)

def needs(num_classes: int, depth: int):
    return depth

def anything(num_classes: int, **more):
    return more

def picky(width: int = 1):
    if width > 3:
        raise ValueError("width must be at most 3")
    return width

def bare(width, other=3):
    return width, other
"""


@pytest.fixture
def root(tmp_path):
    (tmp_path / "models.py").write_text(MODELS)
    return tmp_path


def made(root, name="build", /, **given):
    return build("models", {"kind": f"./models.py:{name}", **given}, WHERE, root, num_classes=5, pretrained=None)


def test_kinds_are_the_files_of_a_room():
    assert {"kd", "cwd", "cross_entropy"} <= set(names("losses"))
    assert {"camvid", "folder", "scenes"} <= set(names("datasets"))
    assert names("losses") == sorted(names("losses"))
    assert not any(name.startswith("_") for room in ("losses", "models", "datasets") for name in names(room))


def test_a_kind_is_the_one_public_name_of_its_file():
    from limbeck.losses.kd import KnowledgeDistillation

    assert find("losses", "kd", WHERE) is KnowledgeDistillation
    assert find("losses", "limbeck.losses.kd:pixelwise_kl", WHERE).__name__ == "pixelwise_kl"


def test_an_unknown_kind_lists_what_there_is():
    with pytest.raises(UserError, match=r"r\.yaml:4: student\.kind: no such losse? 'cwdd'\. Did you mean 'cwd'\?"):
        build("losses", {"kind": "cwdd"}, WHERE)
    with pytest.raises(UserError, match=r"Known: .*cross_entropy"):
        find("losses", "zzz", WHERE)


def test_ones_own_file_beside_the_recipe(root, monkeypatch):
    monkeypatch.chdir("/")
    assert made(root) == ("net", 5, 8, (1, 2), None)
    assert made(root, width=3, sizes=[4, 5], name="a") == ("net", 5, 3, (4, 5), "a")


def test_a_file_is_run_once(root):
    made(root)
    made(root)
    own = [module for name, module in sys.modules.items() if name.startswith("limbeck_user_")]
    (module,) = [module for module in own if module.__file__ == str(root / "models.py")]
    assert module.LOADED == [1]


def test_two_files_of_one_name_are_two(root, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "models.py").write_text("def build(num_classes: int):\n    return 'other'\n")
    assert made(tmp_path / "other") == "other"
    assert made(root)[0] == "net"


def test_a_module_of_ones_own(root, monkeypatch):
    (root / "my_parts.py").write_text("class Loss:\n    def __init__(self, weight: float = 1.0): self.w = weight\n")
    monkeypatch.syspath_prepend(root)
    assert build("losses", {"kind": "my_parts:Loss", "weight": 2}, WHERE).w == 2.0
    with pytest.raises(UserError, match=r"my_parts has no 'Los'\. Did you mean 'Loss'\?"):
        find("losses", "my_parts:Los", WHERE)
    with pytest.raises(UserError, match="cannot import 'no_such_package'"):
        find("losses", "no_such_package:Loss", WHERE)


def test_a_missing_file_and_a_broken_one(root):
    with pytest.raises(UserError, match=r"r\.yaml:4: .*no such file .*nowhere\.py"):
        find("models", "./nowhere.py:build", WHERE, root)
    (root / "broken.py").write_text("import math\n1 / 0\n")
    for _ in range(2):
        with pytest.raises(UserError, match=r"broken\.py does not run: ZeroDivisionError"):
            find("models", "./broken.py:build", WHERE, root)
    (root / "syntax.py").write_text("def build(:\n")
    with pytest.raises(UserError, match=r"syntax\.py does not run: SyntaxError"):
        find("models", "./syntax.py:build", WHERE, root)


def test_types_that_only_a_checker_sees(root):
    (root / "typed.py").write_text(
        "from __future__ import annotations\nfrom typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from torch import nn\ndef build(num_classes: int) -> nn.Module: ...\n"
    )
    with pytest.raises(UserError, match=r"r\.yaml:4: student: the types of \./typed\.py:build cannot be read .*'nn'"):
        build("models", {"kind": "./typed.py:build"}, WHERE, root, num_classes=5)


def test_unknown_arguments(root):
    with pytest.raises(UserError) as caught:
        made(root, widht=3)
    message = str(caught.value)
    assert "student.widht: ./models.py:build has no argument 'widht'. Did you mean 'width'?" in message
    assert "takes (width: int = 8" in message
    assert "num_classes" not in message.partition("takes")[2]


def test_all_wrong_arguments_at_once(root):
    with pytest.raises(UserError) as caught:
        made(root, width="wide", nmae=3, sizes=[1, "x"])
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("r.yaml:4: student.nmae: ")
    assert any(line.startswith("r.yaml:5: student.width: ") and "got 'wide'" in line for line in lines)
    assert any("student.sizes.1: " in line and "got 'x'" in line for line in lines)


def test_missing_arguments(root):
    with pytest.raises(UserError, match=r"student\.depth: Field required"):
        made(root, "needs")
    assert made(root, "needs", depth=3) == 3


def test_runtime_arguments_cannot_be_set_in_the_recipe(root):
    with pytest.raises(UserError, match="no argument 'num_classes'"):
        made(root, num_classes=9)


def test_open_ended_signatures_take_everything(root):
    assert made(root, "anything", x=1, y=[2]) == {"x": 1, "y": [2]}


def test_parameters_without_a_type_take_anything(root):
    assert made(root, "bare", width=[1, {"a": 2}]) == ([1, {"a": 2}], 3)


def test_a_refused_value_says_where(root):
    assert made(root, "picky", width=3) == 3
    with pytest.raises(UserError, match=r"r\.yaml:4: student \(\./models\.py:picky\): width must be at most 3"):
        made(root, "picky", width=4)


def test_arguments_come_with_their_right_types():
    def component(*, a: float, b: Literal["x", "y"] = "x", c: list[int] | None = None, _root: str = "r"):
        return None

    found = check(component, {"a": 3, "c": ["4"]}, "here", "component", {})
    assert found == {"a": 3.0, "b": "x", "c": [4], "_root": "r"}
    assert isinstance(found["a"], float)
    with pytest.raises(UserError, match=r"here\.b: Input should be 'x' or 'y', got 'z'"):
        check(component, {"a": 1, "b": "z"}, "here", "component", {})


@pytest.mark.parametrize(("package", "extra"), [("openvino", "openvino"), ("transformers", "hf"), ("torchao", "quant")])
def test_a_missing_package_names_its_extra(root, monkeypatch, package, extra):
    folder = root / "limbeck_room"
    folder.mkdir()
    monkeypatch.setitem(sys.modules, package, None)

    def importing(name):
        if name == "limbeck.losses.kd":
            raise ModuleNotFoundError(f"No module named {package!r}", name=f"{package}.part")
        return importlib_import(name)

    import importlib

    importlib_import = importlib.import_module
    monkeypatch.setattr("limbeck.build.importlib.import_module", importing)
    with pytest.raises(UserError, match=rf"'kd' needs the package '{package}'.*limbeck\[{extra}\]"):
        find("losses", "kd", WHERE)


def test_whatever_ones_own_code_raises_is_said(root):
    (root / "raises.py").write_text("def build(num_classes: int):\n    raise KeyError('head')\n")
    with pytest.raises(UserError, match=r"student \(\./raises\.py:build\): KeyError: 'head'"):
        build("models", {"kind": "./raises.py:build"}, WHERE, root, num_classes=5)


def test_an_error_of_our_own_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr("limbeck.build.find", lambda *_: _broken)
    with pytest.raises(ZeroDivisionError):
        build("losses", {"kind": "kd"}, WHERE)


def _broken():
    return 1 / 0


@pytest.mark.parametrize("kind", ["builtins:dict", "math:pi", "builtins:int"])
def test_what_has_no_signature_is_refused(kind):
    with pytest.raises(UserError, match=rf"r\.yaml:4: student.*{kind}"):
        build("models", {"kind": kind, "x": 1}, WHERE)
