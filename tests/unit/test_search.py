"""Searches: what is drawn, what is told, what is taken up again, and which trials are best."""

import json
import math
import sys
from pathlib import Path

import pytest
from test_sweep import RECIPE, called

from limbeck.recipe import Recipe, read
from limbeck.record import UserError
from limbeck.sweep import search as module
from limbeck.sweep.children import Sweep
from limbeck.sweep.folder import opened
from limbeck.sweep.pool import Pool
from limbeck.sweep.space import cell, corners

pytest.importorskip("optuna", reason="limbeck[search] is not installed")

SPACE = """search:
  trials: 8
  space:
    train.optimizer.lr: {low: 1.0e-4, high: 1.0e-2, log: true}
    student.width: {low: 4, high: 8, step: 4}
    distil: [none, kd]
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIMBECK_RUNS", str(tmp_path / "runs"))
    (tmp_path / "table.yaml").write_text(RECIPE.partition("matrix:")[0] + SPACE)
    return tmp_path / "table.yaml"


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that do nothing, and are the better the nearer the learning rate is to 1e-3 and the wider they are."""
    monkeypatch.setattr(Sweep, "command", lambda self, cell, verb: [sys.executable, "-c", ""])

    def measured(recipe: Recipe, done: Recipe) -> list[float]:
        assert done.train is not None
        width = done.student.spec["width"]
        score = 50 - 10 * abs(math.log10(done.train.optimizer.lr) + 3) + width
        return [score, float(width)] if recipe.search and recipe.search.latency else [score]

    monkeypatch.setattr(module, "_measured", measured)


def found(recipe: Path) -> dict:
    return json.loads((recipe.parent / "runs" / "table-search" / "search.json").read_text())


def test_a_trial_is_a_run_of_its_own(recipe: Path) -> None:
    drawn = {"train.optimizer.lr": 0.003, "student.width": 8, "distil": "kd"}
    trial = cell(read(recipe), 7, drawn)
    assert (trial.name, trial.axes) == ("table-trial-007", drawn)
    run = read(recipe, list(trial.overrides))
    assert (run.name, run.search, run.student.spec["width"]) == ("table-trial-007", None, 8)
    assert run.train is not None
    assert run.train.optimizer.lr == 0.003
    assert [term.kind for term in run.distil.terms] == ["kd"]


def test_both_ends_of_every_range_and_each_choice_are_checked(recipe: Path) -> None:
    ends = [dict(one.axes) for one in corners(read(recipe))]
    assert ends == [
        {"train.optimizer.lr": 1e-4, "student.width": 4, "distil": "none"},
        {"train.optimizer.lr": 1e-2, "student.width": 8, "distil": "kd"},
    ]


