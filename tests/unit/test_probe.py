"""What is looked at in a distillation, and that looking changes nothing."""

import pytest
import torch
from _training import EVERY_STEP, Stopped, prepare, same
from torch import nn

from limbeck.losses.cross_entropy import CrossEntropy
from limbeck.losses.cwd import ChannelWise
from limbeck.losses.hint import Hint
from limbeck.losses.kd import KnowledgeDistillation
from limbeck.place import Place
from limbeck.recipe import Ramp
from limbeck.record import UserError
from limbeck.train.average import Average
from limbeck.train.labels import TaskTerm
from limbeck.train.objective import Objective
from limbeck.train.probe import Probe, Pull, lines, record
from limbeck.train.teacher import Teacher
from limbeck.train.terms import make_term

BATCH = {
    "image": torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0)),
    "target": torch.randint(0, 4, (2, 16, 24), generator=torch.Generator().manual_seed(1)),
}
LOGITS = torch.Size([1, 4, 8, 12])


def objective(student, teacher, *terms, weight=1.0, task=True):
    """Terms are (name, loss, weight, ramp), all on logits."""
    where = Place("r.yaml") / "distil" / "terms"
    bound = [
        make_term(name, loss, "logits", (LOGITS, LOGITS), weight, ramp, where / index)
        for index, (name, loss, weight, ramp) in enumerate(terms)
    ]
    watching = Teacher(teacher, teacher.mean, teacher.std, ["logits"])
    labels = [TaskTerm("task", CrossEntropy(), weight)] if task else []
    return Objective(student, labels, terms=bound, teacher=watching, mean=student.mean, std=student.std)


def looked(found, step=0, steps=1, batch=BATCH):
    probe, share = Probe(found, steps), (step + 0.5) / steps
    assert probe.due(step)
    return probe.look(step, found(batch, share), batch)


def gradient(found, share=0.5):
    """Of the whole loss, by a backward pass of its own."""
    found.student.zero_grad()
    found(BATCH, share).loss.backward()
    parameters = found.student.parameters()
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters]).double()


def test_norms_ratios_and_angles_are_those_of_separate_backward_passes(student, teacher):
    kd, cwd = ("kd", KnowledgeDistillation(), 2.0, Ramp()), ("cwd", ChannelWise(), 3.0, Ramp())
    found = looked(objective(student, teacher, kd, cwd))
    task = gradient(objective(student, teacher))
    for name, term in (("kd", kd), ("cwd", cwd)):
        alone = gradient(objective(student, teacher, term, task=False))
        assert found[name].norm == pytest.approx(float(alone.norm()), rel=1e-4)
        assert found[name].ratio == pytest.approx(float(alone.norm() / task.norm()), rel=1e-4)
        cosine = torch.nn.functional.cosine_similarity(alone, task, dim=0)
        assert found[name].cosine == pytest.approx(float(cosine), abs=1e-4)
        assert found[name].weight == term[2]
    assert found["task"] == Pull(pytest.approx(float(task.norm()), rel=1e-4))


def test_a_weight_is_suggested_where_the_ratio_is_out_of_bounds(student, teacher):
    ratio = looked(objective(student, teacher, ("kd", KnowledgeDistillation(), 1.0, Ramp())))["kd"].ratio
    for times, suggested in ((0.05, True), (0.2, False), (5.0, False), (20.0, True)):
        weight = times / ratio
        pull = looked(objective(student, teacher, ("kd", KnowledgeDistillation(), weight, Ramp())))["kd"]
        assert pull.ratio == pytest.approx(times, rel=1e-3)
        assert (pull.suggested is not None) == suggested
        if suggested:
            assert pull.suggested == pytest.approx(1 / ratio, rel=0.06)  # two digits


def test_a_weight_that_still_rises_is_measured_at_its_height(student, teacher):
    kd = lambda ramp: ("kd", KnowledgeDistillation(), 2.0, ramp)  # noqa: E731
    low = looked(objective(student, teacher, kd(Ramp(warmup=1.0))), step=1, steps=20)["kd"]
    high = looked(objective(student, teacher, kd(Ramp())), step=1, steps=20)["kd"]
    assert low.norm == pytest.approx(high.norm, rel=1e-4)
    assert low.ratio == pytest.approx(high.ratio, rel=1e-4)


