"""A training gives the same weights bit for bit each time, whether it was stopped or not."""

import json
import signal

import pytest
import torch
from _training import EVERY_STEP, Stopped, prepare, same

from limbeck.losses.cgd import ChannelGroups
from limbeck.losses.mgd import MaskedGenerative
from limbeck.losses.review import Review
from limbeck.place import Place
from limbeck.recipe import Ramp
from limbeck.stop import Evicted
from limbeck.train import checkpoint
from limbeck.train.terms import make_term

FULL = {
    "steps": 12, "accumulate": 2, "ema": 0.9, "clip": 1.0, "freeze_batch_norm": 0.8, "validate_every": 1.0,
    "checkpoint": {"every": EVERY_STEP}, "schedule": {"name": "cosine", "warmup": 0.3}, "optimizer": {"lr": 0.01},
}  # fmt: skip
"""Everything that has a state: dropout in the network, a projector, an average, a warm-up, accumulation, a ramp."""


@pytest.fixture
def begin(tiny, samples, tmp_path):
    """``begin(folder="run", **what)``: see :func:`_training.prepare`."""
    return lambda folder="run", **what: prepare(tiny, samples, tmp_path / folder, **what)


def test_the_loss_is_reproducible_bit_for_bit(begin):
    runs = []
    for name in ("one", "other"):
        runs.append(begin(name, distilled=True, **FULL | {"steps": 20}))
        torch.manual_seed(len(runs))  # the global stream's state before a training is of no account
        runs[-1].train()
    assert len(runs[0].losses()) == 20
    assert runs[0].losses() == runs[1].losses()
    assert runs[0].scores() == runs[1].scores()
    assert same(runs[0].student, runs[1].student)


@pytest.fixture(scope="module")
def whole():
    """Results of trainings that nothing interrupted, by settings, so that each is made once."""
    return {}


def uninterrupted(begin, whole, **settings):
    key = json.dumps(settings, sort_keys=True)
    if key not in whole:
        run = begin(**{"folder": "whole", "distilled": True} | settings)
        result = run.train()
        whole[key] = run.student, run.losses(), run.scores(), (result.best, result.best_step)
    return whole[key]


def matches(run, result, expected):
    student, losses, scores, best = expected
    assert run.losses() == losses
    assert run.scores() == scores
    assert (result.best, result.best_step) == best
    assert same(run.student, student)


@pytest.mark.parametrize("step", range(12))
def test_a_training_stopped_at_any_step_ends_as_if_it_had_not(begin, whole, step):
    expected = uninterrupted(begin, whole, **FULL)
    with pytest.raises(Stopped):
        begin("stopped", distilled=True, stop_at=step, **FULL).train()
    torch.rand(11)
    again = begin("stopped", distilled=True, **FULL)
    result = again.train()
    assert result.resumed_from == step
    matches(again, result, expected)


def drawing():
    """Terms that draw, count, train networks of their own, and come and go."""
    torch.manual_seed(5)
    features, logits = (torch.Size([1, 12, 8, 12]), torch.Size([1, 16, 8, 12])), (torch.Size([1, 4, 8, 12]),) * 2
    late = Ramp(unit="steps", start=4, warmup=3, stop=11)
    return [
        make_term("mgd", MaskedGenerative(0.5), "backbone", features, 0.5, Ramp(), Place("r")),
        make_term("review", Review(), ["backbone", "logits"], [features, logits], 0.5, late, Place("r")),
        make_term("cgd", ChannelGroups(2, shuffle_every=3), "logits", logits, 1.0, Ramp(), Place("r")),
    ]


@pytest.mark.parametrize("step", [3, 5, 8])
def test_losses_with_a_state_of_their_own_go_on(begin, step):
    settings = {"distilled": True, "terms": drawing, **FULL}
    whole = begin("whole", **settings)
    whole.train()
    with pytest.raises(Stopped):
        begin(stop_at=step, **settings).train()
    taken_up = begin(**settings)
    assert taken_up.train().resumed_from == step
    assert taken_up.losses() == whole.losses()
    assert same(taken_up.student, whole.student)


@pytest.mark.parametrize(("step", "saved"), [(2, 0), (5, 4), (11, 8)])
def test_steps_after_the_last_save_are_taken_again_and_logged_once(begin, whole, step, saved):
    settings = FULL | {"checkpoint": {"every": 4.0}}  # one step an epoch: every fourth step
    expected = uninterrupted(begin, whole, **settings)
    stopped = begin("stopped", distilled=True, stop_at=step, **settings)
    with pytest.raises(Stopped):
        stopped.train()
    assert [number for number, _, _ in stopped.losses()] == list(range(1, step + 1))
    again = begin("stopped", distilled=True, **settings)
    result = again.train()
    assert result.resumed_from == saved
    matches(again, result, expected)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_every_optimizer_goes_on(begin, whole, name):
    settings = {"optimizer": {"name": name, "lr": 0.01}, "steps": 6, "checkpoint": {"every": EVERY_STEP}}
    expected = uninterrupted(begin, whole, **settings)
    with pytest.raises(Stopped):
        begin("stopped", distilled=True, stop_at=3, **settings).train()
    again = begin("stopped", distilled=True, **settings)
    matches(again, again.train(), expected)


def test_several_stops(begin, whole):
    expected = uninterrupted(begin, whole, **FULL)
    for step, more in ((2, 2), (5, 3), (6, 1)):
        with pytest.raises(Stopped):
            begin("stopped", distilled=True, stop_at=more, **FULL).train()
        assert checkpoint.latest(begin("stopped").plan.folder / "checkpoints").name == f"step-{step:08d}.pt"
    again = begin("stopped", distilled=True, **FULL)
    matches(again, again.train(), expected)


@pytest.mark.parametrize(
    ("signum", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Evicted), (signal.SIGUSR1, Evicted)]
)
def test_a_signal_saves_and_the_same_command_goes_on(signum, error, begin, whole, capsys):
    settings = FULL | {"checkpoint": {"every": 100.0}}
    expected = uninterrupted(begin, whole, **settings)
    handler = signal.getsignal(signum)
    with pytest.raises(error):
        begin("stopped", distilled=True, interrupts={2: [signum]}, **settings).train()
    assert signal.getsignal(signum) is handler
    assert "student: stopped and saved at step 2 of 12; the same command goes on." in capsys.readouterr().err
    again = begin("stopped", distilled=True, **settings)
    result = again.train()
    assert result.resumed_from == 2
    matches(again, result, expected)


def test_a_second_ctrl_c_ends_at_once(begin):
    run = begin(interrupts={1: [signal.SIGINT] * 2}, validate_every=EVERY_STEP)
    with pytest.raises(KeyboardInterrupt):
        run.train()
    assert checkpoint.latest(run.plan.folder / "checkpoints") is None


def test_ctrl_c_in_the_last_step_loses_nothing(begin, whole):
    settings = {"steps": 6, "validate_every": EVERY_STEP}
    expected = uninterrupted(begin, whole, **settings)
    with pytest.raises(KeyboardInterrupt):
        begin("stopped", distilled=True, interrupts={6: [signal.SIGINT]}, **settings).train()
    again = begin("stopped", distilled=True, **settings)
    matches(again, again.train(), expected)


def test_a_finished_training_is_not_repeated(begin, whole):
    expected = uninterrupted(begin, whole, **FULL)
    begin("twice", distilled=True, **FULL).train()
    again = begin("twice", distilled=True, **FULL)
    result = again.train()
    assert (result.steps, result.resumed_from) == (12, 12)
    matches(again, result, expected)
