"""What ``limbeck check`` forgives and what not."""

import numpy as np
import pytest
import torch
from PIL import Image

from limbeck.recipe import read
from limbeck.record import UserError
from limbeck.stages.check import check

RECIPE = """\
name: x
data: {kind: folder, path: mine, classes: [a, b], size: [32, 32], batch: 1}
student: {kind: compact_unet, width: 4, stages: 2}
train: {steps: 1}
bench: null
"""


@pytest.fixture
def checked(tmp_path, monkeypatch):
    """``checked(more)`` checks a recipe with these lines, on the data set ``mine``."""
    monkeypatch.setenv("LIMBECK_DATA", str(tmp_path / "data"))

    def run(more="", *overrides):
        (tmp_path / "r.yaml").write_text(RECIPE + more)
        return check(read(tmp_path / "r.yaml", list(overrides)))

    return run


@pytest.fixture
def mine(tmp_path):
    for part, shape in (("images", (32, 32, 3)), ("annotations", (32, 32))):
        for split in ("training", "validation"):
            (tmp_path / "data/mine" / part / split).mkdir(parents=True)
            Image.fromarray(np.ones(shape, np.uint8)).save(tmp_path / "data/mine" / part / split / "a.png")
    return tmp_path / "data/mine"


def test_data_that_are_here(checked, mine):
    assert "1 training and 1 validation images" in checked()[0]


def test_a_missing_folder_is_forgiven(checked, tmp_path):
    assert "not here" in checked()[0]
    (tmp_path / "data").mkdir()
    assert "not here" in checked()[0]


def test_wrong_data_are_not(checked, mine):
    Image.fromarray(np.full((32, 32), 7, np.uint8)).save(mine / "annotations/validation/a.png")
    with pytest.raises(UserError, match="class ids 7 are out of range"):
        checked()
    (mine / "annotations/training/a.png").unlink()
    with pytest.raises(UserError, match="1 of 1 images have no mask"):
        checked()


def test_data_that_need_no_folder_have_no_excuse(checked):
    with pytest.raises(UserError, match="scenes: validation has 0 scenes"):
        checked("", "data={kind: scenes, size: [32, 32], validation: 0}")


def test_the_task_is_built(checked):
    with pytest.raises(UserError, match=r"r\.yaml:6: task\.kind: no such task 'segmentatoin'"):
        checked("task: {kind: segmentatoin}\n")


def test_one_file_for_each_export(checked, tmp_path):
    with pytest.raises(UserError, match=r"r\.yaml:6: export\.1: a second entry of kind 'onnx'"):
        checked("export: [{kind: onnx}, {kind: onnx, dynamic: [height]}]\n")
    (tmp_path / "mine.py").write_text("class Mine:\n    suffix = '.mine'\n")
    assert checked("export: {kind: ./mine.py:Mine}\n")


HEADED = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, num_classes: int):
        super().__init__(nn.Conv2d(3, num_classes, 3, 2, 1), nn.Conv2d(num_classes, num_classes, 1))
        self.aux = {"1": HEAD}
