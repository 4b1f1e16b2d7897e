"""Teachers of other sizes, precisions and classes, several at once, and the student's own average."""

import copy

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from limbeck.graph.network import as_logits, in_classes
from limbeck.losses.cross_entropy import CrossEntropy
from limbeck.losses.kd import KnowledgeDistillation
from limbeck.models.compact_unet import compact_unet
from limbeck.place import Place
from limbeck.recipe import Ramp, read
from limbeck.record import UserError
from limbeck.run import run as run_all
from limbeck.stages.check import check
from limbeck.stages.context import Context
from limbeck.stages.networks import load_role
from limbeck.stages.teacher_classes import Outputs, _mapped, _refuse_others, outputs_of
from limbeck.stages.train import run
from limbeck.train.average import Average
from limbeck.train.labels import TaskTerm
from limbeck.train.objective import Objective
from limbeck.train.teacher import Teacher, asked
from limbeck.train.terms import make_term

WHERE = Place("r.yaml", ("teacher",))
OURS = ["sky", "road", "car"]


@pytest.fixture
def batch():
    return {"image": torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))}


def teacher(model, paths=("logits",), **more):
    return Teacher(model, model.mean, model.std, list(paths), **more)


def test_a_size_of_its_own(tiny, batch):
    model = tiny()
    found = teacher(model, size=(32, 48))(batch)["logits"]
    image = F.interpolate(batch["image"], (32, 48), mode="bilinear", antialias=True)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (model.mean, model.std))
    with torch.no_grad():
        assert torch.equal(found, model((image - mean) / std))
    assert teacher(model)(batch)["logits"].shape[-1] * 2 == found.shape[-1]


def test_a_precision_of_its_own_whatever_is_around(tiny, batch):
    model = tiny()
    plain = teacher(model)(batch)["logits"]
    assert teacher(model, precision="bf16")(batch)["logits"].dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(teacher(model, precision="fp32")(batch)["logits"], plain)
        assert teacher(model)(batch)["logits"].dtype == torch.bfloat16


def test_a_part_in_training_mode_is_noticed(tiny, batch):
    model = tiny(dropout=0.2)
    found = teacher(model)
    next(module for module in model.modules() if isinstance(module, torch.nn.Dropout)).train()
    with pytest.raises(AssertionError):
        found(batch)


def test_places_begin_with_names_and_nobody_is_asked_in_vain(tiny, batch):
    calls = []

    class Counted(Teacher):
        def __call__(self, batch):
            calls.append(self.size)
            return super().__call__(batch)

    one, other = (Counted(m, m.mean, m.std, ["logits"], size) for m, size in ((tiny(), None), (tiny(), (8, 8))))
    found = asked({"big": one, "small": other}, batch, {"small:logits"})
    assert list(found) == ["small:logits"]
    assert calls == [torch.Size([8, 8])]
    assert set(asked({"big": one, "small": other}, batch, {"small:logits", "big:logits"})) == {
        "big:logits",
        "small:logits",
    }
    assert list(asked({"": one}, batch, {"logits"})) == ["logits"]


def test_the_average_follows_parameters_and_statistics(tiny, batch):
    student = tiny()
    mine = Average(student, 0.9, ["logits"], mean=student.mean, std=student.std)
    start, other = copy.deepcopy(student.state_dict()), tiny(seed=3)
    for module in other.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.num_batches_tracked.fill_(7)
    mine.follow(other)
    stays = 2 / 11  # the share of a first update
    floats = 0
    for name, tensor in mine.teacher.model.state_dict().items():
        theirs = other.state_dict()[name]
        if tensor.is_floating_point():
            assert torch.allclose(tensor, stays * start[name] + (1 - stays) * theirs, atol=1e-6), name
            floats += 1
        else:
            assert torch.equal(tensor, theirs)
    assert floats
    assert not any(parameter.requires_grad for parameter in mine.teacher.model.parameters())
    for _ in range(300):
        mine.follow(other)
    assert torch.allclose(mine(batch)["logits"], teacher(other)(batch)["logits"], atol=1e-4)


def test_a_shared_tensor_is_averaged_once():
    net = as_logits(torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1), torch.nn.Conv2d(3, 3, 1)))
    net[1].weight = net[0].weight
    mine = Average(net, 0.5, ["logits"], mean=net.mean, std=net.std)
    start = net[0].weight.detach().clone()
    with torch.no_grad():
        net[0].weight.zero_()
    mine.follow(net)
    assert torch.allclose(mine.teacher.model[0].weight, start * 2 / 11)