def test_better_values_are_found_and_the_command_goes_on(
    recipe: Path, scored: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(monkeypatch, "search", str(recipe), "--trials", "3") == 0
    first = found(recipe)
    assert [trial["state"] for trial in first["trials"]] == ["complete"] * 3
    assert called(monkeypatch, "search", str(recipe), "--trials", "3") == 0  # there are enough
    assert found(recipe) == first
    assert called(monkeypatch, "search", str(recipe)) == 0
    trials = found(recipe)["trials"]
    assert sorted(trial["name"] for trial in trials) == [f"table-trial-{number:03d}" for number in range(8)]
    assert {1e-4 <= trial["drawn"]["train.optimizer.lr"] <= 1e-2 for trial in trials} == {True}
    assert {trial["drawn"]["student.width"] for trial in trials} == {4, 8}
    assert len({trial["drawn"]["train.optimizer.lr"] for trial in trials}) == 8
    scores = [trial["values"][0] for trial in trials]
    assert scores == sorted(scores, reverse=True)
    assert [trial["best"] for trial in trials] == [True] + [False] * 7
    assert "table-trial-" in capsys.readouterr().out


def test_with_latency_every_unbeaten_trial_is_best(recipe: Path, scored: None, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["search.latency=true", "bench={}"]
    assert called(monkeypatch, "search", str(recipe), *words) == 0
    trials = found(recipe)["trials"]
    for trial in trials:
        score, latency = trial["values"]
        beaten = any(
            s >= score and ms <= latency and (s, ms) != (score, latency) for s, ms in (t["values"] for t in trials)
        )
        assert trial["best"] == (not beaten)
    assert called(monkeypatch, "search", str(recipe), *words, "--workers", "2") == 2


def test_a_stopped_trial_goes_on_with_its_values_and_a_failed_one_is_told(
    recipe: Path, scored: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = iter([75, 2, 0])

    def command(self: Sweep, cell: object, verb: str) -> list[str]:
        assert verb == "evaluate"
        return [sys.executable, "-c", f"raise SystemExit({next(ends)})"]

    monkeypatch.setattr(Sweep, "command", command)
    assert called(monkeypatch, "search", str(recipe), "--trials", "2") == 75
    folder = recipe.parent / "runs" / "table-search"
    stopped = json.loads((folder / "sweep.json").read_text())["cells"]
    assert [entry["state"] for entry in stopped] == ["stopped"]
    assert called(monkeypatch, "search", str(recipe), "--trials", "2") == 0
    again = json.loads((folder / "sweep.json").read_text())["cells"]
    assert [entry["state"] for entry in again] == ["failed", "done"]
    assert again[0]["axes"] == stopped[0]["axes"]
    assert sorted(trial["state"] for trial in found(recipe)["trials"]) == ["complete", "fail"]


def test_trials_of_another_recipe_are_not_compared(recipe: Path, scored: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert called(monkeypatch, "search", str(recipe), "--trials", "1") == 0
    assert called(monkeypatch, "search", str(recipe), "train.steps=3") == 2
    assert called(monkeypatch, "search", str(recipe), "train.steps=3", "name=other", "--trials", "1") == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("search=null", "has no search section"),
        ("search.latency=true", "bench is null"),
        ("search.row=student.int4.eager", "no row 'student.int4.eager'; the student's are student.fp32.eager"),
        ("search.space.student.width={low: 8, high: 4}", "low 8 is not below high 4"),
        ("search.space.student.width={low: 0, high: 4, log: true}", "log needs low above 0"),
        ("search.space.student.widht=[4, 8]", "widht"),
    ],
)
def test_what_cannot_be_searched_is_refused(
    change: str, message: str, recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if "space" in change:  # a dotted key inside the space is one word
        key, _, value = change.removeprefix("search.space.").partition("=")
        change = f"search.space={{{key}: {value}}}"
    assert called(monkeypatch, "search", str(recipe), change) == 2
    assert message in capsys.readouterr().err


def test_processes_that_begin_together_draw_different_trials(recipe: Path, tmp_path: Path) -> None:
    wanted, path = read(recipe, ["search.sampler=random"]), tmp_path / "search"
    folder = opened(path, wanted.name, str(recipe), (), ())
    studies = [module._study(wanted, path) for _ in range(2)]
    pools = [Pool(folder, [{}]) for _ in studies]
    trials = [module._next(wanted, study, pool, 8) for study, pool in zip(studies, pools, strict=True)]
    rates = [trial.params["train.optimizer.lr"] for trial in trials if trial is not None]
    assert len(set(rates)) == 2
    assert [entry["name"] for entry in json.loads((path / "sweep.json").read_text())["cells"]] == [
        "table-trial-000", "table-trial-001",
    ]  # fmt: skip


def test_a_trial_may_be_told_by_two_processes(recipe: Path, tmp_path: Path, scored: None) -> None:
    study = module._study(read(recipe), tmp_path / "search")
    study.ask(module.distributions(read(recipe)))
    sweep = Sweep(str(recipe), (), ())
    for code in (0, 0, 2):
        module._tell(sweep, study, 0, code)
    assert [trial.state.name for trial in study.get_trials()] == ["COMPLETE"]


def test_a_row_that_only_some_trials_have_is_refused(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["search.space={quantize: [[], [{kind: pt2e, target: onnxruntime}]]}", "quantize={kind: pt2e}", "bench={}"]
    assert called(monkeypatch, "search", str(recipe), *words) == 2
    assert "search.row names one that all have, such as student.fp32.eager" in capsys.readouterr().err


def test_without_optuna_the_extra_is_named(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert called(monkeypatch, "search", str(recipe)) == 2
    assert "pip install 'limbeck[search]'" in capsys.readouterr().err


def test_same_named_choices_are_refused(recipe: Path) -> None:
    with pytest.raises(UserError, match="two choices are called the same"):
        corners(read(recipe, ["search.space={student.width: [4, 4]}"]))


@pytest.mark.slow
def test_a_small_search_to_its_end(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["search.space={student.width: [4, 8]}", "export=[]", "--trials", "2"]
    assert called(monkeypatch, "search", str(recipe), *words) == 0
    trials = found(recipe)["trials"]
    for trial in trials:
        record = json.loads((recipe.parent / "runs" / trial["name"] / "evaluate" / "record.json").read_text())
        scores = {row["id"]: row["miou"] for row in record["result"]["rows"]}
        assert trial["values"] == [scores["student.fp32.eager"]]
