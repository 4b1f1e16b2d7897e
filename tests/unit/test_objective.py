import pytest
import torch
from torch import nn

from limbeck.data.weight_file import state_digest
from limbeck.losses.cross_entropy import CrossEntropy
from limbeck.losses.cwd import ChannelWise
from limbeck.losses.edge import Edge
from limbeck.losses.kd import KnowledgeDistillation
from limbeck.place import Place
from limbeck.recipe import Optimizer, Ramp
from limbeck.record import UserError
from limbeck.train.labels import TaskTerm, of_heads
from limbeck.train.objective import Objective, eager_modes
from limbeck.train.optim import make_optimizer
from limbeck.train.teacher import Teacher
from limbeck.train.terms import make_term

EVEN = Ramp()
BATCH = {
    "image": torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0)),
    "target": torch.randint(0, 4, (2, 16, 24), generator=torch.Generator().manual_seed(1)),
}


def terms(student_width=12, teacher_width=16):
    def bound(name, loss, at, channels, weight):
        shapes = torch.Size([1, channels[0], 8, 12]), torch.Size([1, channels[1], 8, 12])
        return make_term(name, loss, at, shapes, weight, Ramp(), Place("recipe"))

    return [
        bound("kd", KnowledgeDistillation(2.0), "logits", (4, 4), 2.0),
        bound("cwd", ChannelWise(), "backbone", (student_width, teacher_width), 3.0),
    ]


@pytest.fixture
def make(student, teacher):
    def made(model=student, with_terms=True, weight=1.0):
        watching = Teacher(teacher, teacher.mean, teacher.std, ["logits", "backbone"]) if with_terms else None
        rows = terms() if with_terms else []
        task = [TaskTerm("task", CrossEntropy(), weight)]
        return Objective(model, task, terms=rows, teacher=watching, mean=model.mean, std=model.std)

    return made


def test_the_loss_is_the_sum_of_its_parts(make):
    step = make()(BATCH, 0.5)
    assert set(step.parts) == {"task", "kd", "cwd"}
    assert step.loss.item() == pytest.approx(sum(part.item() for part in step.parts.values()), rel=1e-6)
    assert not any(part.requires_grad for part in step.parts.values())
    assert step.logits.shape == (2, 4, 8, 12)


def test_parts_are_the_losses_of_the_networks_outputs(make, student, teacher):
    objective = make()
    objective.mode(False, 0.5)
    step = objective(BATCH, 0.5)
    channel = lambda values: torch.tensor(values)[:, None, None]  # noqa: E731
    mine = student((BATCH["image"] - channel(student.mean)) / channel(student.std))
    theirs = teacher((BATCH["image"] - channel(teacher.mean)) / channel(teacher.std))
    torch.testing.assert_close(step.logits, mine)
    torch.testing.assert_close(step.parts["task"], CrossEntropy()(mine, BATCH["target"]))
    torch.testing.assert_close(step.parts["kd"], 2 * KnowledgeDistillation(2.0)(mine, theirs, None))


def test_each_network_is_normalised_with_its_own_numbers(make, teacher):
    teacher.mean, teacher.std = (0.1, 0.2, 0.3), (1.0, 2.0, 3.0)
    objective = make()
    seen = []
    teacher.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    objective(BATCH, 0.5)
    channel = [torch.tensor(values)[:, None, None] for values in (teacher.mean, teacher.std)]
    torch.testing.assert_close(seen[0], (BATCH["image"] - channel[0]) / channel[1])


def test_the_teacher_is_held_and_not_owned(make, teacher):
    objective = make()
    theirs = {id(parameter) for parameter in teacher.parameters()}
    assert not theirs & {id(parameter) for parameter in objective.parameters()}
    assert not any(module is teacher for module in objective.modules())
    assert not any("teacher" in name for name in objective.state_dict())
    stored = {value.data_ptr() for value in objective.state_dict().values()}
    assert not stored & {value.data_ptr() for value in teacher.state_dict().values() if value.numel()}
    optimised = {id(p) for group in make_optimizer(objective, Optimizer()).param_groups for p in group["params"]}
    assert optimised == {id(parameter) for parameter in objective.parameters()}


def test_the_teacher_keeps_no_graph(teacher):
    watching = Teacher(teacher, teacher.mean, teacher.std, ["backbone"])
    found = watching({"image": BATCH["image"].clone().requires_grad_()})
    assert set(found) == {"backbone"}
    assert not any(tensor.requires_grad for tensor in found.values())