def test_classes_are_picked_and_added():
    logits = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    net = in_classes(as_logits(torch.nn.Identity()), [[2], [0]])
    assert net(logits).tolist() == [[3.0, 1.0]]
    net = in_classes(as_logits(torch.nn.Identity()), [[2], [0, 3]])
    share = logits.softmax(1)[0]
    expected = torch.stack([share[2], share[0] + share[3]]) / (share[0] + share[2] + share[3])
    assert torch.allclose(net(logits).softmax(1)[0], expected)
    assert in_classes(net, None) is net


@pytest.mark.parametrize(
    ("given", "theirs", "expected"),
    [
        ({"order": ["road", "sky", "car"]}, (), Outputs(3, [[1], [0], [2]])),
        ({"order": ["sky", "road", "car"]}, (), Outputs(3)),
        ({"order": ["sky", None, "road", "car"]}, (), Outputs(4, [[0], [2], [3]])),
        ({"order": "data"}, ("himmel", "weg", "auto"), Outputs(3)),
        ({"himmel": "sky", "weg": "road", "auto": "car", "bus": "car"}, ("himmel", "bus", "weg", "auto", "mast"),
         Outputs(5, [[0], [2], [1, 3]])),
        ({"0": 0, "1": 2, "2": "Road"}, ("a", "b", "c"), Outputs(3, [[0], [2], [1]])),
        ({"a": "sky", "b": "road", "c": "car", "d": None}, ("a", "b", "c", "d"), Outputs(4, [[0], [1], [2]])),
    ],
)  # fmt: skip
def test_a_map_of_classes(given, theirs, expected):
    assert _mapped(given, theirs, OURS, WHERE) == expected


@pytest.mark.parametrize(
    ("given", "theirs", "wanted"),
    [
        ({"order": ["road", "sky", "cra"]}, (), "no class 'cra'. Did you mean 'car'?"),
        ({"order": ["road", "sky"]}, (), "none of its classes is the data's 'car'"),
        ({"order": ["road", "sky", "car"]}, ("a", "b"), "3 names, but its weights have 2 classes"),
        ({"himel": "sky"}, ("himmel",), "no class 'himel'. Did you mean 'himmel'?"),
        ({"a": "sky"}, (), "its weights do not name their classes; give `order`"),
        ({"a": ["sky"]}, ("a",), "one class of the data, or null"),
        ({"7": "sky"}, ("a",), "no class '7'"),
    ],
)
def test_a_wrong_map_of_classes(given, theirs, wanted):
    with pytest.raises(UserError) as error:
        _mapped(given, theirs, OURS, WHERE)
    assert wanted in str(error.value)
    assert str(error.value).startswith("r.yaml: teacher")


def test_other_classes_are_refused_with_what_would_work():
    _refuse_others((), OURS, WHERE)
    _refuse_others(("Sky", "ROAD", "car"), OURS, WHERE)
    with pytest.raises(UserError, match=r"the same in another order, first 0: 'road' there, 'sky' here") as error:
        _refuse_others(("road", "sky", "car"), OURS, WHERE)
    assert "order: data" in str(error.value)
    with pytest.raises(UserError, match=r"4 classes, the data have 3"):
        _refuse_others(("sky", "road", "car", "bus"), OURS, WHERE)


def test_what_nobody_named_is_taken_in_the_datas_order():
    ours = ["road", "sky", "car"]
    _refuse_others(["LABEL_0", "LABEL_1", "LABEL_2"], ours, Place("r.yaml"))  # as transformers writes it
    with pytest.raises(UserError, match="2 classes, the data have 3"):
        _refuse_others(["LABEL_0", "LABEL_1"], ours, Place("r.yaml"))


RECIPE = """\
name: x
data: {kind: scenes, size: [32, 32], training: 4, validation: 2, batch: 2}
teacher: {kind: compact_unet, width: 4, stages: 2, weights: teacher.safetensors, classes: {order: [NAMES]}}
student: {kind: compact_unet, width: 4, stages: 2}
train: {steps: 1}
distil: [{kind: kd}]
"""


