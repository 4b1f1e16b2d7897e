"""A teacher is evaluated once for its weights, and its score said before anything is distilled from it."""

import json

import pytest
import torch
from safetensors.torch import save_file

from limbeck.data.stats import cache_folder
from limbeck.models.compact_unet import compact_unet
from limbeck.recipe import read
from limbeck.record import UserError, write_json
from limbeck.stages.context import Context
from limbeck.stages.networks import load_role
from limbeck.stages.score import good_enough
from limbeck.stages.train import run

RECIPE = """\
name: x
data: {kind: scenes, size: [32, 32], training: 4, validation: 4, batch: 2}
teacher: {kind: compact_unet, width: 4, stages: 2, weights: teacher.safetensors}
student: {kind: compact_unet, width: 4, stages: 2}
train: {steps: 1}
distil: [{kind: kd}]
"""


@pytest.fixture
def begin(tmp_path):
    """``begin(*overrides, seed=0)``: a run whose teacher came with the weights that this seed gives."""

    def make(*overrides, seed=0):
        torch.manual_seed(seed)
        save_file(compact_unet(12, width=4, stages=2).state_dict(), tmp_path / "teacher.safetensors")
        (tmp_path / "r.yaml").write_text(RECIPE)
        context = Context(read(tmp_path / "r.yaml", list(overrides)), tmp_path / "run")
        context.folder.mkdir(exist_ok=True)
        run(context, "teacher")
        return context, load_role(context, "teacher")

    return make


def test_a_teacher_with_weights_is_evaluated_once_and_its_score_said(begin, capsys):
    context, model = begin()
    good_enough(context, "teacher", model)
    (kept,) = (cache_folder() / "scores").iterdir()
    known = json.loads(kept.read_text())
    assert 0 <= known["score"] <= 100
    assert f"teacher: {known['score']:.2f} points of miou on validation" in capsys.readouterr().err
    write_json(kept, known | {"score": 77.7})  # only a second evaluation would know better
    good_enough(context, "teacher", model)
    assert "77.70 points" in capsys.readouterr().err
    context, model = begin(seed=1)
    good_enough(context, "teacher", model)
    assert "77.70" not in capsys.readouterr().err, "other weights have another score"


def test_a_teacher_below_its_metric_is_refused_with_the_place(begin):
    context, model = begin("teacher.min_metric=99.5")
    for _ in range(2):  # the second time from what is kept
        with pytest.raises(UserError, match=r"r\.yaml.*: teacher\.min_metric: the teacher reaches \d+\.\d\d points of"):
            good_enough(context, "teacher", model)


def test_of_a_trained_teacher_its_training_knows_the_score(begin, capsys):
    context, model = begin("teacher.weights=null")
    write_json(context.folder / "teacher" / "record.json", {"result": {"best": 12.25}})
    good_enough(context, "teacher", model)
    assert "teacher: 12.25 points of miou on validation" in capsys.readouterr().err
    assert not (cache_folder() / "scores").exists()