@pytest.mark.parametrize(("paths", "runs"), [(["backbone"], 0), (["backbone.2", "backbone"], 0), (["logits"], 1)])
def test_the_teacher_computes_nothing_after_the_last_place(teacher, paths, runs):
    ran = []
    teacher.classifier.register_forward_hook(lambda *_: ran.append(1))
    whole = Teacher(teacher, teacher.mean, teacher.std, [*paths, "logits"])(BATCH)
    ran.clear()
    found = Teacher(teacher, teacher.mean, teacher.std, paths)(BATCH)
    assert len(ran) == runs
    assert all(torch.equal(found[path], whole[path]) for path in paths)


def test_normalisation_is_not_saved(make):
    assert not {"mean", "std"} & set(make().state_dict())


def test_steps_leave_the_teacher_as_it_was(make, teacher):
    before = state_digest(teacher)
    objective = make()
    optimizer = make_optimizer(objective, Optimizer(lr=0.1))
    mine = state_digest(objective.student)
    for _ in range(3):
        objective.mode(True, 0.5)
        objective.train()
        objective(BATCH, 0.5).loss.backward()
        optimizer.step()
        assert not teacher.training
        assert not any(module.training for module in teacher.modules())
    assert state_digest(teacher) == before
    assert state_digest(objective.student) != mine
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in teacher.parameters())