"""


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ('{"kind": "egde"}', r"Net.aux\['1'\].kind: no such loss 'egde'.* Did you mean 'edge'"),
        ('{"kind": "edge", "widht": 4}', r"Net.aux\['1'\].widht: edge has no argument 'widht'"),
        ('{"kind": "kd"}', r"Net.aux\['1'\]: kd compares a student with a teacher; its place is in distil"),
    ],
)
def test_losses_of_auxiliary_heads_are_built(checked, mine, tmp_path, head, message):
    (tmp_path / "net.py").write_text(HEADED.replace("HEAD", head))
    with pytest.raises(UserError, match=message):
        checked("", "student={kind: ./net.py:Net}")


def test_losses_have_their_place(checked, mine):
    with pytest.raises(UserError, match=r"r.yaml:4: train.task: kd compares a student with a teacher"):
        checked("", "train.task.kind=kd")
    with pytest.raises(UserError, match=r"r.yaml:4: train.task.1.alhpa: cross_entropy has no argument 'alhpa'"):
        checked("", "train.task=[{kind: cross_entropy}, {kind: cross_entropy, alhpa: 1}]")
    teacher = "teacher: {kind: compact_unet, width: 4, stages: 2, train: {steps: 1}}\ndistil: [{kind: cross_entropy}]\n"
    with pytest.raises(UserError, match=r"distil.terms.0: cross_entropy looks at labels alone"):
        checked(teacher)


def test_losses_fit_the_task(checked, mine, tmp_path):
    with pytest.raises(UserError, match=r"train.task: edge looks at logits \[n, 1, h, w\], got \[2, 2, 8, 8\]"):
        checked("", "train.task.kind=edge")
    (tmp_path / "own.py").write_text(
        "from torch import nn\n"
        "def one_hot():\n    return nn.BCEWithLogitsLoss()\n"
        "def each():\n    return nn.CrossEntropyLoss(reduction='none')\n"
    )
    with pytest.raises(UserError, match=r"train.task: does not run on maps \[n, c, h, w\] and their target"):
        checked("", "train.task.kind=./own.py:one_hot")
    with pytest.raises(UserError, match=r"train.task: gives Tensor \[2, 8, 8\], not one number"):
        checked("", "train.task.kind=./own.py:each")
    assert checked("", "train.task=[{kind: dice}, {kind: lovasz, weight: 0.5}]")


def test_losses_of_areas_are_not_for_whole_images():
    with pytest.raises(UserError, match=r"train.task.*: dice is a loss of maps"):
        check(read("smoke/classification", ["train.task={kind: dice}"]))


@pytest.mark.parametrize(("at", "owner"), [("nowhere -> logits", "student"), ("logits -> nowhere", "teacher")])
def test_a_wrong_path_has_its_place(checked, mine, at, owner):
    teacher = "teacher: {kind: compact_unet, width: 4, stages: 2, train: {steps: 1}}\n"
    with pytest.raises(UserError, match=rf"r.yaml:9: distil.terms.1.at: {owner} has no submodule 'nowhere'"):
        checked(f"{teacher}distil:\n  - {{kind: kd}}\n  - {{kind: cwd, at: {at}}}\n")


def test_a_network_of_one_s_own_has_the_classes_of_the_data(checked, mine, tmp_path):
    (tmp_path / "net.py").write_text(
        "from torch import nn\ndef three(num_classes):\n    return nn.Conv2d(3, 3, 1)\n"
        "def sigmoid(num_classes):\n    return nn.Conv2d(3, 1, 1)\n"
    )
    with pytest.raises(UserError, match=r"r\.yaml: student: tells 3 classes apart, the data have 2"):
        checked("", "student={kind: ./net.py:three}")
    assert checked("", "student={kind: ./net.py:sigmoid}")


@pytest.mark.parametrize(
    ("student", "message"),
    [
        ("{kind: pspnet, backbone_weights: ResNet51_Weights.DEFAULT}", r"backbone_weights: ResNet51.* Did you mean"),
        ("{kind: ./net.py:stem, backbone_weights: body.pth}", "backbone_weights: Conv2d: no submodule is called"),
    ],
)
def test_weights_have_a_place_to_come_from_and_to_go_to(checked, mine, tmp_path, student, message):
    (tmp_path / "net.py").write_text("from torch import nn\ndef stem():\n    return nn.Conv2d(3, 2, 1)\n")
    with pytest.raises(UserError, match=message):
        checked("", "data.size=[64, 64]", f"student={student}")


def test_weight_files_may_be_elsewhere_until_it_runs(checked, mine, tmp_path):
    for change in ("student.weights=none.pth", "student.backbone_weights=none.pth"):
        assert checked("", change)
        with pytest.raises(UserError, match=r"none\.pth: no such"):
            check(read(tmp_path / "r.yaml", [change]), to_run=True)


def unet(tmp_path, classes=2, **changes):
    """A file of the recipe's network, with some tensors taken out, put in or changed."""
    from limbeck.models.compact_unet import compact_unet

    state = compact_unet(num_classes=classes, width=4, stages=2).state_dict() | changes
    torch.save({name: value for name, value in state.items() if value is not None}, tmp_path / "own.pth")
    return state


