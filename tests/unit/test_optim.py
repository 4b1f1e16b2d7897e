import math

import pytest
import torch
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, PolynomialLR
from torch.optim.swa_utils import AveragedModel

from limbeck.losses.cross_entropy import CrossEntropy
from limbeck.recipe import Optimizer, Schedule
from limbeck.record import UserError
from limbeck.train.labels import TaskTerm, of_heads
from limbeck.train.objective import Objective
from limbeck.train.optim import Ema, lr_factor, make_optimizer, set_lr

STEPS = 40


@pytest.fixture
def objective(tiny):
    model = tiny(aux=True)
    task = [TaskTerm("task", CrossEntropy())]
    return Objective(model, [*task, *of_heads(model.aux, task)], mean=model.mean, std=model.std)


def group_of(optimizer, parameter):
    (found,) = [group for group in optimizer.param_groups if any(p is parameter for p in group["params"])]
    return found


def test_every_parameter_is_in_one_group(objective):
    groups = make_optimizer(objective, Optimizer()).param_groups
    listed = [id(p) for group in groups for p in group["params"]]
    assert sorted(listed) == sorted(id(p) for p in objective.parameters())


def test_norms_and_biases_do_not_decay(objective):
    optimizer = make_optimizer(objective, Optimizer(weight_decay=0.3))
    for name, parameter in objective.named_parameters():
        norm_or_bias = name.endswith(".bias") or ".backbone.1." in name or ".backbone.5." in name
        assert group_of(optimizer, parameter)["weight_decay"] == (0.0 if norm_or_bias else 0.3), name


def test_the_head_has_its_own_rate(objective):
    optimizer = make_optimizer(objective, Optimizer(lr=0.01, head_factor=10.0))
    for name, parameter in objective.named_parameters():
        body = name.startswith("student.backbone.")
        assert group_of(optimizer, parameter)["lr"] == pytest.approx(0.01 if body else 0.1), name


@pytest.mark.parametrize("body", ["backbone", "encoder", "segformer"])
def test_what_counts_as_body(body):
    student = nn.ModuleDict({body: nn.Conv2d(1, 1, 1), "decode_head": nn.Conv2d(1, 1, 1), f"{body}s": nn.Linear(1, 1)})
    optimizer = make_optimizer(nn.ModuleDict({"student": student}), Optimizer(lr=1.0, head_factor=2.0))
    rates = {name: group_of(optimizer, p)["lr"] for name, p in student.named_parameters() if name.endswith("weight")}
    assert rates == {f"{body}.weight": 1.0, "decode_head.weight": 2.0, f"{body}s.weight": 2.0}


def test_a_head_is_told_from_an_encoder_or_refused():
    student = nn.ModuleDict({"stem": nn.Linear(1, 1), "body": nn.Linear(1, 1), "head": nn.Linear(1, 1)})
    with pytest.raises(UserError, match="encoder_path"):
        make_optimizer(nn.ModuleDict({"student": student}), Optimizer(lr=1.0, head_factor=2.0))
    assert make_optimizer(nn.ModuleDict({"student": student}), Optimizer(lr=1.0))
    student.encoder_path = ["stem", "body"]
    optimizer = make_optimizer(nn.ModuleDict({"student": student}), Optimizer(lr=1.0, head_factor=2.0))
    rates = {name: group_of(optimizer, p)["lr"] for name, p in student.named_parameters() if name.endswith("weight")}
    assert rates == {"stem.weight": 1.0, "body.weight": 1.0, "head.weight": 2.0}


def test_frozen_parameters_stay_out(objective):
    objective.student.backbone.requires_grad_(False)
    listed = {id(p) for group in make_optimizer(objective, Optimizer()).param_groups for p in group["params"]}
    assert listed == {id(p) for p in objective.parameters() if p.requires_grad}


@pytest.mark.parametrize(("name", "kind"), [("adamw", "AdamW"), ("adam", "Adam"), ("sgd", "SGD")])
def test_kinds(objective, name, kind):
    optimizer = make_optimizer(objective, Optimizer(name=name, momentum=0.8))
    assert type(optimizer).__name__ == kind
    if name == "sgd":
        assert {group["momentum"] for group in optimizer.param_groups} == {0.8}


def rates(schedule):
    """The rates of a training: the share is that of the middle of a step."""
    return [lr_factor(schedule, (step + 0.5) / STEPS) for step in range(STEPS)]


def torchs(make):
    """Rates of one of torch's schedulers at half steps: run for twice as many, every second one from the first."""
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer)
    found = []
    for _ in range(2 * STEPS):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found[1::2]


