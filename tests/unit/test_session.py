import itertools
import json
import os
import signal
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from limbeck.data.transforms import Augmentation
from limbeck.data.views import Views
from limbeck.data.weights import state_digest
from limbeck.losses.cross_entropy import CrossEntropy
from limbeck.losses.cwd import ChannelWise
from limbeck.losses.kd import KnowledgeDistillation
from limbeck.place import Place
from limbeck.recipe import Augment, Ramp, Resize, Train
from limbeck.record import UserError
from limbeck.train import checkpoint
from limbeck.train.objective import Objective, Teacher, eager_modes
from limbeck.train.session import Plan, train
from limbeck.train.terms import make_term

SIZE, LENGTH, BATCH = (16, 24), 14, 4  # three steps an epoch
EVERY_STEP = 0.01

FULL = {
    "steps": 12, "accumulate": 2, "ema": 0.9, "clip": 1.0, "freeze_batch_norm": 0.8, "validate_every": 1.0,
    "checkpoint": {"every": EVERY_STEP}, "schedule": {"name": "cosine", "warmup": 0.3}, "optimizer": {"lr": 0.01},
}  # fmt: skip
"""Everything that has a state: dropout in the network, a projector, an average, a warm-up, accumulation, a ramp."""


class Stopped(Exception):
    """The power went."""


@pytest.fixture
def accelerator():
    AcceleratorState._reset_state()
    return Accelerator(cpu=True)


@pytest.fixture
def begin(tiny, samples, tmp_path, accelerator):
    """All that a training needs, anew.

    ``stop_at`` breaks off when the batches of that step are read; ``interrupts`` is how often Ctrl-C is pressed in
    which validation.
    """

    def made(folder="run", validate="own", distilled=False, stop_at=None, interrupts=None, **settings):
        settings = Train.model_validate({"steps": 6} | settings)
        student = tiny(dropout=0.2)
        home = tmp_path / folder
        home.mkdir(exist_ok=True)
        plan = Plan("student", home / "student", home / "metrics.jsonl", settings, "miou", 5, BATCH, 0, LENGTH)
        data = samples(LENGTH, SIZE)
        if stop_at is not None:
            data = _stopping(data, stop_at * BATCH * settings.accumulate)
        views = Views(data, Augmentation(SIZE, Resize(), Augment(scale=(0.7, 1.5), flip=True, color=0.3)), 5)
        given = {"terms": _terms(), "teacher": _teacher(tiny)} if distilled else {}
        objective = Objective(
            student, CrossEntropy(), mean=student.mean, std=student.std,
            modes=eager_modes(student, settings.freeze_batch_norm), **given,
        )  # fmt: skip
        own = _accuracy(student, samples(4, SIZE), interrupts or {}) if validate == "own" else validate
        found = SimpleNamespace(plan=plan, objective=objective, student=student, home=home)
        found.train = lambda: train(plan, objective, views, own, accelerator)
        found.log = lambda: [json.loads(line) for line in plan.log.read_text().splitlines()]
        found.losses = lambda: [(line["step"], line["loss"], line["lr"]) for line in found.log() if "loss" in line]
        found.scores = lambda: [(line["step"], line["miou"], line["best"]) for line in found.log() if "best" in line]
        return found

    return made


def _terms():
    torch.manual_seed(5)  # for the projector
    where, backbone, logits = Place("r"), (torch.Size([1, 12, 8, 12]), torch.Size([1, 16, 8, 12])), torch.Size([1, 4, 8, 12])
    ramp = Ramp(warmup=0.2, decay=(0.5, 0.9))
    return [
        make_term("cwd", ChannelWise(), "backbone", backbone, 3.0, ramp, where),
        make_term("kd", KnowledgeDistillation(), "logits", (logits, logits), 1.0, Ramp(), where),
    ]


def _teacher(tiny):
    model = tiny(width=16, dropout=0.2, seed=1)
    return Teacher(model, model.mean, model.std, ["backbone", "logits"])


def _accuracy(student, data, interrupts):
    """A score that depends on the weights, and that uses random numbers as a careless one might."""
    count = itertools.count(1)
    images = torch.stack([torch.from_numpy(data[i].image).permute(2, 0, 1) / 255 for i in range(len(data))])
    targets = torch.stack([torch.from_numpy(data[i].target[::2, ::2].copy()) for i in range(len(data))])

    def validate():
        assert not student.training
        torch.rand(3)
        for _ in range(interrupts.get(next(count), 0)):
            os.kill(os.getpid(), signal.SIGINT)
        with torch.no_grad():
            right = (student(images).argmax(1) == targets)[targets != 255]
        return {"miou": 100 * right.float().mean().item()}

    return validate


def _stopping(data, reads):
    class Stopping(type(data)):
        done = 0

        def __getitem__(self, index):
            self.done += 1
            if self.done > reads:
                raise Stopped
            return super().__getitem__(index)

    return Stopping(len(data), data.size)


def same(one, other):
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


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


def test_another_seed_is_another_training(begin, monkeypatch):
    one, other = begin("one"), begin("other")
    one.train()
    object.__setattr__(other.plan, "seed", 6)
    other.train()
    assert one.losses() != other.losses()


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



def test_ctrl_c_saves_and_the_same_command_goes_on(begin, whole, capsys):
    settings = FULL | {"checkpoint": {"every": 100.0}}
    expected = uninterrupted(begin, whole, **settings)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        begin("stopped", distilled=True, interrupts={2: 1}, **settings).train()
    assert signal.getsignal(signal.SIGINT) is handler
    assert "student: stopped and saved at step 2 of 12; the same command goes on." in capsys.readouterr().err
    again = begin("stopped", distilled=True, **settings)
    result = again.train()
    assert result.resumed_from == 2
    matches(again, result, expected)


def test_a_second_ctrl_c_ends_at_once(begin):
    run = begin(interrupts={1: 2}, validate_every=EVERY_STEP)
    with pytest.raises(KeyboardInterrupt):
        run.train()
    assert checkpoint.latest(run.plan.folder / "checkpoints") is None


def test_ctrl_c_in_the_last_step_loses_nothing(begin, whole):
    settings = {"steps": 6, "validate_every": EVERY_STEP}
    expected = uninterrupted(begin, whole, **settings)
    with pytest.raises(KeyboardInterrupt):
        begin("stopped", distilled=True, interrupts={6: 1}, **settings).train()
    again = begin("stopped", distilled=True, **settings)
    matches(again, again.train(), expected)


def test_a_finished_training_is_not_repeated(begin, whole):
    expected = uninterrupted(begin, whole, **FULL)
    begin("twice", distilled=True, **FULL).train()
    again = begin("twice", distilled=True, **FULL)
    result = again.train()
    assert (result.steps, result.resumed_from) == (12, 12)
    matches(again, result, expected)


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
        assert "data.batch=2 train.accumulate=2" in str(caught.value)


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
    assert [set(line) for line in validations] == [{"stage", "step", "epoch", "miou", "best"}] * 2
    assert [line["step"] for line in validations] == [3, 6]
    assert [line["epoch"] for line in validations] == [1.0, 2.0]
