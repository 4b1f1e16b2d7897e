from dataclasses import replace

import numpy as np
import pytest
import torch
from _training import BATCH, EVERY_STEP, Stopped, prepare, same

from limbeck.data.weight_file import state_digest
from limbeck.recipe import Train
from limbeck.record import UserError
from limbeck.train import checkpoint
from limbeck.train.session import Plan


@pytest.fixture
def begin(tiny, samples, tmp_path):
    """``begin(folder="run", **what)``: see :func:`_training.prepare`."""
    return lambda folder="run", **what: prepare(tiny, samples, tmp_path / folder, **what)


def test_lengths():
    plan = Plan("student", None, None, Train(epochs=2.5), "miou", 0, 8, 0, 100)
    assert (plan.per_epoch, plan.steps, plan.every(1.0), plan.every(0.5), plan.every(0.001)) == (12, 30, 12, 6, 1)
    assert replace(plan, settings=Train(steps=7)).steps == 7
    assert replace(plan, settings=Train(epochs=0.01)).steps == 1
    assert replace(plan, settings=Train(epochs=1, accumulate=4)).steps == 3
    assert replace(plan, settings=Train(epochs=3, accumulate=50)).per_epoch == 1


def test_training_learns(begin):
    run = begin(steps=60, optimizer={"lr": 0.02}, validate_every=5)
    before = state_digest(run.student)
    result = run.train()
    losses = [loss for _, loss, _ in run.losses()]
    assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:5])
    assert result.best > 40  # guessing gives 25
    assert (result.steps, result.resumed_from, result.stopped_early) == (60, 0, False)
    assert state_digest(run.student) != before
    assert not run.student.training


def test_another_seed_is_another_training(begin, monkeypatch):
    one, other = begin("one"), begin("other")
    one.train()
    object.__setattr__(other.plan, "seed", 6)
    other.train()
    assert one.losses() != other.losses()


@pytest.mark.parametrize("keep", [1, 2])
def test_the_latest_checkpoints_are_kept(begin, keep):
    run = begin(steps=7, checkpoint={"every": 0.67, "keep": keep})
    run.train()
    left = sorted(path.name for path in (run.plan.folder / "checkpoints").iterdir())
    assert left == ["step-00000006.pt", "step-00000007.pt"][-keep:]


def test_the_objective_is_saved_without_its_teacher(begin):
    run = begin(distilled=True)
    run.train()
    state = checkpoint.load(checkpoint.latest(run.plan.folder / "checkpoints"))["objective"]
    assert set(state) == {f"student.{name}" for name in run.student.state_dict()} | {"terms.0.projector.weight"}


def scripted(run, scores, seen):
    """A validation with given scores that remembers the weights it was asked about."""
    left = iter(scores)

    def validate():
        seen.append({name: value.clone() for name, value in run[0].student.state_dict().items()})
        return {"miou": next(left), "pixel_accuracy": 1.0, "classes": ["no", "number"]}

    return validate


@pytest.mark.parametrize("ema", [None, 0.5])
def test_the_best_weights_are_the_result(begin, ema):
    run, seen = [], []
    run.append(begin(validate=scripted(run, [10.0, 30.0, 20.0, 30.0, 5.0], seen), steps=15, ema=ema))
    result = run[0].train()
    assert (result.best, result.best_step) == (30.0, 6)
    assert run[0].scores() == [(3, 10.0, True), (6, 30.0, True), (9, 20.0, False), (12, 30.0, False), (15, 5.0, False)]
    state = run[0].student.state_dict()
    assert all(torch.equal(state[name], value) for name, value in seen[1].items())
    assert not all(torch.equal(state[name], value) for name, value in seen[2].items())
    assert "classes" not in run[0].log()[-1]


def test_validation_looks_at_the_average(begin):
    run, seen = [], []
    run.append(begin(validate=scripted(run, [1.0], seen), steps=3, ema=0.999))
    run[0].train()
    trained = checkpoint.load(checkpoint.latest(run[0].plan.folder / "checkpoints"))
    for name, value in trained["ema"]["average"].items():
        assert torch.equal(seen[0][name], value)
        assert not torch.equal(trained["objective"][f"student.{name}"], value)
    statistics = "backbone.1.running_mean"
    assert torch.equal(seen[0][statistics], trained["objective"][f"student.{statistics}"])


@pytest.mark.parametrize("ema", [None, 0.5])
def test_without_validation_the_last_weights_are_the_result(begin, ema):
    run = begin(validate=None, ema=ema)
    result = run.train()
    assert (result.best, result.best_step) == (None, 0)
    trained = checkpoint.load(checkpoint.latest(run.plan.folder / "checkpoints"))
    parameters = dict(run.student.named_parameters())
    expected = trained["ema"]["average"] if ema else trained["objective"]
    for name, value in parameters.items():
        assert torch.equal(value, expected[name if ema else f"student.{name}"])
    assert not run.student.training
    again = begin(validate=None, ema=ema)
    again.train()
    assert same(again.student, run.student)


