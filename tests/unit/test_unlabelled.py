"""Images without labels: only what a teacher teaches comes from them."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from limbeck.data.sample import Sample
from limbeck.data.sampler import Batches
from limbeck.data.stats import count_classes
from limbeck.data.transforms import Augmentation
from limbeck.data.unlabelled import Joined, Unlabelled
from limbeck.data.views import Views
from limbeck.losses.cross_entropy import CrossEntropy
from limbeck.losses.ifvd import IntraClassVariation
from limbeck.losses.kd import KnowledgeDistillation
from limbeck.place import Place
from limbeck.recipe import Augment, Ramp, Resize, read
from limbeck.record import UserError
from limbeck.stages.check import check
from limbeck.stages.context import Context
from limbeck.stages.plan import plan
from limbeck.stages.train import run
from limbeck.stages.training_data import plan_for, training
from limbeck.train.labels import TaskTerm
from limbeck.train.objective import Objective
from limbeck.train.teacher import Teacher
from limbeck.train.terms import make_term

MAP = Sample(np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1), np.uint8), "map")


@pytest.fixture
def images(tmp_path):
    """``images(folder, count)`` writes pictures of 20x30 and returns their folder."""

    def make(folder, count, seed=0):
        rng = np.random.default_rng(seed)
        for index in range(count):
            path = tmp_path / folder / f"part{index % 2}" / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(path)
        return tmp_path / folder

    return make


def test_images_of_a_folder(images):
    found = Unlabelled(images("more", 5), "here", MAP)
    assert [found[index].name for index in range(len(found))] == [
        "part0/0.png", "part0/2.png", "part0/4.png", "part1/1.png", "part1/3.png",
    ]  # fmt: skip
    assert found[0].target.shape == (20, 30)
    assert not found[0].target.any()
    assert not found[0].labelled
    one = Sample(MAP.image, np.array(3), "class")
    assert Unlabelled(images("more", 5), "here", one)[0].target.shape == ()
    assert Unlabelled(images("more", 5), "here", Sample(MAP.image, None, "none"))[0].target is None


def test_alpha_is_read_where_the_split_has_it(images):
    like = Sample(np.zeros((1, 1, 4), np.uint8), None, "alpha")
    assert Unlabelled(images("more", 1), "r.yaml:3", like)[0].image.shape == (20, 30, 4)


def test_the_digest_is_of_what_is_in_the_files(images):
    digests = [Unlabelled(images(*given), "here", MAP).digest() for given in (("a", 3), ("b", 3), ("c", 3, 1))]
    assert digests[0] == digests[1] != digests[2]


def test_wrong_folders_are_refused(images, tmp_path):
    folder = images("more", 3)
    (tmp_path / "empty").mkdir()
    for where, scored, message in (
        (tmp_path / "nowhere", (), "here: no such folder"),
        (tmp_path / "empty", (), "here: no images in"),
        (folder, [folder / "part1" / ".." / "part1" / "1.png"], r"1 of 3 images are also scored .*part1/1\.png"),
    ):
        with pytest.raises(UserError, match=message):
            Unlabelled(where, "here", MAP, scored)


def test_joined_they_come_after_the_split(images, samples):
    found = Joined(samples(4), Unlabelled(images("more", 3), "here", MAP))
    assert len(found) == 7
    assert [found[index].labelled for index in range(7)] == [True] * 4 + [False] * 3
    assert (found.classes, found.draws) == (samples(4).classes, ())
    drawn = [index for batch in Batches(7, 7, 0, 0, 1) for index, _ in batch]
    assert sorted(drawn) == list(range(7))


def test_what_a_split_draws_stays(images, samples):
    split = samples(4)
    split.draws = ((1, 3), (3, 3))
    found = Joined(split, Unlabelled(images("more", 3), "here", MAP))
    assert found.draws == ((1, 3), (3, 3), (3, 3))


def test_no_class_is_counted(images):
    found = Unlabelled(images("more", 3), "here", MAP)
    found.classes = ("a", "b")
    assert count_classes(found).pixels == [0, 0]


def test_padding_is_still_void(images):
    views = Views(
        Unlabelled(images("more", 1), "here", MAP), Augmentation((32, 32), Resize(mode="keep_ratio"), Augment()), 0
    )
    found = views[0, 0]
    assert not found["labelled"]
    assert set(found["target"].unique().tolist()) == {0, 255}


@pytest.fixture
def batch(samples):
    rng = torch.Generator().manual_seed(0)
    target = torch.randint(0, 4, (4, 16, 24), generator=rng)
    target[1], target[1, 10:], target[3], target[3, :, 20:] = 0, 255, 0, 255
    labelled = torch.tensor([True, False, True, False])
    return {"image": torch.rand(4, 3, 16, 24, generator=rng), "target": target, "labelled": labelled}


@pytest.fixture
def objective(student, teacher):
    logits, features = (torch.Size([1, 4, 8, 12]),) * 2, (torch.Size([1, 12, 8, 12]), torch.Size([1, 16, 8, 12]))
    terms = [
        make_term("kd", KnowledgeDistillation(), "logits", logits, 1.0, Ramp(), Place("r")),
        make_term("ifvd", IntraClassVariation(), "backbone", features, 1.0, Ramp(), Place("r")),
    ]
    watching = Teacher(teacher, teacher.mean, teacher.std, ["logits", "backbone"])
    task = [TaskTerm("task", CrossEntropy())]
    made = Objective(student, task, terms=terms, teacher=watching, mean=student.mean, std=student.std)
    made.mode(False)
    return made


def test_only_the_teachers_terms_look_at_them(objective, batch):
    parts = objective(batch, 0.5).parts
    some = {key: value[[0, 2]] for key, value in batch.items()}
    assert parts["task"].item() == pytest.approx(objective(some, 0.5).parts["task"].item(), rel=1e-6)
    assert parts["ifvd"].item() == pytest.approx(objective(some, 0.5).parts["ifvd"].item(), rel=1e-5)
    without = {key: value for key, value in batch.items() if key != "labelled"}
    torch.testing.assert_close(parts["kd"], objective(without, 0.5).parts["kd"])
    assert parts["kd"].item() != pytest.approx(objective(some, 0.5).parts["kd"].item(), rel=1e-4)


def test_a_batch_of_them_alone_costs_no_task(objective, batch):
    step = objective(batch | {"labelled": torch.zeros(4, dtype=torch.bool)}, 0.5)
    assert step.parts["task"] == step.parts["ifvd"] == 0
    assert step.parts["kd"] > 0
    step.loss.backward()


def test_of_whole_images_the_class_is_not_meant(batch):
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4))
    objective = Objective(model, [TaskTerm("task", CrossEntropy())], mean=(0, 0, 0), std=(1, 1, 1))
    classes = batch | {"target": torch.tensor([3, 0, 1, 0])}
    some = {key: value[[0, 2]] for key, value in classes.items()}
    torch.testing.assert_close(objective(classes, 0.5).loss, objective(some, 0.5).loss)


def test_padding_of_them_teaches_nothing(objective, batch):
    moved = batch["target"].clone()
    moved[1] = 0
    changed = objective(batch | {"target": moved}, 0.5).parts["kd"]
    assert changed != objective(batch, 0.5).parts["kd"]


RECIPE = """\
name: x
data: {kind: scenes, size: [32, 32], training: 4, validation: 2, batch: 4, unlabelled: more}
teacher: {kind: compact_unet, width: 8, stages: 2, train: {epochs: 1}}
student: {kind: compact_unet, width: 4, stages: 2}
baseline: true
train: {epochs: 3}
distil: [{kind: kd}]
bench: null
"""


@pytest.fixture
def context(tmp_path, monkeypatch, images):
    def make(count=8, *changes, text=RECIPE):
        monkeypatch.setenv("LIMBECK_DATA", str(tmp_path))
        images("more", count)
        (tmp_path / "r.yaml").write_text(text)
        return Context(read(tmp_path / "r.yaml", list(changes)), tmp_path / "run")

    return make


def test_an_epoch_of_the_student_is_longer_and_the_baseline_takes_as_many_steps(context):
    found = context()
    steps = {role: plan_for(found, role, found.recipe.train).steps for role in ("student", "student-baseline")}
    assert steps == {"student": 9, "student-baseline": 9}
    assert plan_for(found, "teacher", found.recipe.teacher[0].train).steps == 1
    lengths = {role: len(training(found, role)) for role in ("teacher", "student-baseline", "student", "qat")}
    assert lengths == {"teacher": 4, "student-baseline": 4, "student": 12, "qat": 12}


def test_qat_without_terms_on_logits_has_no_use_for_them(context):
    found = context(8, "distil.0.at=encoder.0")
    assert [len(training(found, role)) for role in ("student", "qat", "student-longer")] == [12, 4, 4]


def test_what_is_trained_on_them_knows_them_by_content(context):
    before, after = ({n: s.fingerprint for n, s in plan(context(count)).items()} for count in (8, 9))
    assert before["teacher"] == after["teacher"]
    assert before["student"] != after["student"]
    assert before["student-baseline"] != after["student-baseline"], "it takes as many steps"


def test_check_counts_them(context):
    lines = check(context().recipe)
    assert any("4 training and 2 validation images" in line and "plus 8 unlabelled" in line for line in lines)


def test_they_need_a_teacher(context):
    text = RECIPE.replace("baseline: true\n", "").replace("distil: [{kind: kd}]\n", "")
    with pytest.raises(UserError, match=r"data\.unlabelled is for what a teacher teaches, but there is no distil"):
        context(8, text=text)


def test_a_student_learns_from_them(context):
    found = context()
    found.folder.mkdir()
    run(found, "teacher")
    result = run(found, "student")
    assert result["steps"] == 9
    lines = [json.loads(line) for line in found.log.read_text().splitlines()]
    assert any(line["stage"] == "student" and "kd" in line.get("parts", {}) for line in lines)
