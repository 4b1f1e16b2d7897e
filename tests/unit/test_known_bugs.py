"""Bugs of public distillation toolkits that are not about a formula, each as a test of what happens here instead.

Those of formulas are in ``tests/parity/test_known_bugs.py``; the numbers are of one list.
"""

import numpy as np
import pytest
import torch
from _training import EVERY_STEP, Stopped, prepare, same
from safetensors.torch import load_file, save_file
from torch import nn

from limbeck.artifact.preprocess import Preprocess
from limbeck.data.weight_file import state_digest
from limbeck.data.weights import load_weights
from limbeck.losses.cross_entropy import CrossEntropy
from limbeck.losses.cwd import ChannelWise
from limbeck.losses.hint import Hint
from limbeck.losses.kd import KnowledgeDistillation
from limbeck.place import Place
from limbeck.recipe import Optimizer, Ramp, read
from limbeck.record import UserError
from limbeck.stages.context import Context
from limbeck.stages.score import in_memory, validator
from limbeck.train import checkpoint
from limbeck.train.labels import TaskTerm
from limbeck.train.objective import Objective
from limbeck.train.optim import make_optimizer
from limbeck.train.taps import Tapped
from limbeck.train.teacher import Teacher
from limbeck.train.terms import make_term

BATCH = {
    "image": torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0)),
    "target": torch.randint(0, 4, (2, 16, 24), generator=torch.Generator().manual_seed(1)),
}
LOGITS = torch.Size([1, 4, 8, 12])
FEATURES = torch.Size([1, 12, 8, 12]), torch.Size([1, 16, 8, 12])


@pytest.fixture
def make(tiny):
    """``make()``: a student of 12 channels, with kd on logits and a projector to its teacher's 16."""

    def build(teacher=None):
        student, teacher = tiny(), teacher or tiny(width=16, dropout=0.5, seed=1)
        where = Place("r.yaml")
        terms = [
            make_term("kd", KnowledgeDistillation(), "logits", (LOGITS, LOGITS), 1.0, Ramp(), where),
            make_term("hint", Hint(), "backbone", FEATURES, 1.0, Ramp(), where),
        ]
        return Objective(
            student, [TaskTerm("task", CrossEntropy())], terms=terms, mean=student.mean, std=student.std,
            teacher=Teacher(teacher, teacher.mean, teacher.std, ["logits", "backbone"]),
        )  # fmt: skip

    return build


def test_01_a_teacher_that_nobody_put_in_eval_mode_does_not_train(make, tiny):
    """torchdistill since fcc8727: batch statistics and dropout in the teacher, its running statistics moved."""
    teacher = tiny(width=16, dropout=0.5, seed=1).train()
    before, objective = state_digest(teacher), make(teacher)
    objective.mode(True)
    objective(BATCH, 0.5).loss.backward()
    assert not any(module.training for module in teacher.modules())
    assert state_digest(teacher) == before


@pytest.mark.parametrize("switch", ["train", "mode"])
def test_02_train_of_the_whole_before_every_step_does_not_reach_the_teacher(make, tiny, switch):
    """SegDistill: the runner calls model.train() in each iteration, and with it the teacher's."""
    teacher = tiny(width=16, dropout=0.5, seed=1)
    objective, before = make(teacher), state_digest(teacher)
    for _ in range(2):
        objective.train() if switch == "train" else objective.mode(True, 0.5)
        assert objective.student.training
        objective(BATCH, 0.5)
    assert not any(module.training for module in teacher.modules())
    assert state_digest(teacher) == before


def test_02_a_teacher_whose_weights_did_not_load_is_refused(tiny, tmp_path):
    """SegDistill: strict=False, and nobody is told that nothing fitted."""
    other = {f"net.{name}": value for name, value in tiny(width=16).state_dict().items() if "classifier" not in name}
    save_file(other, tmp_path / "t.safetensors")
    teacher = tiny(width=16, seed=3)
    before = state_digest(teacher)
    with pytest.raises(UserError, match=r"classifier\.weight"):
        load_weights(teacher, tmp_path / "t.safetensors")
    assert state_digest(teacher) == before
    assert "of" in str(load_weights(teacher, tmp_path / "t.safetensors", partial=True)), "what fitted is told"


def test_03_all_of_the_teacher_is_still_and_not_its_norms_alone(make):
    """mmrazor: teacher_norm_eval leaves dropout and stochastic depth on."""
    objective = make()
    objective.train()
    one, other = (objective(BATCH, 0.5).parts for _ in range(2))
    watching = objective._teachers[""]
    assert all(torch.equal(watching(BATCH)[name], watching(BATCH)[name]) for name in ("logits", "backbone"))
    assert torch.equal(one["kd"], other["kd"])


def test_03_the_teacher_computes_no_loss_on_the_labels(make, monkeypatch):
    """mmrazor: mode='loss' computes the teacher's own task loss in every step."""
    seen = []
    forward = CrossEntropy.forward
    monkeypatch.setattr(CrossEntropy, "forward", lambda self, *args: seen.append(args[0].shape) or forward(self, *args))
    make()(BATCH, 0.5)
    assert len(seen) == 1


