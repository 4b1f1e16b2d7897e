"""A student's file holds the student alone; what is trained beside it is in the checkpoints, and goes on with them."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from limbeck.artifact.load import load
from limbeck.models.compact_unet import compact_unet
from limbeck.recipe import read
from limbeck.stages.context import Context
from limbeck.stages.train import run
from limbeck.train import checkpoint

RECIPE = """\
name: x
data: {kind: scenes, size: [32, 32], training: 4, validation: 2, batch: 2, augment: {flip: true}}
teacher: {kind: compact_unet, width: 8, stages: 2, weights: teacher.safetensors}
student: {kind: compact_unet, width: 4, stages: 2}
train: {steps: 4, ema: 0.5, checkpoint: {every: 0.5, keep: 9}}
distil:
  - {kind: hint, at: encoder.1 -> encoder.1}
  - {kind: mgd, at: encoder.1 -> encoder.1, weight: 0.1}
  - {kind: kd, at: logits}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with the recipe and the teacher's weights."""
    folder = tmp_path_factory.mktemp("alone")
    torch.manual_seed(0)
    save_file(compact_unet(12, width=8, stages=2).state_dict(), folder / "teacher.safetensors")
    (folder / "r.yaml").write_text(RECIPE)
    return folder


@pytest.fixture(scope="module")
def whole(home):
    return trained(home, "whole")


def trained(home, name):
    context = Context(read(home / "r.yaml"), home / name)
    context.folder.mkdir(exist_ok=True)
    run(context, "teacher")
    return context, run(context, "student")


def last(context):
    return checkpoint.load(checkpoint.latest(context.folder / "student" / "checkpoints"))


def test_no_projector_generator_or_teacher_is_in_the_students_file(whole):
    context, _ = whole
    file = load_file(context.weights("student"))
    assert set(file) == set(compact_unet(12, width=4, stages=2).state_dict())
    assert load(context.weights("student"), runtime="eager", precision="fp32").logits is not None


def test_projector_and_generator_are_trained_and_saved_with_the_training(whole):
    context, result = whole
    beside = {row["term"]: row["params_beside"] for row in result["terms"]}
    assert beside["hint"] == 8 * 16  # from the student's channels to the teacher's, without a bias
    assert beside["mgd"] > beside["hint"], "the projector and two convolutions"
    assert beside["kd"] == 0
    state = last(context)
    names = {name for name in state["objective"] if not name.startswith("student.")}
    saved = sum(state["objective"][name].numel() for name in names)
    assert saved == sum(beside.values())
    begun = checkpoint.load(context.folder / "student/checkpoints/step-00000001.pt")["objective"]
    assert all(not torch.equal(begun[name], state["objective"][name]) for name in names)
    assert not set(state["ema"]["average"]) & names


def test_going_on_is_bit_exact_for_what_is_trained_beside(home, whole):
    context, _ = whole
    again = Context(read(home / "r.yaml"), home / "again")
    folder = again.folder / "student" / "checkpoints"
    folder.mkdir(parents=True)
    shutil.copy(context.folder / "student/checkpoints/step-00000002.pt", folder)
    shutil.copy(context.folder / "student/best.safetensors", again.folder / "student")
    again, result = trained(home, "again")
    assert result["resumed_from"] == 2
    for name, value in last(context)["objective"].items():
        assert torch.equal(last(again)["objective"][name], value), name
    ours, theirs = (load_file(found.weights("student")) for found in (context, again))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