def test_early_stop_and_no_step_after_it(begin):
    run, seen = [], []
    scores = [10.0, 20.0, 15.0, 19.0, 99.0, 99.0]
    run.append(begin(validate=scripted(run, scores, seen), steps=18, early_stop=2))
    result = run[0].train()
    assert result.stopped_early
    assert (result.steps, result.best, result.best_step) == (12, 20.0, 6)
    before = run[0].log()
    run[0] = begin(validate=scripted(run, [99.0], []), steps=18, early_stop=2)
    again = run[0].train()
    assert run[0].log() == before
    assert (again.steps, again.best, again.best_step, again.stopped_early) == (12, 20.0, 6, True)
    assert again.seconds == pytest.approx(result.seconds)
    assert all(torch.equal(run[0].student.state_dict()[name], value) for name, value in seen[1].items())


def test_a_better_score_starts_the_count_anew(begin):
    run = []
    run.append(begin(validate=scripted(run, [10.0, 9.0, 11.0, 9.0, 8.0, 99.0], []), steps=18, early_stop=2))
    assert run[0].train().steps == 15


@pytest.mark.parametrize("score", [np.float64(12.5), np.float32(12.5), 12])
def test_scores_of_any_number_type_can_be_taken_up(begin, score):
    settings = {"checkpoint": {"every": EVERY_STEP}, "validate_every": EVERY_STEP, "validate": lambda: {"miou": score}}
    with pytest.raises(Stopped):
        begin(stop_at=4, **settings).train()
    result = begin(**settings).train()
    assert (result.resumed_from, result.best, result.best_step) == (4, pytest.approx(float(score)), 1)


def test_a_validation_without_a_score_does_not_hide_a_later_one(begin):
    run, seen = [], []
    run.append(begin(validate=scripted(run, [None, 3.0, 2.0], seen), steps=9))
    result = run[0].train()
    assert (result.best, result.best_step) == (3.0, 6)
    assert [line.get("miou") for line in run[0].log() if "best" in line] == [None, 3.0, 2.0]


def test_a_loss_that_is_no_number_ends_with_advice(begin):
    run = begin(optimizer={"name": "sgd", "lr": 1e30}, checkpoint={"every": EVERY_STEP})
    with pytest.raises(UserError, match=r"the loss is (nan|inf) at step \d.*lower train\.optimizer\.lr"):
        run.train()
    assert all(np.isfinite(loss) for _, loss, _ in run.losses())
    state = checkpoint.load(checkpoint.latest(run.plan.folder / "checkpoints"))
    assert state["step"] == len(run.losses())


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."), True),
        (MemoryError(), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (RuntimeError("unsupported memory format option"), False),
    ],
)
def test_out_of_memory_becomes_advice(begin, error, advice):
    def validate():
        raise error

    with pytest.raises(UserError if advice else RuntimeError) as caught:
        begin(validate=validate).train()
    if advice:
        assert "student: out of memory with batches of 4" in str(caught.value)
        assert "train.batch=2 train.accumulate=2" in str(caught.value)


def test_two_halves_of_a_batch_are_one_batch(begin):
    """Averaged gradients equal those of the whole batch where nothing depends on the batch."""
    plain = {"freeze_batch_norm": 0.0, "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.0}, "validate": None}
    runs = [begin("one", steps=3, **plain), begin("halves", steps=3, accumulate=2, **plain)]
    object.__setattr__(runs[1].plan, "batch", BATCH // 2)
    for run in runs:
        run.student.backbone[3].p = 0.0
        run.train()
    # Void is not shared out evenly, so the means differ a little.
    for name, value in runs[0].student.state_dict().items():
        torch.testing.assert_close(value, runs[1].student.state_dict()[name], rtol=0.05, atol=0.01)


def test_the_student_is_left_without_hooks(begin):
    run = begin(distilled=True)
    run.train()
    assert not any(module._forward_hooks for module in run.student.modules())


def test_what_a_line_of_the_log_says(begin):
    run = begin(distilled=True, steps=6)
    run.train()
    first = run.log()[0]
    assert set(first) == {"stage", "step", "epoch", "loss", "parts", "lr", "time", "images_per_s"}
    assert set(first["parts"]) == {"task", "kd", "cwd"}
    assert sum(first["parts"].values()) == pytest.approx(first["loss"], rel=1e-5)
    assert sum(first["time"].values()) == pytest.approx(1, abs=0.01)
    assert (first["stage"], first["step"], first["epoch"]) == ("student", 1, pytest.approx(1 / 3, abs=1e-3))
    validations = [line for line in run.log() if "best" in line]
    assert [set(line) for line in validations] == [{"stage", "step", "epoch", "seconds", "miou", "best"}] * 2
    assert [line["step"] for line in validations] == [3, 6]
    assert [line["epoch"] for line in validations] == [1.0, 2.0]