@pytest.mark.parametrize("power", [0.9, 1.0, 2.0])
def test_poly_is_torchs(power):
    expected = torchs(lambda o: PolynomialLR(o, total_iters=2 * STEPS, power=power))
    assert rates(Schedule(name="poly", power=power)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("final", [0.0, 0.1])
def test_cosine_is_torchs(final):
    expected = torchs(lambda o: CosineAnnealingLR(o, T_max=2 * STEPS, eta_min=final))
    assert rates(Schedule(name="cosine", final=final)) == pytest.approx(expected, abs=1e-9)


def test_warmup_is_torchs_linear_one():
    rising = torchs(lambda o: LinearLR(o, start_factor=1e-12, total_iters=STEPS // 2))
    found = rates(Schedule(name="constant", warmup=0.25))
    assert found == pytest.approx(rising, abs=1e-9)
    assert found[-1] == 1


@pytest.mark.parametrize("name", ["poly", "cosine", "constant"])
def test_warmup_then_the_schedule_over_the_rest(name):
    warm, cold = Schedule(name=name, warmup=0.2, final=0.05), Schedule(name=name, final=0.05)
    assert lr_factor(warm, 0.0) == 0
    assert lr_factor(warm, 0.1) == pytest.approx(0.5)
    assert lr_factor(warm, 0.2) == pytest.approx(1)
    for share in (0.2, 0.4, 0.7, 1.0):
        assert lr_factor(warm, share) == pytest.approx(lr_factor(cold, (share - 0.2) / 0.8))


def test_values_by_hand():
    assert lr_factor(Schedule(name="poly", power=0.9), 0.5) == pytest.approx(0.5**0.9)
    assert lr_factor(Schedule(name="cosine"), 0.25) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)
    assert lr_factor(Schedule(name="constant", final=0.3), 0.9) == 1
    assert lr_factor(Schedule(name="poly", final=0.1), 1.0) == pytest.approx(0.1)
    assert lr_factor(Schedule(warmup=1.0), 0.999) == pytest.approx(0.999)


def test_set_lr_is_a_function_of_the_share_alone(objective):
    optimizer = make_optimizer(objective, Optimizer(lr=0.1, head_factor=3.0))
    schedule = Schedule(name="poly", power=1.0)
    for share in (0.5, 0.9, 0.5, 0.25):
        assert set_lr(optimizer, schedule, share) == pytest.approx(optimizer.param_groups[0]["lr"])
        found = sorted({round(group["lr"], 9) for group in optimizer.param_groups})
        assert found == pytest.approx([0.1 * (1 - share), 0.3 * (1 - share)])


def test_the_average_is_torchs(tiny):
    """After the start, where the decay is lower, each update is decay * average + (1 - decay) * new."""
    model = tiny()
    ours, torchs_own = Ema(model, 0.9), AveragedModel(model, multi_avg_fn=_averaging(0.9))
    torchs_own.update_parameters(model)  # torch's first update copies
    for step in range(200):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.01 * (step + 1))
        ours.update(model)
        torchs_own.update_parameters(model)
    for name, parameter in torchs_own.module.named_parameters():
        torch.testing.assert_close(ours.average[name], parameter, rtol=1e-4, atol=1e-5)


def _averaging(decay):
    count = [0]

    def average(averages, news, _):
        count[0] += 1
        now = min(decay, (1 + count[0]) / (10 + count[0]))
        for mean, new in zip(averages, news, strict=True):
            mean.mul_(now).add_(new, alpha=1 - now)

    return average


def test_the_average_by_hand():
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(1.0)
    ema = Ema(model, 0.5)
    model.weight.data.fill_(3.0)
    ema.update(model)  # the first decay is min(0.5, 2 / 11)
    expected = 2 / 11 * 1 + 9 / 11 * 3
    assert ema.average["weight"].item() == pytest.approx(expected)
    for count in range(2, 12):
        ema.update(model)
        decay = min(0.5, (1 + count) / (10 + count))
        expected = decay * expected + (1 - decay) * 3
    assert ema.average["weight"].item() == pytest.approx(expected)


def test_buffers_are_the_networks_own(student):
    ema = Ema(student, 0.9)
    assert set(ema.average) == {name for name, _ in student.named_parameters()}
    student.train()
    student(torch.rand(4, 3, 16, 24))
    ema.update(student)
    statistics = student.backbone[1].running_mean.clone()
    assert statistics.any()
    with ema.swapped(student):
        assert torch.equal(student.backbone[1].running_mean, statistics)


def test_swapped_puts_the_average_in_and_takes_it_out(student):
    ema = Ema(student, 0.9)
    with torch.no_grad():
        student.classifier.weight.add_(1)
    own, average = student.classifier.weight.detach().clone(), ema.average["classifier.weight"].clone()

    def look():
        with ema.swapped(student):
            assert torch.equal(student.classifier.weight, average)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        look()
    assert torch.equal(student.classifier.weight, own)
    assert torch.equal(ema.average["classifier.weight"], average)


def test_state_survives(student):
    ema, other = Ema(student, 0.9), Ema(student, 0.9)
    with torch.no_grad():
        student.classifier.weight.add_(1)
    for _ in range(3):
        ema.update(student)
    other.load(ema.state())
    for one in (ema, other):
        one.update(student)
    assert other.updates == 4
    assert all(torch.equal(ema.average[name], other.average[name]) for name in ema.average)
