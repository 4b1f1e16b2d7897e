"""What is read and said before the first step."""

import numpy as np
import pytest
from PIL import Image

from limbeck.recipe import read
from limbeck.record import UserError
from limbeck.stages.context import Context
from limbeck.stages.training_data import check_data

RECIPE = """\
name: x
data: {kind: folder, path: mine, classes: [a, b], size: [32, 32], batch: 2}
student: {kind: compact_unet, width: 4, stages: 2}
train: {steps: 1}
"""


def add(root, split, *levels):
    """Images of one grey each with their masks."""
    for number, level in enumerate(levels):
        for part, shape in (("images", (6, 8, 3)), ("annotations", (6, 8))):
            folder = root / "mine" / part / split
            folder.mkdir(parents=True, exist_ok=True)
            value = level if part == "images" else 0
            Image.fromarray(np.full(shape, value, np.uint8)).save(folder / f"{split}-{number}.png")


@pytest.fixture
def context(tmp_path, monkeypatch):
    add(tmp_path, "training", 10, 20, 30, 40)
    add(tmp_path, "validation", 30, 40, 50)
    add(tmp_path, "test", 60, 10)
    (tmp_path / "r.yaml").write_text(RECIPE)
    monkeypatch.setenv("LIMBECK_DATA", str(tmp_path))
    return lambda *changes: Context(read(tmp_path / "r.yaml", list(changes)), tmp_path / "run")


def test_scored_images_that_are_trained_on_are_said_once(context, capsys):
    run = context("evaluate.split=test")
    for role in ("student", "student-baseline"):
        check_data(run, role)
    said = capsys.readouterr().err
    assert said.count("data: ") == 2
    assert "2 of the validation images are training images too, pixel for pixel (validation-0, validation-1);" in said
    assert "1 of the test images are training images too, pixel for pixel (test-1);" in said


def test_a_test_split_that_nobody_scores_is_not_read(context, tmp_path, capsys):
    (tmp_path / "mine/images/test/test-0.png").write_bytes(b"broken")
    check_data(context(), "student")
    assert "test" not in capsys.readouterr().err
    with pytest.raises(UserError, match=r"test-0\.png: not a readable image"):
        check_data(context("evaluate.split=test"), "student")


def test_data_that_have_nothing_in_common_are_not_mentioned(context, tmp_path, capsys):
    add(tmp_path, "validation", 70, 80, 90)
    check_data(context(), "student")
    assert capsys.readouterr().err == ""
