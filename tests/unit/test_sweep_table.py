"""What a sweep's table says, against sums by hand: means, gains, times, and what is missing."""

import json
import shutil

import numpy as np
import pytest
from _fake_sweep import PACE, STEPS, cell, counts, fake_cell, fake_sweep, miou, write_sweep

from limbeck.sweep import results
from limbeck.sweep.methods import EQUAL_TIME
from limbeck.sweep.table import tabulate


@pytest.fixture
def study(tmp_path):
    """``study(...)``: the table of such a fake sweep."""
    return lambda *args, **what: tabulate(results.read(fake_sweep(tmp_path, *args, **what)), draws=1000)


def by_method(table):
    return {row["method"]: row for row in table["rows"]}


def test_means_gains_and_costs(study):
    table = study(("none", "kd"))
    rows = by_method(table)
    kd = [miou(counts("kd", seed)) for seed in (0, 1, 2)]
    none = [miou(counts("none", seed)) for seed in (0, 1, 2)]
    assert (table["name"], table["score"], table["images"]) == ("study", "miou", 40)
    assert rows["kd"]["mean"] == pytest.approx(np.mean(kd))
    assert rows["kd"]["sd"] == pytest.approx(np.std(kd, ddof=1))
    gain = rows["kd"]["gain"]
    assert gain["by_seed"] == pytest.approx(np.subtract(kd, none))
    assert (gain["against"], gain["seeds"], gain["resolved"]) == ("none", [0, 1, 2], True)
    assert gain["whole"][0] < gain["images"][0] < gain["value"] < gain["images"][1] < gain["whole"][1]
    assert rows["none"]["gain"] is None
    assert rows["kd"]["step_ms"] == pytest.approx(1000 * PACE["kd"])
    assert rows["kd"]["step_ratio"] == pytest.approx(PACE["kd"] / PACE["none"])
    trained = 3 * STEPS * PACE["kd"] * 1.2 / 3600
    assert rows["kd"]["device_hours"] == pytest.approx(trained)  # evaluation is a copy in all runs, as is the teacher
    assert table["shared_hours"] == pytest.approx((7200 + 36) / 3600)


def test_the_best_is_only_one_that_is_resolved(study):
    table = study(("none", "kd", "kd+cwd"))
    assert table["leader"] == {
        "method": "kd+cwd", "resolved": True, "ahead_of": ["none", "kd"], "level_with": []
    }  # fmt: skip
    assert "kd+cwd scores best, and its gain over the control is resolved." in table["notes"]


def test_what_is_level_is_named(study):
    table = study(("none", "kd"), lift=0.0)
    assert not table["leader"]["resolved"]
    assert any(note.startswith("No gain over the control is resolved") for note in table["notes"])


def test_a_resolved_loss_is_no_gain(tmp_path):
    folder = fake_sweep(tmp_path, ("none", "kd"))
    for seed in (0, 1, 2):
        shutil.rmtree(tmp_path / f"study-kd-seed-{seed}")
        fake_cell(tmp_path, f"study-kd-seed-{seed}", "kd", seed, lift=-0.05)
    table = tabulate(results.read(folder), draws=1000)
    gain = by_method(table)["kd"]["gain"]
    assert gain["resolved"]
    assert gain["value"] < 0
    assert (table["leader"]["method"], table["leader"]["resolved"]) == ("none", False)
    assert "Worse than the control, and resolved: kd." in table["notes"]
    assert not [note for note in table["notes"] if "but its gain" in note]


def test_a_single_seed_resolves_nothing(study):
    table = study(("none", "kd+cwd"), seeds=(0,))
    gain = by_method(table)["kd+cwd"]["gain"]
    assert (gain["verdict"], gain["resolved"], gain["whole"]) == ("not resolved beyond this seed", False, None)
    assert any("One seed a method" in note for note in table["notes"])


def test_a_failed_run_is_named_and_its_seed_compared_with_none(study):
    table = study(("none", "kd"), failed="study-kd-seed-1")
    kd = by_method(table)["kd"]
    assert (kd["seeds"], kd["wanted"], kd["missing"]) == ([0, 2], 3, ["study-kd-seed-1"])
    assert kd["gain"]["seeds"] == [0, 2]
    assert table["missing"] == [{"name": "study-kd-seed-1", "state": "failed", "code": 1}]
    assert "Not in the table (failed, exit code 1): study-kd-seed-1." in table["notes"]
    assert any("between 2 and 3 seeds" in note for note in table["notes"])


def test_nothing_is_done_yet(tmp_path):
    folder = write_sweep(tmp_path, [cell("study-kd-seed-0", {"distil": "kd", "seed": 0}, "waiting")])
    table = tabulate(results.read(folder))
    assert table["rows"][0]["mean"] is None
    assert table["missing"][0]["state"] == "waiting"
    assert table["leader"] is None


def test_a_run_that_failed_later_on_is_not_read(tmp_path):
    """Its summary may be there from an earlier time."""
    fake_cell(tmp_path, "study-kd-seed-0", "kd", 0)
    folder = write_sweep(tmp_path, [cell("study-kd-seed-0", {"distil": "kd", "seed": 0}, "failed", 1)])
    assert tabulate(results.read(folder))["rows"][0]["mean"] is None


def test_the_runs_own_baselines_are_the_control_where_there_is_no_other(study):
    table = study(("kd", "cwd"), seeds=(0, 1), baseline=True)
    rows = by_method(table)
    assert list(rows) == ["no distillation", "kd", "cwd"]
    assert rows["no distillation"]["mean"] == pytest.approx(np.mean([miou(counts("none", s)) for s in (0, 1)]))
    assert rows["kd"]["gain"]["against"] == rows["cwd"]["gain"]["against"] == "no distillation"


