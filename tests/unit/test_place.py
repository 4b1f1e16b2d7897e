from pathlib import Path

import pytest

from limbeck.place import Place, dump, indexed, nearest, override, parse
from limbeck.record import UserError

TEXT = """\
# a comment
name: x
data: {kind: scenes, size: [64, 96]}

distil:
  - kind: kd
    weight: 1.5
  - {kind: cwd,
     weight: 3}
"""


def test_every_key_has_its_line():
    value, lines = parse(TEXT, "r.yaml")
    assert value["distil"][1] == {"kind": "cwd", "weight": 3}
    expected = {
        ("name",): 2, ("data",): 3, ("data", "size"): 3, ("data", "size", 1): 3, ("distil",): 5, ("distil", 0): 6,
        ("distil", 0, "weight"): 7, ("distil", 1): 8, ("distil", 1, "weight"): 9,
    }  # fmt: skip
    assert {keys: lines[keys] for keys in expected} == expected


def test_values_are_plain_yaml_1_2():
    value, _ = parse("a: 1e-3\nb: 3.0\nc: 7\nd: true\ne: null\nf: on\ng: '1'\nh: 0x10\ni: .inf\nj:\n", "r.yaml")
    assert value == {
        "a": 0.001, "b": 3.0, "c": 7, "d": True, "e": None, "f": "on", "g": "1", "h": 16, "i": float("inf"), "j": None
    }  # fmt: skip
    assert isinstance(value["c"], int)


def test_anchors_repeat_values():
    value, _ = parse("a: &x {b: 1}\nc: *x\n", "r.yaml")
    assert value == {"a": {"b": 1}, "c": {"b": 1}}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a: 1\na: 2\n", "r.yaml:2: duplicate key 'a'; it is already on line 1"),
        ("a:\n  b: 1\n  b: 2\n", "r.yaml:3: duplicate key 'b'"),
        ("a: 1\nb: !mine 3\n", "r.yaml:2: found '!mine'"),
        ("a: 1\nb: !!python/object/apply:os.system [ls]\n", "r.yaml:2: found"),
        ("a: 2024-99-99\n", "r.yaml:1: found"),
        ("a: !!int x\n", "r.yaml:1: invalid literal"),
        ("a: [1, 2\nb: 3\n", "r.yaml:2: YAML syntax"),
        ("a: 1\n\tb: 2\n", "r.yaml:2: YAML syntax"),
        ("a: 1\nb: *nowhere\n", "r.yaml:2: YAML syntax: found undefined alias 'nowhere'"),
        ("a: &x [*x]\n", "r.yaml: an alias"),
        ("a: 1\n---\nb: 2\n", "r.yaml:2: YAML syntax"),
        ("a: \x01\n", "r.yaml: not a text file"),
        ("", "r.yaml: a recipe is a mapping"),
        ("- a\n- b\n", "r.yaml: a recipe is a mapping"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text, wanted):
    with pytest.raises(UserError) as caught:
        parse(text, "r.yaml")
    assert str(caught.value).startswith(wanted)


def test_a_place_prints_file_line_and_keys():
    where = Place("r.yaml", (), parse(TEXT, "r.yaml")[1])
    assert str(where) == "r.yaml"
    assert str(where / "distil" / 1 / "weight") == "r.yaml:9: distil.1.weight"
    assert str(where / "distil" / 0 / "at") == "r.yaml:6: distil.0.at"  # not in the file: the nearest line that is
    assert str(where / "train" / "steps") == "r.yaml: train.steps"
    assert str(Place("override")) == "override"


def test_nearest():
    assert nearest("studnet", ["student", "teacher"]) == " Did you mean 'student'?"
    assert nearest("xyz", ["student", "teacher"]) == ""
    assert nearest("xyz", []) == ""


@pytest.mark.parametrize(
    ("assignment", "keys", "new"),
    [
        ("a=3", ("a",), 3),
        ("a=3e-4", ("a",), 3e-4),
        ("a=x=y", ("a",), "x=y"),
        ("a=", ("a",), None),
        ("a=[1, 2]", ("a",), [1, 2]),
        ("a={b: true}", ("a",), {"b": True}),
        ("a='3'", ("a",), "3"),
        ("m.n.o=x", ("m", "n", "o"), "x"),
        ("l.1.b=2", ("l", 1, "b"), 2),
        ("l.0=7", ("l", 0), 7),
        ("none.b=1", ("none", "b"), 1),
        ("a=./models.py:build", ("a",), "./models.py:build"),
    ],
)
def test_overrides(assignment, keys, new):
    value = {"a": 1, "l": [{"b": 0}, {"b": 1}], "none": None}
    assert override(value, assignment) == keys
    for key in keys:
        value = value[key]
    assert value == new
    assert type(value) is type(new)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("quantize.target=x", "quantize.0.target=x"), ("quantize.0.target=x", "quantize.0.target=x"),
        ("quantize=[]", "quantize=[]"), ("teacher.teacher.seed=1", "teacher.0.teacher.0.seed=1"),
        ("several.seed=1", "several.seed=1"), ("several.1.teacher.seed=1", "several.1.teacher.0.seed=1"),
        ("new.key=1", "new.key=1"),
    ],
)  # fmt: skip
def test_an_entry_alone_needs_no_number(given, wanted):
    alone = {"kind": "x", "teacher": [{"kind": "y"}]}
    value = {"quantize": [{"kind": "pt2e"}], "teacher": [alone], "several": [{}, alone]}
    assert indexed(value, ("quantize", "teacher", "several"), given) == wanted


def test_an_override_leaves_the_rest():
    value = {"a": {"b": 1, "c": 2}}
    override(value, "a.b=5")
    assert value == {"a": {"b": 5, "c": 2}}


@pytest.mark.parametrize(
    ("assignment", "wanted"),
    [
        ("a", "an override looks like train.optimizer.lr=3e-4"),
        ("=3", "an override looks like"),
        ("l.2=3", r"l\.2 does not exist; the list has 2 entries"),
        ("l.7.b=3", r"l\.7 does not exist; the list has 2 entries"),
        ("l.-1=3", r"l\.-1 does not exist"),
        ("l.x.b=3", r"l\.x does not exist"),
        ("a.b=3", r"a\.b does not exist, its parent is 1"),
        ("a=[1", "override a:1: YAML syntax"),
        ("a=!x 3", "override a:1: found '!x'"),
    ],
)
def test_wrong_overrides(assignment, wanted):
    value = {"a": 1, "l": [{"b": 0}, {"b": 1}]}
    with pytest.raises(UserError, match=wanted):
        override(value, assignment)
    assert value == {"a": 1, "l": [{"b": 0}, {"b": 1}]}


def test_dumped_values_are_read_again():
    value = {
        "z": 1, "a": [1.5, None, True, "on", "1", "1e-3", "2024-01-01", ""], "m": {"lr": 3e-4, "n": 1e-7, "i": 10**20},
        "path": Path("/a/b"), "empty": [], "none": {}, "text": "a: b # c", "long": "x " * 100, "umlaut": "ä",
    }  # fmt: skip
    text = dump(value)
    assert parse(text, "r.yaml")[0] == value | {"path": "/a/b"}
    assert list(parse(text, "r.yaml")[0]) == list(value)
