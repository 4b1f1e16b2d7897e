"""Terms of data and weights: known before training, carried by what is written."""

import numpy as np
import pytest
import torch
from PIL import Image

from limbeck.artifact.metadata import Metadata
from limbeck.artifact.preprocess import Preprocess
from limbeck.data.licence import Licence, licence_of_weights
from limbeck.data.weight_file import save_tensors
from limbeck.datasets.ade20k import ADE20K
from limbeck.datasets.mix import Mix
from limbeck.datasets.scenes import Scenes
from limbeck.recipe import read
from limbeck.run import run
from limbeck.stages.check import check
from limbeck.stages.licences import described, non_commercial, of_data, terms

RECIPE = """\
name: x
data: {kind: scenes, canvas: [32, 48], training: 4, validation: 2, size: [32, 48], batch: 2}
student: {kind: segformer, weights: nvidia/mit-b0}
teacher: {kind: segformer, size: b4, weights: nvidia/segformer-b4-finetuned-ade-512-512}
train: {steps: 1}
distil: [{kind: kd}]
bench: null
"""


@pytest.fixture
def recipe(tmp_path):
    """``recipe(old, new, ...)``: the recipe above with text replaced."""

    def make(*changes):
        text = RECIPE
        for old, new in zip(changes[::2], changes[1::2], strict=True):
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "r.yaml").write_text(text)
        return read(tmp_path / "r.yaml")

    return make


@pytest.mark.parametrize(
    ("kind", "name", "commercial"),
    [
        ("segformer", "nvidia/mit-b0", False),
        ("segformer", "nvidia/segformer-b4-finetuned-ade-512-512", False),
        ("segformer", "weights/mit_b0.pth", False),
        ("segformer", "segformer.b3.512x512.ade.160k.pth", False),
        ("smp", "mit_b2 imagenet", False),
        ("torchvision", "DEFAULT", None),
        ("lightweight_deeplabv3", "coco_voc", None),
        ("sceneseg", "imagenet", None),
        ("smp", "ResNet50_Weights.DEFAULT", None),
    ],
)
def test_published_weights_are_known_by_name(kind, name, commercial):
    licence = licence_of_weights(kind, name)
    assert licence is not None
    assert licence.commercial is commercial


@pytest.mark.parametrize(
    ("name", "commercial"),
    [
        ("MIT", True), ("apache-2.0", True), ("CC BY 4.0", True), ("cc-by-sa-4.0", True), ("CC0-1.0", True),
        ("cc-by-nc-4.0", False), ("CC BY-NC-SA", False), ("Non-commercial research", False),
        ("other", None), ("openrail", None), ("our own terms", None), ("cc-by-nd-4.0", None), ("?", None),
    ],
)  # fmt: skip
def test_a_name_alone_may_say_enough(name, commercial):
    assert Licence.named(name) == Licence(name, "", commercial)


def test_other_weights_are_not_guessed_at():
    assert licence_of_weights("compact_unet", "mine.safetensors") is None
    assert licence_of_weights("segformer", "my/own-segformer") is None


def test_a_student_inherits_what_its_teacher_came_under(recipe):
    found = recipe()
    student = {"data scenes", "weights nvidia/mit-b0"}
    teacher = "weights nvidia/segformer-b4-finetuned-ade-512-512"
    assert set(terms(found, Scenes)) == student | {teacher}
    assert set(terms(found, Scenes, "student-baseline")) == student
    assert set(terms(found, Scenes, "teacher")) == {"data scenes", teacher}


def test_what_is_not_for_products_is_said(recipe):
    lines = non_commercial(terms(recipe(), ADE20K))
    assert len(lines) == 4
    assert "NOT for commercial use" in lines[0]
    assert "inherit" in lines[-1]
    plain = recipe(
        ", weights: nvidia/mit-b0", "", ", weights: nvidia/segformer-b4-finetuned-ade-512-512", ", train: {}"
    )
    assert non_commercial(terms(plain, Scenes)) == []
    assert described(terms(plain, Scenes)) == [f"data scenes: {Scenes.licence}"]