def test_a_control_of_other_settings_is_none(tmp_path):
    fake_cell(tmp_path, "a", "none", 0, steps=STEPS)
    fake_cell(tmp_path, "b", "kd", 0, steps=2 * STEPS)
    folder = write_sweep(tmp_path, [cell("a", {"distil": "none"}), cell("b", {"distil": "kd"})])
    table = tabulate(results.read(folder))
    assert [row["gain"] for row in table["rows"]] == [None, None]
    assert "No run without distillation to compare with" in table["notes"][0]


def test_other_axes_have_their_own_controls(tmp_path):
    cells = []
    for steps in (100, 200):
        for method in ("none", "kd"):
            fake_cell(tmp_path, f"{method}-{steps}", method, 0, steps=steps, lift=steps / 10_000)
            cells.append(cell(f"{method}-{steps}", {"distil": method, "train.steps": steps}))
    rows = by_method(tabulate(results.read(write_sweep(tmp_path, cells)), draws=100))
    assert list(rows) == ["none, steps 100", "kd, steps 100", "none, steps 200", "kd, steps 200"]
    assert rows["kd, steps 200"]["gain"]["against"] == "none, steps 200"
    assert rows["kd, steps 100"]["gain"]["against"] == "none, steps 100"


def test_at_the_controls_end_a_slower_method_is_cut_off(study):
    """kd+cwd takes 0.52 s a step, the control 0.42: its last validation by 120 * 0.42 = 50.4 s is that of step 90."""
    row = by_method(study(("none", "kd+cwd"), seeds=(0,)))["kd+cwd"]
    assert row["at_control_end"]["value"] < row["gain"]["value"]


def test_equal_time_is_measured_against_a_longer_control(tmp_path):
    cells = []
    for seed in (0, 1):
        for method, steps, axes in (
            ("none", STEPS, {}), ("kd+cwd", STEPS, {}), ("none", 149, {EQUAL_TIME: "149 steps"}),
        ):  # fmt: skip
            name = f"{method}-{steps}-{seed}"
            fake_cell(tmp_path, name, method, seed, steps=steps, lift=0.01 if steps == 149 else None)
            cells.append(cell(name, {"distil": method, "seed": seed} | axes))
    table = tabulate(results.read(write_sweep(tmp_path, cells)), draws=500)
    rows = by_method(table)
    assert list(rows) == ["none", "kd+cwd", "none, 149 steps"]
    assert rows["kd+cwd"]["gain"]["against"] == "none"
    assert rows["kd+cwd"]["equal_time"]["against"] == "none, 149 steps"  # 120 * 0.52 / 0.42 = 148.6
    assert 0 < rows["kd+cwd"]["equal_time"]["value"] < rows["kd+cwd"]["gain"]["value"]
    assert any(note.startswith("Gain in equal time: against controls") for note in table["notes"])


def test_runs_that_were_scored_on_other_images_are_not_drawn_together(tmp_path):
    folder = fake_sweep(tmp_path, ("none", "kd"), seeds=(0,))
    path = tmp_path / "study-kd-seed-0" / "evaluate" / "record.json"
    record = json.loads(path.read_text())
    record["result"]["rows"][0]["images"][3]["name"] = "another"
    path.write_text(json.dumps(record))
    gain = by_method(tabulate(results.read(folder)))["kd"]["gain"]
    assert (gain["images"], gain["verdict"]) == (None, "not tested: no counts of single images")


def test_a_classifiers_hits_are_counted(tmp_path):
    """Accuracy from the hits of single images, without a file of counts."""
    folder = fake_sweep(tmp_path, ("none", "kd"), seeds=(0, 1))
    for index, name in enumerate(path.name for path in sorted(tmp_path.glob("study-*-seed-*"))):
        (tmp_path / name / "evaluate" / "counts.npz").unlink()
        hits = [100 * (image % 10 < 6 + index // 2) for image in range(40)]
        edit(
            tmp_path / name / "summary.json",
            lambda s, hits=hits: s["rows"][0].update(miou=None, accuracy=np.mean(hits)),
        )
        images = [{"name": str(image), "accuracy": hit} for image, hit in enumerate(hits)]
        edit(
            tmp_path / name / "evaluate" / "record.json",
            lambda r, images=images: r["result"]["rows"][0].update(images=images),
        )
    table = tabulate(results.read(folder))
    rows = by_method(table)
    assert table["score"] == "accuracy"
    assert (rows["none"]["mean"], rows["kd"]["mean"]) == (70.0, 60.0)
    assert rows["none"]["gain"] is None
    assert rows["kd"]["gain"]["value"] == -10
    assert rows["kd"]["gain"]["images"][0] < -10 < rows["kd"]["gain"]["images"][1] < 0


def edit(path, change):
    """Change what a JSON file holds, in place."""
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def test_exported_rows_have_a_table_of_their_own(study):
    table = study(("none", "kd"), seeds=(0, 1), int8=True)
    assert [(line["method"], line["row"]["id"], line["runs"]) for line in table["files"]] == [
        ("none", "student.int8.openvino", 2), ("kd", "student.int8.openvino", 2),
    ]  # fmt: skip
    assert table["files"][1]["change"] == pytest.approx(-0.4)
    assert table["files"][1]["latency_ms"] == 7.9