def test_04_a_module_with_a_train_of_its_own_has_no_teacher_inside(make):
    """mdistiller's OFD overrides train() and forgets teacher.eval(): here no module holds the teacher."""
    objective = make()
    held = {id(module) for module in objective.modules()}
    teacher = objective._teachers[""].model
    assert not held & {id(module) for module in teacher.modules()}
    assert not {id(p) for p in objective.parameters()} & {id(p) for p in teacher.parameters()}


def test_11_what_is_optimised_is_what_is_wrapped_and_saved(make):
    """CIRKDv2: two modules with an optimizer and without DistributedDataParallel drift apart."""
    objective = make()
    projector = objective.terms[1].projector.weight
    optimised = {id(p) for group in make_optimizer(objective, Optimizer()).param_groups for p in group["params"]}
    assert optimised == {id(parameter) for parameter in objective.parameters()}  # the objective is what is wrapped
    assert id(projector) in optimised
    assert "terms.1.projector.weight" in objective.state_dict()


class Says(nn.Module):
    """Logits of two classes that differ by less than 1, everywhere the same."""

    def __init__(self, *values):
        super().__init__()
        self.values = nn.Parameter(torch.tensor(values))
        self.mean, self.std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)

    def forward(self, image):
        return self.values.view(1, -1, 1, 1).expand(len(image), -1, *image.shape[2:])


def test_13_logits_are_compared_as_they_are():
    """CIRKD: argmax of logits made integers is class 0 wherever none reaches 1."""
    predictor = in_memory(_Sized(), Says(0.2, 0.7))
    answer = predictor.logits(np.zeros((1, 3, 8, 8), np.float32))
    assert (predictor.mask_of(answer[0], (8, 8)) == 1).all()


class _Sized:
    """As much of a context as a predictor needs."""

    class task:
        dense = True

    def preprocess(self, model, role):
        return Preprocess(size=(8, 8), mean=model.mean, std=model.std)


def test_13_going_on_takes_up_all_that_moves_and_not_the_weights_alone(tiny, samples, tmp_path):
    """CIRKD: resume loads weights; optimizer, schedule and best score begin anew."""
    begin = lambda folder, **more: prepare(tiny, samples, tmp_path / folder, distilled=True, **settings, **more)  # noqa: E731
    settings = {"checkpoint": {"every": EVERY_STEP}, "validate_every": EVERY_STEP, "ema": 0.5}
    whole, cut = begin("whole"), begin("cut", stop_at=3)
    expected = whole.train()
    with pytest.raises(Stopped):
        cut.train()
    again = begin("cut")
    found = again.train()
    assert (found.resumed_from, found.best, found.best_step) == (3, expected.best, expected.best_step)
    assert again.losses() == whole.losses()
    assert same(again.student, whole.student)


@pytest.mark.parametrize("name", ["weights.txt", "weights.pkl.gz", "weights"])
def test_13_a_file_of_another_kind_is_refused(tmp_path, tiny, name):
    """CIRKD: assert ext == '.pkl' or '.pth' holds for every file."""
    (tmp_path / name).write_text("no weights")
    with pytest.raises(UserError, match=name):
        load_weights(tiny(), tmp_path / name)


class Gated(nn.Module):
    """A branch that may be left out, or fail."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
        self.skips = self.fails = False

    def forward(self, image):
        found = self.first(image)
        if self.fails:
            raise RuntimeError("no memory")
        return found if self.skips else self.second(found)


def test_15_a_module_that_does_not_run_gives_nothing_old():
    """torchdistill: what a hook kept is there until it is taken, also for a step in which it did not fire."""
    model = Gated()
    tapped = Tapped(model, ["second"])
    tapped(BATCH["image"])
    model.skips = True
    with pytest.raises(UserError, match="second did not run"):
        tapped(BATCH["image"])


def test_15_an_error_leaves_nothing_behind():
    """torchdistill: an exception between hook and use, and the next step sees the failed one's tensors."""
    model = Gated()
    tapped = Tapped(model, ["first", "second"])
    model.fails = True
    with pytest.raises(RuntimeError, match="no memory"):
        tapped(torch.zeros_like(BATCH["image"]))
    assert not tapped._seen
    model.fails = False
    _, taps = tapped(BATCH["image"])
    assert torch.equal(taps["first"], model.first(BATCH["image"]))


def test_15_hooks_are_on_modules_and_not_on_their_class(tiny):
    """torchdistill: setattr of hooks on the class, and two distillations in one process see each other's."""
    one, other = tiny(), tiny(seed=2)
    taps = Tapped(one, ["backbone"]), Tapped(other, ["backbone"])
    for tapped, model in zip(taps, (one, other), strict=True):
        model.eval()
        assert torch.equal(tapped(BATCH["image"])[1]["backbone"], model.backbone(BATCH["image"]))
    taps[0].close()
    assert torch.equal(taps[1](BATCH["image"])[1]["backbone"], other.backbone(BATCH["image"]))
    assert not any(module._forward_hooks for module in tiny().modules())