def test_a_gradient_reaches_all_of_the_student_and_the_projector(make):
    objective = make()
    objective(BATCH, 0.5).loss.backward()
    assert [name for name, p in objective.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_auxiliary_heads_are_weighed(tiny):
    model = tiny(aux=True)
    task = [TaskTerm("task", CrossEntropy(), 0.5)]
    objective = Objective(model, [*task, *of_heads(model.aux, task)], mean=model.mean, std=model.std)
    objective.mode(True, 0.0)
    step = objective(BATCH, 0.0)
    assert set(step.parts) == {"task", "aux_classifier"}
    features = {}
    model.backbone.register_forward_hook(lambda _m, _i, output: features.update(found=output))
    objective(BATCH, 0.0)
    expected = 0.5 * 0.4 * CrossEntropy()(model.aux_classifier(features["found"]), BATCH["target"])
    torch.testing.assert_close(step.parts["aux_classifier"], expected.detach())
    step.loss.backward()
    assert model.aux_classifier.weight.grad.any()


def test_a_head_may_have_a_loss_of_its_own(tiny):
    model = tiny(aux=True)
    model.aux_classifier = nn.Conv2d(12, 1, 1)
    task = [TaskTerm("task", CrossEntropy(), 0.5)]
    heads = of_heads({"aux_classifier": TaskTerm("edge", Edge(2), 20.0)}, task)
    objective = Objective(model, [*task, *heads], mean=model.mean, std=model.std)
    objective.mode(True, 0.0)
    step = objective(BATCH, 0.0)
    features = {}
    model.backbone.register_forward_hook(lambda _m, _i, output: features.update(found=output))
    objective(BATCH, 0.0)
    expected = 20 * Edge(2)(model.aux_classifier(features["found"]), BATCH["target"])
    torch.testing.assert_close(step.parts["aux_classifier"], expected.detach())
    (without,) = of_heads({"aux_classifier": TaskTerm("edge", Edge(2), 20.0)}, [TaskTerm("task", CrossEntropy(), 0.0)])
    assert without.weight == 0, "where labels play no part, they play none for a head either"


def test_terms_of_one_name_add_up(make, student):
    task = [TaskTerm("task", CrossEntropy(), weight) for weight in (0.5, 2.0)]
    objective = Objective(student, task, mean=student.mean, std=student.std)
    step = objective(BATCH, 0.0)
    torch.testing.assert_close(step.parts["task"], 2.5 * CrossEntropy()(step.logits, BATCH["target"]).detach())


def test_task_weight_nought_trains_on_the_teacher_alone(make, student):
    step = make(weight=0.0)(BATCH, 0.5)
    assert step.parts["task"] == 0
    assert step.loss.item() == pytest.approx(step.parts["kd"].item() + step.parts["cwd"].item())


def scheduled(student, teacher, ramp, task=1.0, task_ramp=EVEN):
    asked = []
    watching = Teacher(teacher, teacher.mean, teacher.std, ["logits", "backbone"])
    shapes = torch.Size([1, 12, 8, 12]), torch.Size([1, 16, 8, 12])
    term = make_term("cwd", ChannelWise(), "backbone", shapes, 2.0, ramp, Place("recipe"))
    teacher.register_forward_pre_hook(lambda *_: asked.append(1))
    objective = Objective(
        student, [TaskTerm("task", CrossEntropy(), task, ramp=task_ramp)], terms=[term], teacher=watching,
        mean=student.mean, std=student.std,
    )  # fmt: skip
    return objective, asked


def test_a_term_without_weight_costs_nothing(student, teacher):
    objective, asked = scheduled(student, teacher, Ramp(start=0.5))
    step = objective(BATCH, 0.4)
    assert (step.parts["cwd"], asked) == (0, [])
    step.loss.backward()
    assert all(p.grad is not None for p in objective.parameters()), "several processes wait for every gradient"
    assert not objective.terms[0].projector.weight.grad.any()
    assert objective(BATCH, 0.6).parts["cwd"] > 0
    assert asked == [1]


def test_a_schedule_in_steps_counts_those_of_the_training(student, teacher):
    objective, asked = scheduled(student, teacher, Ramp(unit="steps", start=3))
    objective.steps = 10
    assert [bool(objective(BATCH, (step + 0.5) / 10).parts["cwd"]) for step in range(5)] == [False] * 3 + [True] * 2
    assert len(asked) == 2


def test_labels_may_come_late_too(student, teacher):
    objective, _ = scheduled(student, teacher, EVEN, task_ramp=Ramp(start=0.5, warmup=0.2))
    found = [objective(BATCH, share).parts["task"].item() for share in (0.4, 0.6, 0.9)]
    assert found == pytest.approx([0, found[2] / 2, found[2]])
    step = scheduled(student, teacher, Ramp(stop=0.5), task=0.0)[0](BATCH, 0.7)
    step.loss.backward()  # nothing left to learn is no crash
    assert step.loss == 0


def test_without_labels_the_teacher_still_teaches(make):
    step = make()({"image": BATCH["image"]}, 0.5)
    assert set(step.parts) == {"kd", "cwd"}
    step.loss.backward()


def test_without_terms_there_is_no_teacher(make):
    step = make(with_terms=False)(BATCH, 0.5)
    assert set(step.parts) == {"task"}
    assert step.loss == step.parts["task"]


def test_close_takes_all_hooks_off(make, student, teacher):
    objective = make()
    count = lambda model: sum(len(m._forward_hooks) for m in model.modules())  # noqa: E731
    assert (count(student), count(teacher)) == (1, 1)
    objective.close()
    assert (count(student), count(teacher)) == (0, 0)


def test_an_unknown_path_names_its_owner(student, teacher):
    with pytest.raises(UserError, match="teacher has no submodule 'nowhere'"):
        Teacher(teacher, teacher.mean, teacher.std, ["nowhere"])
    assert teacher.mean == (0.5, 0.4, 0.3)


def test_modes_of_an_eager_network(student):
    modes = eager_modes(student, freeze_batch_norm=0.5)
    norms = [module for module in student.modules() if isinstance(module, nn.BatchNorm2d)]
    others = [module for module in student.modules() if module not in norms]
    modes(True, 0.49)
    assert all(module.training for module in student.modules())
    modes(True, 0.5)
    assert not any(norm.training for norm in norms)
    assert all(module.training for module in others)
    modes(False, 0.2)
    assert not any(module.training for module in student.modules())
    modes(True, 0.0)
    assert all(module.training for module in student.modules())


def test_frozen_statistics_stand_still_while_weights_learn(student):
    objective = Objective(
        student, [TaskTerm("task", CrossEntropy())], mean=student.mean, std=student.std, modes=eager_modes(student, 0.0)
    )  # fmt: skip
    optimizer = make_optimizer(objective, Optimizer(lr=0.1))
    statistics, scale = student.backbone[1].running_mean.clone(), student.backbone[1].weight.clone()
    objective.mode(True, 0.0)
    objective(BATCH, 0.0).loss.backward()
    optimizer.step()
    assert torch.equal(student.backbone[1].running_mean, statistics)
    assert not torch.equal(student.backbone[1].weight, scale)


def test_time_is_told_apart(make):
    objective = make()
    objective(BATCH, 0.5)
    assert set(objective.seconds) == {"teacher", "loss"}
    assert all(seconds > 0 for seconds in objective.seconds.values())
