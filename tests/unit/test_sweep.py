"""The runs of a matrix: which, under which names, and what happens when one fails."""

import subprocess
import sys
from pathlib import Path

import pytest

from limbeck.cli import main
from limbeck.recipe import Recipe, read
from limbeck.record import UserError
from limbeck.sweep.grid import cells, split_axes

RECIPE = """name: table
data: {kind: scenes, size: [32, 32], canvas: [32, 32], training: 8, validation: 4, batch: 4}
teacher: {kind: compact_unet, width: 4, stages: 2}
student: {kind: compact_unet, width: 4, stages: 2}
train: {steps: 2}
distil: [{kind: kd, weight: 1}]
bench: null
matrix:
  method:
    none: {distil: []}
    kd: {distil.0.temperature: 4}
  seed: [0, 1]
"""


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


def test_axes_of_the_command_line_come_last(recipe: Path) -> None:
    plain, axes = split_axes(["student.width=4,8", "data.size=[32, 32]", "train.steps=1"])
    assert plain == ["data.size=[32, 32]", "train.steps=1"]
    found = cells(read(recipe, [*plain, "matrix={}"]), axes)
    assert [cell.overrides[0] for cell in found] == ["student.width=4", "student.width=8"]
    assert [cell.name for cell in found] == ["table-width-4", "table-width-8"]


def test_equal_last_words_are_told_apart(recipe: Path) -> None:
    found = cells(read(recipe, ["matrix={}"]), {"student.width": [4], "teacher.width": [8]})
    assert [cell.name for cell in found] == ["table-student.width-4-teacher.width-8"]


def test_equal_names_are_refused(recipe: Path) -> None:
    with pytest.raises(UserError, match=r"matrix.*'table-width-4'"):
        cells(read(recipe, ["matrix={}"]), {"student.width": [4, 4]})


def called(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["limbeck", *words])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_list_and_check(recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert called(monkeypatch, "sweep", str(recipe), "--list") == 0
    assert capsys.readouterr().out.split() == [
        "0", "table-none-seed-0", "1", "table-none-seed-1", "2", "table-kd-seed-0", "3", "table-kd-seed-1",
    ]  # fmt: skip
    assert called(monkeypatch, "check", str(recipe)) == 0
    assert "matrix   4 runs" in capsys.readouterr().out


def test_an_unsound_run_is_named_before_any_begins(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe.write_text(RECIPE.replace("distil.0.temperature: 4", "train.steps: none"))
    assert called(monkeypatch, "sweep", str(recipe)) == 2
    assert "train.steps" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--only", "9"], ["matrix={}"]])
def test_nothing_to_do_is_said(
    words: list[str], recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(monkeypatch, "sweep", str(recipe), *words) == 2
    said = capsys.readouterr().err
    assert ("there are 4 runs" if words[0] == "--only" else "has no matrix") in said


def test_a_failed_run_stops_no_other(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[str] = []

    def child(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        started.append(next(word for word in command if word.startswith("name=")))
        return subprocess.CompletedProcess(command, 2 * (len(started) == 2))

    monkeypatch.setattr(subprocess, "run", child)
    assert called(monkeypatch, "sweep", str(recipe)) == 1
    assert len(started) == 4
    assert "3 of 4 runs done.\nFailed: table-none-seed-1" in capsys.readouterr().out


@pytest.mark.slow
def test_a_sweep_runs_and_is_not_run_twice(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMBECK_RUNS", str(tmp_path / "runs"))
    assert called(monkeypatch, "sweep", str(recipe), "export=[]", "matrix.seed=[0]") == 0
    records = sorted(
        path.relative_to(tmp_path / "runs").as_posix() for path in (tmp_path / "runs").rglob("record.json")
    )
    assert "table-kd-seed-0/student/record.json" in records
    before = {name: (tmp_path / "runs" / name).stat().st_mtime_ns for name in records}
    assert called(monkeypatch, "sweep", str(recipe), "export=[]", "matrix.seed=[0]") == 0
    assert before == {name: (tmp_path / "runs" / name).stat().st_mtime_ns for name in records}