def test_15_features_in_channels_last_are_taken(make):
    """mmrazor: .view fails on what is not contiguous."""
    objective = make().to(memory_format=torch.channels_last)
    plain = objective(BATCH, 0.5).parts
    image = BATCH["image"].contiguous(memory_format=torch.channels_last)
    for name, value in objective(BATCH | {"image": image}, 0.5).parts.items():
        torch.testing.assert_close(value, plain[name])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_projector_works_in_mixed_precision(make, dtype):
    """mmrazor 190: the connector is in fp32, what it is given in 16 bits."""
    objective = make()
    with torch.autocast("cpu", dtype=dtype):
        step = objective(BATCH, 0.5)
    assert step.parts["hint"].dtype == torch.float32
    step.loss.backward()
    assert torch.isfinite(objective.terms[1].projector.weight.grad).all()


def test_16_the_schedule_of_a_term_goes_on_where_it_was(tiny, samples, tmp_path):
    """SegDistill: the counter that weights follow is no part of the checkpoint, and begins at 0."""
    begin = lambda folder, **more: prepare(  # noqa: E731
        tiny, samples, tmp_path / folder, distilled=True, checkpoint={"every": EVERY_STEP}, **more
    )
    whole, cut = begin("whole"), begin("cut", stop_at=2)
    whole.train()
    with pytest.raises(Stopped):
        cut.train()
    begin("cut").train()
    parts = [[line["parts"]["cwd"] for line in run.log() if "parts" in line] for run in (whole, cut)]
    assert parts[0] == parts[1]


def test_16_a_checkpoint_that_cannot_be_read_is_no_new_start(tiny, samples, tmp_path):
    """SegDistill: resume fails, and training silently begins again."""
    prepare(tiny, samples, tmp_path / "run").train()
    (newest,) = (tmp_path / "run" / "student" / "checkpoints").glob("step-*.pt")
    newest.write_bytes(newest.read_bytes()[:100])
    with pytest.raises(UserError, match=r"step-00000006\.pt: this checkpoint is damaged"):
        prepare(tiny, samples, tmp_path / "run").train()


SPLITS = """
import numpy as np
import torch
from torch import nn
from limbeck.data.sample import Sample

class Splits:
    classes, palette = ("a", "b"), ()
    def __init__(self, split: str) -> None:
        self.split = split
    def __len__(self) -> int:
        return 8
    def __getitem__(self, index: int) -> Sample:
        label = 1 if self.split == "test" else 0
        return Sample(np.zeros((8, 8, 3), np.uint8), np.full((8, 8), label, np.uint8), f"{self.split}-{index}")
    def digest(self) -> str:
        return self.split

class SaysA(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.tensor([1.0, 0.0]))
    def forward(self, image):
        return self.values.view(1, -1, 1, 1).expand(len(image), -1, *image.shape[2:])
"""

SPLIT_RECIPE = """
name: x
data: {kind: ./own.py:Splits, size: [16, 16], batch: 1}
student: {kind: ./own.py:SaysA, mean: [0, 0, 0], std: [1, 1, 1]}
train: {steps: 1}
evaluate: {split: test}
"""


def test_18_what_is_kept_is_chosen_by_validation_whatever_is_scored(tmp_path):
    """Af-DCD: the test list stands where validation should, and the best of it is published."""
    (tmp_path / "own.py").write_text(SPLITS)
    (tmp_path / "r.yaml").write_text(SPLIT_RECIPE)
    recipe = read(tmp_path / "r.yaml")
    context = Context(recipe, tmp_path / "run")
    model = context.network(recipe.student, recipe.place / "student", 2)
    assert validator(context, model)()["pixel_accuracy"] == 100  # on test it would be 0


def test_18_false_is_false():
    """Af-DCD: type=bool makes every word true, False among them."""
    for word in ("False", "false", "no", "off", "0"):
        assert read("smoke/unet", [f"baseline={word}"]).baseline is False
    with pytest.raises(UserError, match="baseline"):
        read("smoke/unet", ["baseline=perhaps"])


def test_18_equal_channels_need_no_projector():
    """Af-DCD: self.align exists only where channels differ, and is used everywhere."""
    shape = torch.Size([1, 12, 8, 12])
    term = make_term("cwd", ChannelWise(), "backbone", (shape, shape), 1.0, Ramp(), Place("r.yaml"))
    feature = torch.randn(2, 12, 8, 12)
    assert term(feature, feature.flip(1), None, 0.5) > 0
    assert not list(term.parameters())


def test_the_students_file_holds_the_student_alone(tiny, samples, tmp_path):
    """mmrazor 650: keys begin with architecture., teacher and connectors come along."""
    run = prepare(tiny, samples, tmp_path / "run", distilled=True)
    run.train()
    best = load_file(run.plan.folder / "best.safetensors")
    assert set(best) == set(tiny().state_dict())
    assert (
        "terms.0.projector.weight" in checkpoint.load(checkpoint.latest(run.plan.folder / "checkpoints"))["objective"]
    )