def test_a_weight_file_is_tried_in_the_network(checked, mine, tmp_path):
    first, *_ = state = unet(tmp_path)
    lines = checked("", "student.weights=own.pth")
    assert sum("own.pth: " in line and "tensors loaded" in line for line in lines) == 1
    for changes, message in (
        ({first: None}, rf"r\.yaml:3: student.weights: .*own\.pth: only \d+ of .*not in it, .*{first}"),
        ({"extra.weight": torch.zeros(1)}, r"r\.yaml:3: student.weights: .*\n.*in it, but not in the model"),
        ({first: state[first].int()}, r"r\.yaml:3: student.weights: .*look like quantized weights"),
    ):
        unet(tmp_path, **changes)
        with pytest.raises(UserError, match=f"(?s){message}"):
            checked("", "student.weights=own.pth")
    unet(tmp_path, classes=5)
    with pytest.raises(UserError, match=r"(?s)r\.yaml:3: student.weights: .*trained for 5 classes, the model has 2"):
        checked("", "student.weights=own.pth")
    assert any("of another shape" in line for line in checked("", "student.weights=own.pth", "student.partial=true"))
    (tmp_path / "own.pth").write_bytes(b"PK no archive")
    with pytest.raises(UserError, match=r"r\.yaml:3: student.weights: .*own\.pth"):
        checked("", "student.weights=own.pth")


def test_a_teacher_s_and_an_encoder_s_file_are_tried_too(checked, mine, tmp_path):
    unet(tmp_path, classes=5)
    teacher = "teacher: {kind: compact_unet, width: 4, stages: 2, weights: own.pth}\n"
    with pytest.raises(UserError, match=r"r\.yaml:6: teacher.weights: .*own\.pth"):
        checked(f"{teacher}distil: [{{kind: kd}}]\n")
    assert any(
        "own.pth (" in line and "tensors loaded" in line for line in checked("", "student.backbone_weights=own.pth")
    )
    first = next(iter(unet(tmp_path)))
    unet(tmp_path, **{first: None})
    with pytest.raises(UserError, match=r"r\.yaml:3: student.backbone_weights: .*own\.pth"):
        checked("", "student.backbone_weights=own.pth")


def test_classes_that_are_not_known_yet_refuse_no_file(checked, tmp_path):
    unet(tmp_path, classes=5)
    assert checked("", "data={kind: folder, path: gone, size: [32, 32]}", "student.weights=own.pth")


