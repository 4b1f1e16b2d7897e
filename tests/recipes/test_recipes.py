"""Every recipe in the package can be read, is named after its path, and passes the check without data or weights."""

from pathlib import Path

import pytest

from limbeck.recipe import packaged, read
from limbeck.recipe.lesson import lesson, seats
from limbeck.record import UserError
from limbeck.stages.check import check

RECIPES = packaged()


def test_there_are_some() -> None:
    assert {"demo", "camvid/quick"} <= set(RECIPES)
    assert any(name.startswith("smoke/") for name in RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_it_is_named_after_its_path(name: str) -> None:
    assert read(name).name == name.replace("/", "-")


@pytest.mark.parametrize("name", RECIPES)
def test_it_begins_with_what_it_is_for(name: str) -> None:
    first = RECIPES[name].read_text(encoding="utf-8").partition("\n")[0]
    assert first.startswith("# ")
    assert first.endswith(".")
    assert len(first) <= 140


LARGE = ("segdistill/", "distiqat/", "sceneseg/", "elec475/", "camvid/full", "camvid/ddrnet", "camvid/pidnet")
"""Networks that take a minute to build and try; `limbeck check` on the whole folder is a step of its own in CI."""


@pytest.mark.parametrize("name", [name for name in RECIPES if not name.startswith(LARGE)])
def test_it_passes_the_check(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LIMBECK_DATA", str(tmp_path))  # as on a machine that has no data yet
    recipe = read(name)
    lines = [line for line in check(recipe) if not line.startswith("licence")]
    assert lines[0].startswith("data")
    assert lines[1].startswith("student")
    teachers = seats(recipe)
    lessons = [lesson(recipe, role) for role in ("student", *teachers)]
    tables = [["term", *found.rows] for found in lessons if found.rows]
    cached = sum(found.distil.cache == "replay" for found in lessons if found.rows)
    named = len(tables) if len(tables) > 1 else 0
    assert len(lines) == 2 + len(teachers) + sum(map(len, tables)) + cached + named
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("key", ["train.batch", "data.batch"])
def test_a_batch_that_is_too_large_is_named(key: str) -> None:
    with pytest.raises(UserError, match=rf"{key}: 99 images a batch, but only 24 to train on"):
        check(read("smoke/lraspp", [f"{key}=99"]))


def test_with_the_data_there_it_says_how_much(camvid: Path) -> None:
    (line, *_) = check(read("camvid/quick"))
    assert "367 training and 101 validation images" in line
