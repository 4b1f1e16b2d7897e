"""Which runs a matrix stands for, what they are called, and what each changes in its recipe."""

from pathlib import Path

import pytest
from test_sweep import RECIPE

from limbeck.recipe import Recipe, read
from limbeck.record import UserError
from limbeck.sweep.grid import cells, split_axes
from limbeck.sweep.labels import labels


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "table.yaml").write_text(RECIPE)
    return tmp_path / "table.yaml"


def test_every_combination_once_the_last_axis_fastest(recipe: Path) -> None:
    found = cells(read(recipe))
    assert [cell.name for cell in found] == [
        "table-none-seed-0", "table-none-seed-1", "table-kd-seed-0", "table-kd-seed-1",
    ]  # fmt: skip


def test_a_run_is_the_recipe_with_its_values(recipe: Path) -> None:
    runs: list[Recipe] = [read(recipe, list(cell.overrides)) for cell in cells(read(recipe))]
    assert [(run.name, run.seed, len(run.distil.terms)) for run in runs] == [
        ("table-none-seed-0", 0, 0), ("table-none-seed-1", 1, 0), ("table-kd-seed-0", 0, 1), ("table-kd-seed-1", 1, 1),
    ]  # fmt: skip
    assert runs[2].distil.terms[0].spec == {"kind": "kd", "temperature": 4}
    assert all(run.matrix == {} for run in runs)


def test_seeds_do_not_seed_the_teachers_again(recipe: Path) -> None:
    found = cells(read(recipe, ["seed=5"]))
    runs = [read(recipe, ["seed=5", *cell.overrides]) for cell in found]
    assert [(run.seed, run.teacher[0].seed) for run in runs] == [(0, 5), (1, 5)] * 2
    kept = cells(read(recipe, ["teacher.seed=7"]))
    assert [read(recipe, ["teacher.seed=7", *cell.overrides]).teacher[0].seed for cell in kept] == [7] * 4
    several = (
        "teacher=[{name: a, kind: compact_unet, width: 4, stages: 2, seed: 9}, {name: b, kind: compact_unet, width: 8, "
        "stages: 2, distil: [{kind: kd}], teacher: [{name: d, kind: compact_unet, width: 16, stages: 2}]}, {name: c, kind: ema}]"
    )
    for cell in cells(read(recipe, [several, "distil.0.at=logits -> a:logits"])):
        run = read(recipe, [several, "distil.0.at=logits -> a:logits", *cell.overrides])
        seeds = [teacher.seed for teacher in run.teacher]
        assert (seeds, run.teacher[1].teacher[0].seed) == ([9, 0, None], 0)


def test_axes_of_the_command_line_come_last(recipe: Path) -> None:
    plain, axes = split_axes(["student.width=4,8", "data.size=[32, 32]", "train.steps=1"])
    assert plain == ["data.size=[32, 32]", "train.steps=1"]
    found = cells(read(recipe, [*plain, "matrix={}"]), axes)
    assert [cell.overrides[0] for cell in found] == ["student.width=4", "student.width=8"]
    assert [cell.name for cell in found] == ["table-width-4", "table-width-8"]


def test_equal_last_words_are_told_apart(recipe: Path) -> None:
    found = cells(read(recipe, ["matrix={}"]), {"student.width": [4], "teacher.width": [8]})
    assert [cell.name for cell in found] == ["table-student.width-4-teacher.width-8"]


def test_terms_are_called_by_their_kinds() -> None:
    kd, cwd = {"kind": "kd", "temperature": 1}, {"kind": "cwd", "weight": 3}
    assert labels([[], [kd], [kd, cwd]]) == ["none", "kd", "kd+cwd"]
    assert labels([[kd], [kd | {"temperature": 4}]]) == ["kd-temperature-1", "kd-temperature-4"]
    assert labels([{"terms": [kd], "cache": "replay"}, {"terms": [cwd]}]) == ["kd", "cwd"]
    assert labels([[32, 32], [64, 64]]) == ["32x32", "64x64"]
    assert labels([True, False, None]) == ["true", "false", "none"]
    assert labels([{"width": 4}, {"width": 8}]) == [0, 1]
    assert labels([[kd, kd], [kd, kd | {"temperature": 4}]]) == ["kd+kd-1.temperature-1", "kd+kd-1.temperature-4"]


def test_words_choose_among_the_terms_of_the_recipe(recipe: Path) -> None:
    plain, axes = split_axes(["distil=none,kd,[{kind: cwd, weight: 1}]", "distil.0.weight=2"])
    found = cells(read(recipe, [*plain, "matrix={}"]), axes)
    assert [cell.name for cell in found] == ["table-none", "table-kd", "table-cwd"]
    assert [cell.axes for cell in found] == [{"distil": "none"}, {"distil": "kd"}, {"distil": "cwd"}]
    terms = [read(recipe, [*plain, *cell.overrides]).distil.terms for cell in found]
    assert [[(term.kind, term.weight) for term in one] for one in terms] == [[], [("kd", 2.0)], [("cwd", 1.0)]]
    with pytest.raises(UserError, match=r"distil: no term of kind 'pkd' for distil=kd\+pkd; this recipe has kd"):
        cells(read(recipe), split_axes(["distil=kd+pkd"])[1])


def test_words_for_terms_keep_the_cache_and_none_has_no_baseline(recipe: Path) -> None:
    common = ["matrix={}", "baseline=true", "distil.cache=replay", "distil.views=3"]
    _, axes = split_axes(["distil=none,kd,[{kind: cwd}],{terms: [{kind: dist}]}"])
    runs = [read(recipe, [*common, *cell.overrides]) for cell in cells(read(recipe, common), axes)]
    assert [(run.baseline, run.distil.cache, run.distil.views) for run in runs] == [
        (False, "replay", 3), (True, "replay", 3), (True, "replay", 3), (True, "online", 8),
    ]  # fmt: skip


def test_the_sweep_of_the_docs_has_runs() -> None:
    plain, axes = split_axes(["distil=none,kd,kd+cwd", "seed=0,1,2"])
    found = cells(read("demo", plain), axes)
    assert len([read("demo", [*plain, *cell.overrides]) for cell in found]) == 9


def test_equal_names_are_refused(recipe: Path) -> None:
    with pytest.raises(UserError, match=r"matrix.*'table-width-4'"):
        cells(read(recipe, ["matrix={}"]), {"student.width": [4, 4]})