@pytest.fixture
def cached_hub(tmp_path, monkeypatch):
    """A SegFormer B0 of three classes as the hub's cache keeps ``me/b0``; nothing can be fetched."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    from limbeck.models.segformer import SIZES

    folder = tmp_path / "hub" / "models--me--b0"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    network = SegformerForSemanticSegmentation(SegformerConfig(num_labels=3, **SIZES["b0"]))
    network.save_pretrained(folder / "snapshots" / "abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("limbeck.models._hub.hf_hub_download", lambda *_: 1 / 0)
    return folder / "snapshots" / "abc"


def test_a_hub_id_is_tried_where_it_was_downloaded_before(checked, mine, cached_hub):
    with pytest.raises(UserError, match=r"r\.yaml: student.weights: me/b0: not a SegFormer b1; write `size: b0`"):
        checked("", "student={kind: segformer, size: b1, weights: me/b0}")
    with pytest.raises(UserError, match=r"r\.yaml: student.weights: me/b0: its config.json"):
        checked("", "data.size=[64, 64]", "student={kind: upernet_swin, weights: me/b0}")
    fine = "student={kind: segformer, size: b0, weights: me/b0}"
    assert not any(
        "tensors loaded" in line for line in checked("", fine)
    )  # whether it has one of these is not known here
    (cached_hub / "preprocessor_config.json").write_text("{}")
    assert any("me/b0: " in line and "tensors loaded" in line for line in checked("", fine))
    assert checked("", "student={kind: segformer, weights: me/other}")
    with pytest.raises(UserError, match=r"r\.yaml: student.szie: segformer has no argument 'szie'"):
        checked("", "student={kind: segformer, szie: b0, weights: me/b0}")


def test_a_library_s_name_is_looked_up_and_not_fetched(checked, mine, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *_, **__: 1 / 0)
    student = "student={kind: torchvision, arch: deeplabv3_mobilenet_v3_large, weights: NAME}"
    with pytest.raises(UserError, match=r"r\.yaml: student.weights: .*no weights 'COCO'"):
        checked("", "data.batch=1", student.replace("NAME", "COCO"))
    assert checked("", "data.batch=1", student.replace("NAME", "COCO_WITH_VOC_LABELS_V1"))


@pytest.mark.parametrize(
    "change",
    [
        "evaluate.slide={overlap: 0.5}",
        "evaluate.boundary=true",
        "data.augment={scale: [0.5, 1.0], max_share: 0.5}",
        "distil.0.edges={width: 3}",
    ],
)
def test_what_only_maps_have_is_not_asked_of_a_classifier(change):
    with pytest.raises(UserError, match="a classifier sees the whole image"):
        check(read("smoke/classification", [change]))


MATCHED = """\
term  student                  stride  teacher                   stride  trained beside  weight  schedule
kd    student.logits 2x16x16   2       teacher.logits 2x16x16    2       -               1       -
cwd   student.encoder.1 8x8x8  4       teacher.encoder.2 32x4x4  8       256             3       rises over 10 %"""


def test_what_meets_what_is_a_table(checked, mine):
    teacher = "teacher: {kind: compact_unet, width: 8, stages: 3, train: {steps: 1}}\n"
    cwd = "{kind: cwd, at: encoder.1 -> encoder.2, weight: 3, schedule: {warmup: 0.1}}"
    assert MATCHED in "\n".join(checked(f"{teacher}distil:\n  - {{kind: kd}}\n  - {cwd}\n"))


def test_teachers_of_other_sizes_have_strides_of_their_own(checked, mine):
    net = "kind: compact_unet, width: 4, stages: 2, train: {steps: 1}"
    teachers = f"teacher:\n  - {{name: a, {net}, input_size: [64, 64]}}\n  - {{name: b, {net}}}\n"
    line = next(line for line in checked(f"{teachers}distil: [{{kind: kd}}]\n") if line.startswith("kd"))
    assert line.split()[:10] == [
        "kd",
        "student.logits",
        "2x16x16",
        "2",
        "a:logits",
        "2x32x32",
        "+",
        "b:logits",
        "2x16x16",
        "2",
    ]


TAUGHT = "teacher: {kind: compact_unet, width: 8, stages: 3, train: {steps: 1}}\n"


def test_a_term_that_never_has_a_weight_is_named(checked, mine):
    late = TAUGHT + "distil: [{kind: kd}, {kind: cwd, schedule: {unit: steps, start: 9}}]\n"
    (said,) = [line for line in checked(late, "train.steps=9") if "never has" in line]
    assert said.endswith("r.yaml:7: distil.terms.1: cwd never has a weight: it starts at step 9, and there are 9 steps")
    assert not [line for line in checked(late, "train.steps=10") if "never has" in line]


def test_what_compares_classes_is_not_for_features(checked, mine):
    with pytest.raises(UserError, match=r"distil.terms.0.at: dkd compares classes, .* gives 32 channels for 2 classes"):
        checked(TAUGHT + "distil: [{kind: dkd, at: encoder.1 -> encoder.2}]\n")
    assert checked(TAUGHT + "distil: [{kind: dkd}, {kind: ifvd, at: encoder.1 -> encoder.2}]\n")


def test_a_teachers_file_may_be_elsewhere_until_it_runs_too(checked, mine, tmp_path):
    taught = "teacher: {kind: compact_unet, width: 4, stages: 2, weights: t.safetensors}\ndistil: [{kind: kd}]\n"
    assert checked(taught)
    with pytest.raises(UserError, match=r"r\.yaml:6: teacher\.weights: t\.safetensors: no such weight file"):
        check(read(tmp_path / "r.yaml"), to_run=True)