def test_without_labels_in_the_loss_terms_are_compared_with_the_first(student, teacher):
    terms = ("kd", KnowledgeDistillation(), 1.0, Ramp()), ("cwd", ChannelWise(), 3.0, Ramp())
    for weight, batch in ((0.0, BATCH), (1.0, {"image": BATCH["image"]})):
        found = looked(objective(student, teacher, *terms, weight=weight), batch=batch)
        assert list(found) == ["kd", "cwd"]
        assert (found["kd"].ratio, found["kd"].weight) == (None, 1.0)
        assert found["cwd"].ratio == pytest.approx(found["cwd"].norm / found["kd"].norm)


def test_a_term_before_which_all_is_frozen_is_refused_at_its_first_step(student, teacher):
    student.requires_grad_(False)
    message = r"r\.yaml.*distil\.terms\.0: kd cannot teach the student anything: no trained parameter .*student\.logits"
    with pytest.raises(UserError, match=message):
        looked(objective(student, teacher, ("kd", KnowledgeDistillation(), 1.0, Ramp())))


def test_a_term_that_stays_silent_is_refused_after_three_steps(student):
    found = objective(student, student, ("hint", Hint(), 1.0, Ramp()))  # its own teacher: nothing to learn
    found.student.requires_grad_(True)
    probe = Probe(found, 100)
    for step in range(3):
        found.mode(False)
        assert probe.due(step)
        if step == 2:
            break
        assert probe.look(step, found(BATCH, 0.0), BATCH) == {}
    with pytest.raises(UserError, match=r"distil\.terms\.0: hint gave the student a gradient of 0 in its first 3 ste"):
        probe.look(2, found(BATCH, 0.0), BATCH)


def test_the_students_own_average_may_be_silent_at_first(student):
    student.eval()
    own = Average(student, 0.999, ["logits"], mean=student.mean, std=student.std)
    where = Place("r.yaml") / "distil" / "terms" / 0
    term = make_term("hint", Hint(), "logits", (LOGITS, LOGITS), 1.0, Ramp(), where)
    labels = [TaskTerm("task", CrossEntropy())]
    found = Objective(student, labels, terms=[term], own=own, mean=student.mean, std=student.std)
    probe = Probe(found, 40)
    pulls = [probe.look(step, found(BATCH, step / 40), BATCH) for step in range(3)]
    assert pulls[2]["hint"].norm == 0
    assert pulls[2]["hint"].suggested is None


def test_batches_of_void_say_nothing_about_a_term(student, teacher):
    found = objective(student, teacher, ("kd", KnowledgeDistillation(), 1.0, Ramp()))
    probe, void = Probe(found, 100), BATCH | {"target": torch.full_like(BATCH["target"], 255)}
    for step in range(3):
        assert probe.look(step, found(void, 0.0), void) == {}


class Exploding(nn.Module):
    def forward(self, student, teacher, target):
        return (student - teacher).abs().mul(1e38).pow(2).mean()


def test_a_gradient_that_is_no_number_is_refused_before_it_does_harm(student, teacher):
    with pytest.raises(UserError, match="boom gives the student a gradient that is not finite at step 1"):
        looked(objective(student, teacher, ("boom", Exploding(), 1.0, Ramp())), steps=100)


def due(ramp, steps, student, teacher):
    probe = Probe(objective(student, teacher, ("kd", KnowledgeDistillation(), 1.0, ramp)), steps)
    return [step for step in range(steps) if probe.due(step)]


