"""A whole training of a tiny student, without a recipe: what the tests of the session start from."""

import itertools
import json
import os
from types import SimpleNamespace

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from limbeck.data.transforms import Augmentation
from limbeck.data.views import Views
from limbeck.losses.cross_entropy import CrossEntropy
from limbeck.losses.cwd import ChannelWise
from limbeck.losses.kd import KnowledgeDistillation
from limbeck.place import Place
from limbeck.recipe import Augment, Ramp, Resize, Train
from limbeck.train.labels import TaskTerm
from limbeck.train.objective import Objective, eager_modes
from limbeck.train.session import Plan, train
from limbeck.train.teacher import Teacher
from limbeck.train.terms import make_term

SIZE, LENGTH, BATCH = (16, 24), 14, 4  # three steps an epoch
EVERY_STEP = 0.01


class Stopped(Exception):
    """The power went."""


def prepare(
    tiny, samples, home, validate="own", distilled=False, stop_at=None, interrupts=None, teacher=None, views=None,
    terms=None, **settings,
):  # fmt: skip
    """All that a training in the folder ``home`` needs, anew.

    ``stop_at`` breaks off when the batches of that step are read; ``interrupts`` are the signals that come in which
    validation; ``teacher`` makes something else of the teacher, and ``views`` is how many there are of an image;
    ``terms`` makes others than the usual ones.
    """
    settings = Train.model_validate({"steps": 6} | settings)
    student = tiny(dropout=0.2)
    home.mkdir(exist_ok=True)
    plan = Plan("student", home / "student", home / "metrics.jsonl", settings, "miou", 5, BATCH, 0, LENGTH)
    data = samples(LENGTH, SIZE)
    if stop_at is not None:
        data = _stopping(data, stop_at * BATCH * settings.accumulate)
    views = Views(data, Augmentation(SIZE, Resize(), Augment(scale=(0.7, 1.5), flip=True, color=0.3)), 5, views)
    given = {"terms": (terms or _terms)(), "teacher": _teacher(tiny)} if distilled else {}
    if teacher:
        given["teacher"] = teacher(given["teacher"])
    objective = Objective(
        student, [TaskTerm("task", CrossEntropy())], mean=student.mean, std=student.std,
        modes=eager_modes(student, settings.freeze_batch_norm), **given,
    )  # fmt: skip
    own = _accuracy(student, samples(4, SIZE), interrupts or {}) if validate == "own" else validate
    found = SimpleNamespace(plan=plan, student=student)
    found.train = lambda: train(plan, objective, views, own, _accelerator(settings.precision))
    found.log = lambda: [json.loads(line) for line in plan.log.read_text().splitlines()]
    found.losses = lambda: [(line["step"], line["loss"], line["lr"]) for line in found.log() if "loss" in line]
    found.scores = lambda: [(line["step"], line["miou"], line["best"]) for line in found.log() if "best" in line]
    return found


def _accelerator(precision):
    AcceleratorState._reset_state()
    return Accelerator(cpu=True, mixed_precision={"fp32": "no"}.get(precision, precision))


def _terms():
    torch.manual_seed(5)  # for the projector
    where, ramp = Place("r"), Ramp(warmup=0.2, decay=(0.5, 0.9))
    backbone, logits = (torch.Size([1, 12, 8, 12]), torch.Size([1, 16, 8, 12])), torch.Size([1, 4, 8, 12])
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
        for signum in interrupts.get(next(count), ()):
            os.kill(os.getpid(), signum)
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