@pytest.fixture
def mapped(tmp_path):
    """A run whose teacher has the data's classes backwards, and one more; and that network itself."""
    torch.manual_seed(0)
    model = compact_unet(13, width=4, stages=2).eval()
    save_file(model.state_dict(), tmp_path / "teacher.safetensors")
    (tmp_path / "r.yaml").write_text(RECIPE.replace("NAMES", "null"))
    names = Context(read(tmp_path / "r.yaml"), tmp_path).dataset("validation").classes
    (tmp_path / "r.yaml").write_text(RECIPE.replace("NAMES", ", ".join(["null", *reversed(names)])))
    return Context(read(tmp_path / "r.yaml"), tmp_path / "run"), model


def test_a_mapped_teacher_is_the_datas_from_its_file_on(mapped):
    context, model = mapped
    assert any(line.startswith("teacher") for line in check(context.recipe, to_run=True))
    run(context, "teacher")
    image = torch.rand(2, 3, 32, 32)
    found = load_role(context, "teacher")
    with torch.no_grad():
        assert torch.equal(found(image), model(image)[:, 1:].flip(1))
    from limbeck.artifact.load import load

    predictor = load(context.weights("teacher"), runtime="eager")
    assert predictor.logits(image.numpy()).shape[1] == 12
    assert predictor.metadata.classes == context.dataset("validation").classes


def test_a_mapped_file_is_a_teacher_of_another_run(mapped, tmp_path):
    context, _ = mapped
    run(context, "teacher")
    text = RECIPE.replace("teacher.safetensors, classes: {order: [NAMES]}", str(context.weights("teacher")))
    (tmp_path / "again.yaml").write_text(text)
    again = Context(read(tmp_path / "again.yaml"), tmp_path / "again")
    run(again, "teacher")
    image = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(load_role(again, "teacher")(image), load_role(context, "teacher")(image))


def test_a_mapped_file_for_other_data_is_refused_or_mapped_once_more(mapped, tmp_path):
    context, _ = mapped
    run(context, "teacher")
    text = RECIPE.replace("teacher.safetensors, classes: {order: [NAMES]}", str(context.weights("teacher")))
    (tmp_path / "again.yaml").write_text(text)
    again = Context(read(tmp_path / "again.yaml"), tmp_path / "again")
    section, names = again.section("teacher"), list(context.dataset("validation").classes)
    with pytest.raises(UserError, match="its classes are not the data's"):
        outputs_of(again, section, WHERE, OURS)
    assert outputs_of(again, section, WHERE, names) == Outputs(13, [[at] for at in range(12, 0, -1)])
    order = section.model_copy(update={"classes": {"order": [OURS[min(at, 2)] for at in range(len(names))]}})
    assert outputs_of(again, order, WHERE, OURS) == Outputs(13, [[12], [11], list(range(10, 0, -1))])


def test_sixteen_bits_need_a_gpu_before_anything_is_done(mapped, tmp_path, monkeypatch):
    monkeypatch.setenv("LIMBECK_RUNS", str(tmp_path / "runs"))
    recipe = read(tmp_path / "r.yaml", ["teacher.precision=fp16"])
    with pytest.raises(UserError, match=r"r.yaml:3: teacher.precision: fp16 needs a GPU"):
        run_all(recipe, device="cpu")
    assert not (tmp_path / "runs").exists()


def test_images_without_labels_count_all_teachers_alike(tiny, batch):
    student, one, other = tiny(), tiny(width=16, seed=1), tiny(width=14, seed=2)
    shape = torch.Size([1, 4, 8, 12])

    def part(combine, labelled):
        pair = [{"big:logits": tuple(shape), "small:logits": tuple(shape)}]
        kd = make_term(
            "kd", KnowledgeDistillation(), "logits", (shape, shape), 1.0, Ramp(), WHERE, combine=combine, sources=pair
        )
        objective = Objective(
            student.eval(), [TaskTerm("task", CrossEntropy())], terms=[kd],
            teacher={"big": teacher(one), "small": teacher(other)}, mean=student.mean, std=student.std,
        )  # fmt: skip
        more = {"target": torch.ones(2, 16, 24, dtype=torch.long), "labelled": torch.tensor([labelled] * 2)}
        return objective(batch | more, 0.5).parts["kd"]

    assert torch.allclose(part("confidence", labelled=False), part("mean", labelled=False), rtol=1e-5)
    assert not torch.allclose(part("confidence", labelled=True), part("mean", labelled=True), rtol=1e-3)
    assert part("confidence", labelled=False) > 0