def test_what_is_looked_at_follows_from_the_schedule(student, teacher):
    assert due(Ramp(), 100, student, teacher) == [0, 1, 2, 5]
    assert due(Ramp(), 1000, student, teacher) == [0, 1, 2, 50]
    assert due(Ramp(), 2, student, teacher) == [0, 1]
    assert due(Ramp(), 1, student, teacher) == [0]
    assert due(Ramp(start=0.4), 100, student, teacher) == [40, 41, 42]
    assert due(Ramp(unit="steps", start=10, stop=12), 100, student, teacher) == [10, 11]
    assert due(Ramp(decay=(0.0, 0.03)), 100, student, teacher) == [0, 1, 2]  # over before 5 %: measured at its last


def test_a_scaled_loss_gives_the_same_pulls_and_may_overflow(student, teacher):
    found = objective(student, teacher, ("kd", KnowledgeDistillation(), 2.0, Ramp()))
    probe = Probe(found, 1)
    plain, scaled = (probe.look(0, found(BATCH, 0.5), BATCH, scale) for scale in (None, 2.0**16))
    assert scaled["kd"].ratio == pytest.approx(plain["kd"].ratio, rel=1e-4)
    assert scaled["kd"].norm == pytest.approx(plain["kd"].norm, rel=1e-4)
    found = objective(student, teacher, ("boom", Exploding(), 1.0, Ramp()))
    pull = Probe(found, 1).look(0, found(BATCH, 0.5), BATCH, 2.0**16)["boom"]
    assert (pull.norm, pull.ratio) == (None, None)  # as gradients are before the scale has fallen


def test_nothing_is_due_elsewhere(student, teacher):
    found = objective(student, teacher, ("kd", KnowledgeDistillation(), 1.0, Ramp()))
    assert Probe(found, 100).look(50, found(BATCH, 0.5), BATCH) == {}


def test_pulls_as_lines_and_as_a_record(student, teacher):
    rows = ("kd", KnowledgeDistillation(), 1.0, Ramp()), ("cwd", ChannelWise(), 3.0, Ramp())
    terms = objective(student, teacher, *rows).terms
    pulls = {"task": Pull(0.5), "kd": Pull(0.25, 0.5, 0.5, 1.0), "cwd": Pull(50.0, 100.0, -0.5, 3.0, 0.03)}
    assert lines(pulls, list(terms)) == [
        "term  gradient  against task  angle  weight  try",
        "task  0.5       -             -      -",
        "kd    0.25      0.5           60\N{DEGREE SIGN}    1",
        "cwd   50        100           120\N{DEGREE SIGN}   3       distil.terms.1.weight=0.03",
    ]
    assert record(pulls)["task"] == {"norm": 0.5}
    assert record(pulls)["cwd"] == {"norm": 50.0, "ratio": 100.0, "cosine": -0.5, "weight": 3.0, "suggested": 0.03}


@pytest.fixture
def begin(tiny, samples, tmp_path):
    return lambda folder, **what: prepare(tiny, samples, tmp_path / folder, distilled=True, **what)


@pytest.mark.parametrize("settings", [{}, {"accumulate": 2}, {"precision": "bf16", "ema": 0.5}, {"clip": 0.1}])
def test_looking_changes_no_bit(begin, settings):
    runs = begin("with", **settings), begin("without", **settings)
    object.__setattr__(runs[1].plan, "probe", False)
    for run in runs:
        run.train()
    assert same(runs[0].student, runs[1].student)
    assert runs[0].losses() == runs[1].losses()
    looked_at = [line for line in runs[0].log() if "gradients" in line]
    assert [line["step"] for line in looked_at] == [2]
    assert set(looked_at[0]["gradients"]) == {"task", "cwd", "kd"}
    assert not any("gradients" in line for line in runs[1].log())


@pytest.mark.parametrize("stop_at", [1, 4])
def test_going_on_looks_neither_twice_nor_not_at_all(begin, stop_at):
    whole = begin("whole")
    whole.train()
    settings = {"checkpoint": {"every": EVERY_STEP}}
    with pytest.raises(Stopped):
        begin("cut", stop_at=stop_at, **settings).train()
    cut = begin("cut", **settings)
    assert cut.train().resumed_from > 0
    pulls = [[line for line in run.log() if "gradients" in line] for run in (whole, cut)]
    assert pulls[0] == pulls[1]
    assert same(whole.student, cut.student)
