"""A mix through the whole line: trained, quantized, scored by sliding windows source by source, shown."""

import json
from pathlib import Path

import numpy as np
import pytest

from limbeck.recipe import read
from limbeck.run import run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIMBECK_RUNS", str(tmp_path_factory.mktemp("runs")))
        return run(read("smoke/mix", ["bench=null"]), device="cpu")


def test_every_row_is_scored_on_each_source_and_on_their_sum(finished: Path) -> None:
    rows = json.loads((finished / "evaluate" / "record.json").read_text())["result"]["rows"]
    assert len(rows) == 2
    for row in rows:
        assert row["boundary_iou"] is not None
        assert {name: own["images"] for name, own in row["sources"].items()} == {"streets": 3, "lanes": 2}
        assert np.array_equal(sum(np.asarray(own["matrix"]) for own in row["sources"].values()), row["matrix"])


def test_the_record_says_how_images_were_shown(finished: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text())["rows"]
    words = "windows of 48x64 every 24x32 over images that cover it at scales 1, 1.5, plain and mirrored"
    assert {row["protocol"] for row in summary} == {words}
    assert all(set(row["sources"]) == {"streets", "lanes"} for row in summary)
    page = (finished / "report" / "index.html").read_text()
    assert f"shown as {words}" in page
    assert "Source by source" in page


def test_training_draws_by_weight_and_validates_by_source(finished: Path) -> None:
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert max(line["epoch"] for line in lines) == pytest.approx(8 / ((6 + 8) // 4), abs=1e-3)
    assert any({"miou", "miou/streets", "miou/lanes"} <= set(line) for line in lines)
