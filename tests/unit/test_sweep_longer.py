"""Controls of equal time: how many steps, which methods share one, and what their runs change."""

import pytest
from _fake_sweep import PACE, RECIPE, STEPS, cell, fake_cell, fake_sweep, write_sweep

from limbeck.recipe import read as read_recipe
from limbeck.sweep import results
from limbeck.sweep.longer import grouped, known_controls, longer_controls
from limbeck.sweep.methods import EQUAL_TIME


@pytest.mark.parametrize(
    ("steps", "groups"),
    [
        ([], []), ([100], [100]), ([100, 105, 106], [105, 106]), ([110, 100, 104], [104, 110]),
        ([100, 104, 108], [104, 108]), ([50, 200], [50, 200]),
    ],
)  # fmt: skip
def test_groups_are_within_five_percent_of_their_smallest(steps, groups):
    assert grouped(steps) == groups


def test_one_control_for_methods_of_about_one_time(tmp_path):
    """cwd takes 0.50, kd+cwd 0.52 and pkd 0.49 s where the control takes 0.42: 140 to 149 steps for its 120."""
    found = longer_controls(results.read(fake_sweep(tmp_path, seeds=(0, 1))))
    wanted = {round(STEPS * PACE[method] / PACE["none"]) for method in ("kd", "pkd", "cwd", "kd+cwd")}
    assert wanted == {134, 140, 143, 149}
    assert [cell.name for cell in found] == [
        f"study-none-seed-{seed}-{steps}-steps" for steps in (140, 149) for seed in (0, 1)
    ]  # fmt: skip
    assert found[1].axes == {"distil": "none", "seed": 1, EQUAL_TIME: "140 steps"}


def test_the_recipe_of_a_longer_control(tmp_path):
    """Given in epochs or in steps, the control has the steps, its own name, and all else as the control has it."""
    source = tmp_path / "study.yaml"
    text = RECIPE.format(name="study", seed=0, terms="{kind: kd}", steps="null", baseline="false")
    source.write_text(text.replace("epochs: null", "epochs: 30").replace("{kind: torchvision, weights: null}", "null"))
    changes = ("distil=[]", "seed=1", "name=study-none-seed-1", "matrix={}")
    fake_cell(tmp_path, "study-none-seed-1", "none", 1)
    fake_cell(tmp_path, "study-kd-seed-1", "kd", 1, steps=STEPS)
    folder = write_sweep(tmp_path, [
        cell("study-none-seed-1", {"distil": "none", "seed": 1}, overrides=changes),
        cell("study-kd-seed-1", {"distil": "kd", "seed": 1}),
    ])  # fmt: skip
    (longer,) = longer_controls(results.read(folder))
    recipe = read_recipe(str(source), list(longer.overrides))
    assert (recipe.name, recipe.seed, recipe.distil.terms) == ("study-none-seed-1-134-steps", 1, [])
    assert (recipe.train.steps, recipe.train.epochs) == (134, None)


def test_a_control_that_is_there_is_not_made_again(tmp_path):
    cells = []
    for method, steps, axes in (("none", STEPS, {}), ("kd", STEPS, {}), ("none", 134, {EQUAL_TIME: "134 steps"})):
        fake_cell(tmp_path, f"{method}-{steps}", method, 0, steps=steps)
        cells.append(cell(f"{method}-{steps}", {"distil": method} | axes, overrides=(f"distil={method}",)))
    folder = write_sweep(tmp_path, cells)
    assert longer_controls(results.read(folder)) == []
    (known,) = known_controls(folder, known_controls(folder, results.read(folder).runs))
    assert (known.name, known.axes[EQUAL_TIME]) == ("none-134", "134 steps")
    assert known_controls(folder, []) == []
    assert known_controls(tmp_path, results.read(folder).runs) == []


def test_a_method_as_fast_as_its_control_needs_none(tmp_path):
    cells = []
    for method in ("none", "kd"):
        fake_cell(tmp_path, method, "none" if method == "none" else "kd", 0, steps=STEPS)
        cells.append(cell(method, {"distil": method}))
    record = tmp_path / "kd" / "student" / "record.json"
    record.write_text(record.read_text().replace(f'"seconds": {STEPS * PACE["kd"]},', f'"seconds": {STEPS * 0.43},'))
    found = results.read(write_sweep(tmp_path, cells))
    assert found.runs[1].networks["student"].step_ms == pytest.approx(430)
    assert longer_controls(found) == []


def test_baselines_of_the_runs_are_trained_longer_without_their_terms(tmp_path):
    found = longer_controls(results.read(fake_sweep(tmp_path, ("kd+cwd",), seeds=(0, 1), baseline=True)))
    assert [cell.name for cell in found] == [
        f"study-kd-cwd-seed-{seed}-none-149-steps" for seed in (0, 1)
    ]  # fmt: skip
    assert {"distil=[]", "baseline=false", "train.steps=149"} <= set(found[0].overrides)
    assert found[0].axes == {"distil": "none", "seed": 0, EQUAL_TIME: "149 steps"}