def test_weights_inside_a_network_count(recipe):
    smp = "{kind: smp, arch: unet, encoder: mit_b0, encoder_weights: imagenet}"
    found = terms(recipe("{kind: segformer, weights: nvidia/mit-b0}", smp), Scenes, "student-baseline")
    assert found["weights mit_b0 imagenet"].commercial is False
    backbone = "{kind: lightweight_deeplabv3, backbone: %s}"
    encoder = recipe("weights: nvidia/mit-b0", "backbone_weights: nvidia/mit-b0")
    assert terms(encoder, Scenes, "student-baseline")["weights nvidia/mit-b0"].commercial is False
    names = [
        set(terms(recipe("{kind: segformer, weights: nvidia/mit-b0}", backbone % value), Scenes, "student-baseline"))
        for value in ("random", "coco_voc")
    ]
    assert names == [{"data scenes"}, {"data scenes", "weights lightweight_deeplabv3 coco_voc"}]


def test_a_file_says_what_it_came_from(recipe, tmp_path):
    carried = {"data ade20k": ADE20K.licence.to_json(), "weights x": None, "weights old": "MIT"}
    metadata = Metadata(
        task="segmentation", model="student", classes=("a",), palette=((0, 0, 0),), licences=carried,
        preprocess=Preprocess(size=(32, 32), mean=(0.5,) * 3, std=(0.5,) * 3),
    )  # fmt: skip
    save_tensors({"w": torch.zeros(1)}, tmp_path / "before.safetensors", metadata.to_json())
    found = terms(recipe("nvidia/mit-b0", "before.safetensors"), Scenes, "student-baseline")
    assert found == {
        "data scenes": Scenes.licence, "data ade20k": ADE20K.licence, "weights x": None, "weights old": Licence.named("MIT"),
    }  # fmt: skip


def test_a_file_is_named_without_its_folder(recipe, tmp_path):
    (tmp_path / "deep").mkdir()
    torch.save({}, tmp_path / "deep/net.pth")
    found = terms(recipe("nvidia/mit-b0", "deep/net.pth"), Scenes, "student-baseline")
    assert found["weights net.pth"] is None
    assert described(found)[-1] == "weights net.pth: licence unknown"


def test_ones_own_data_are_told_apart_by_their_folder(recipe):
    given = [{"kind": "folder", "path": "/far/away/mine", "licence": "CC BY 4.0"}, {"kind": "folder", "path": "other"}]
    given.append({"kind": "ade20k"})
    found = of_data(
        {"kind": "mix", "sources": [{"name": f"s{n}", "data": data} for n, data in enumerate(given)]}, Mix, None
    )
    assert found == {
        "data folder mine": Licence.named("CC BY 4.0"),
        "data folder other": None,
        "data ade20k": ADE20K.licence,
    }


def test_check_prints_them(recipe):
    lines = [line for line in check(recipe()) if line.startswith("licence")]
    assert [line.split(":")[0] for line in lines] == [
        "licence  data scenes", "licence  weights nvidia/mit-b0",
        "licence  weights nvidia/segformer-b4-finetuned-ade-512-512",
    ]  # fmt: skip
    assert "NVIDIA Source Code License" in lines[1]


def test_exported_files_carry_them_and_the_run_begins_with_them(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LIMBECK_DATA", str(tmp_path))
    values = np.random.default_rng(0).integers(0, 151, (32, 32), np.uint8)
    for split in ("training", "validation"):
        for part in ("images", "annotations"):
            (tmp_path / "ADEChallengeData2016" / part / split).mkdir(parents=True)
        colours = np.full((32, 32, 3), len(split), np.uint8)
        for stem in "ab":
            Image.fromarray(colours).save(tmp_path / f"ADEChallengeData2016/images/{split}/{stem}.jpg")
            Image.fromarray(values).save(tmp_path / f"ADEChallengeData2016/annotations/{split}/{stem}.png")
    (tmp_path / "r.yaml").write_text(
        "name: x\ndata: {kind: ade20k, size: [32, 32], batch: 2}\ntrain: {steps: 1}\nbench: null\n"
        "student: {kind: compact_unet, width: 4, stages: 2}\n"
    )
    folder = run(read(tmp_path / "r.yaml"), until="export", device="cpu")
    said = capsys.readouterr().err
    assert said.index("data ade20k: ADE20K terms") < said.index("student: begins")
    (file,) = (folder / "export").glob("*.onnx")
    for path in (file, folder / "student/student.safetensors"):
        assert Metadata.read(path).licences == {"data ade20k": ADE20K.licence.to_json()}
