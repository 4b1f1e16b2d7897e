"""Everything a user can get wrong ends with one clear message and exit code 2, and nothing half-written."""

import json
import os
import pickle
import resource
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from limbeck import cli
from limbeck.place import dump

RECIPE = {
    "name": "bad",
    "data": {"kind": "folder", "path": "DATA", "classes": ["a", "b", "c"], "size": [32, 32], "batch": 2},
    "student": {"kind": "compact_unet", "width": 4, "stages": 2},
    "train": {"steps": 2},
    "export": [],
    "bench": None,
}


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIMBECK_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LIMBECK_DATA", str(tmp_path / "nowhere"))
    for split, count in (("training", 4), ("validation", 2)):
        for kind in ("images", "annotations"):
            (tmp_path / "data" / kind / split).mkdir(parents=True)
        for index in range(count):
            rng = np.random.default_rng(index)
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(
                tmp_path / "data" / "images" / split / f"{index}.jpg"
            )
            Image.fromarray(rng.integers(0, 3, (32, 32), np.uint8)).save(
                tmp_path / "data" / "annotations" / split / f"{index}.png"
            )
    return tmp_path


def recipe(work: Path, **changes: object) -> str:
    value = json.loads(json.dumps(RECIPE).replace("DATA", str(work / "data"))) | changes
    (work / "r.yaml").write_text(dump(value))
    return "r.yaml"


def fails(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Message of a command that must end with exit code 2, without a traceback."""
    before, sys.argv = sys.argv, ["limbeck", *words]
    try:
        with pytest.raises(SystemExit) as ended:
            cli.main()
    finally:
        sys.argv = before
    message = capsys.readouterr().err
    assert ended.value.code == 2, message
    assert "Traceback" not in message
    return message


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("name: x\nstudnet: {kind: segformer}\n", ["r.yaml:2", "studnet", "Did you mean 'student'"]),
        ("name: x\ndata: {kind: scenes, size: [32, 32], batch: many}\nstudent: {kind: segformer}\n", ["r.yaml:2", "data.batch", "'many'"]),
        ("name: x\ndata: [1, 2\nstudent: 3\n", ["r.yaml:3", "YAML syntax"]),
        ("name: x\nname: y\n", ["r.yaml:2", "duplicate key 'name'"]),
        ("name: !!python/object:os.system x\n", ["r.yaml:1", "tag"]),
        ("name: x\ndata: {kind: scenes, size: [32, 32]}\nstudent: {kind: segfromer}\ntrain: {steps: 1}\n", ["r.yaml:3", "segfromer", "Did you mean 'segformer'"]),
        ("name: x\ndata: {kind: scenes, size: [32, 32]}\nstudent: {kind: compact_unet, widht: 4}\ntrain: {steps: 1}\n", ["r.yaml:3", "widht", "Did you mean 'width'"]),
        ("name: x\ndata: {kind: scenes, size: [32, 32]}\nstudent: {kind: compact_unet, width: -4}\ntrain: {steps: 1}\n", ["r.yaml:3", "-4"]),
        ("name: x\ndata: {kind: scenes, size: [32, 32], batch: 0}\nstudent: {kind: segformer}\ntrain: {steps: 1}\n", ["r.yaml:2", "data.batch", "0"]),
        ("name: ../../etc\ndata: {kind: scenes, size: [32, 32]}\nstudent: {kind: segformer}\ntrain: {steps: 1}\n", ["r.yaml:1", "runs folder"]),
        ("name: x\ndata: {kind: scenes, size: [32, 32]}\nstudent: {kind: segformer}\ntrain: {steps: 1, optimizer: {lr: -1}}\n", ["r.yaml:4", "train.optimizer.lr"]),
    ],
)  # fmt: skip
def test_recipe_is_wrong(work: Path, capsys: pytest.CaptureFixture[str], text: str, wanted: list[str]) -> None:
    (work / "r.yaml").write_text(text)
    message = fails(capsys, "check", "r.yaml")
    for part in wanted:
        assert part in message, message
    assert not (work / "runs").exists()


def test_recipe_is_missing(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "camvid/quick" in fails(capsys, "run", "camvid/quik")


def test_check_takes_changes_like_every_verb(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "data.batch: " in fails(capsys, "check", recipe(work), "data.batch=none")
    assert "name a recipe" in fails(capsys, "check", "data.batch=4")


def test_data_root_is_missing(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = fails(capsys, "train", "camvid/quick")
    assert "CamVid" in message
    assert "LIMBECK_DATA" in message


def test_split_is_empty(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (work / "data" / "images" / "validation").iterdir():
        path.unlink()
    message = fails(capsys, "train", recipe(work))
    assert "'validation' is empty" in message


def test_image_without_mask(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (work / "data" / "annotations" / "training" / "2.png").unlink()
    message = fails(capsys, "train", recipe(work))
    assert "2.jpg" in message
    assert "1 of 4 images have no mask" in message


def test_class_id_out_of_range(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mask = work / "data" / "annotations" / "training" / "1.png"
    Image.fromarray(np.full((32, 32), 7, np.uint8)).save(mask)
    message = fails(capsys, "train", recipe(work))
    assert str(mask) in message
    assert "7" in message


def test_image_is_truncated(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = work / "data" / "images" / "training" / "3.jpg"
    image.write_bytes(image.read_bytes()[:200])
    assert str(image) in fails(capsys, "train", recipe(work))


def test_mask_of_another_size(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mask = work / "data" / "annotations" / "validation" / "0.png"
    Image.fromarray(np.zeros((16, 32), np.uint8)).save(mask)
    message = fails(capsys, "train", recipe(work))
    assert "16x32" in message
    assert str(mask) in message


def test_weights_of_another_architecture(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    torch.save({"layer.weight": torch.zeros(3)}, work / "other.pth")
    student = RECIPE["student"] | {"weights": str(work / "other.pth")}  # type: ignore[operator]
    message = fails(capsys, "train", recipe(work, student=student))
    assert "other.pth" in message
    assert "architecture" in message


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {os.environ['LIMBECK_EVIL']}",)


def test_pickle_with_code_is_not_run(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIMBECK_EVIL", str(work / "was-run"))
    (work / "evil.pth").write_bytes(pickle.dumps({"a": Evil()}))
    student = RECIPE["student"] | {"weights": str(work / "evil.pth")}  # type: ignore[operator]
    assert "evil.pth" in fails(capsys, "train", recipe(work, student=student))
    assert not (work / "was-run").exists()


def test_weights_that_are_nowhere(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    student = RECIPE["student"] | {"weights": "nowhere/at-all"}  # type: ignore[operator]
    assert "nowhere/at-all" in fails(capsys, "train", recipe(work, student=student))


def test_batch_larger_than_the_data(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = fails(capsys, "train", recipe(work), "data.batch=9")
    assert "9 images a batch, but only 4" in message


def test_run_folder_of_another_recipe(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = recipe(work)
    sys.argv = ["limbeck", "train", file]
    cli.main()
    message = fails(capsys, "train", file, "train.optimizer.lr=0.5")
    assert "train.optimizer.lr" in message
    assert "--force student" in message


def test_file_in_the_run_folders_place(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (work / "runs").mkdir()
    (work / "runs" / "bad").write_text("mine")
    fails(capsys, "train", recipe(work))
    assert (work / "runs" / "bad").read_text() == "mine"


def test_file_size_limit(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        message = fails(capsys, "train", recipe(work))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "could not be written" in message
    assert not [path for path in (work / "runs").rglob("*") if ".part" in path.name]


def test_scored_images_do_not_calibrate(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quantize = {"kind": "pt2e", "calibration": {"images": str(work / "data" / "images" / "validation")}}
    message = fails(capsys, "quantize", recipe(work, quantize=quantize))
    assert "also scored" in message


def test_device_is_not_there(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "cuda:7" in fails(capsys, "train", recipe(work), "--device", "cuda:7")


def test_model_cannot_be_made_out(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "nothing.bin" in fails(capsys, "quantize", "nothing.bin", "--data", str(work / "data"))


def test_out_of_memory_names_a_batch(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from limbeck.recipe import Train
    from limbeck.record import UserError
    from limbeck.train import session

    plan = session.Plan("student", work, work / "m.jsonl", Train(steps=1), "miou", 0, 8, 0, 16)
    with pytest.raises(UserError, match=r"train.batch=4 train.accumulate=2"), session._memory(plan):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"distil": [{"kind": "kd", "at": "nowhere"}]}, "distil.terms.0.at: student has no submodule 'nowhere'"),
        ({"student": RECIPE["student"] | {"backbone_weights": "none.pth"}}, "none.pth: no such file"),
        (
            {"student": RECIPE["student"] | {"weights": "half.pth"}},
            "half.pth: only 1 of the model's",
        ),
        ({"student": {"kind": "./net.py:build"}}, "student: tells 2 classes apart, the data have 3"),
    ],
)
def test_the_student_s_mistakes_do_not_wait_for_the_teacher_s_training(
    work: Path, capsys: pytest.CaptureFixture[str], change: dict[str, object], message: str
) -> None:
    import torch

    from limbeck.models.compact_unet import compact_unet

    (work / "net.py").write_text("from torch import nn\ndef build():\n    return nn.Conv2d(3, 2, 1)\n")
    first, value = next(iter(compact_unet(num_classes=3, width=4, stages=2).state_dict().items()))
    torch.save({first: value}, work / "half.pth")
    taught = {"teacher": RECIPE["student"] | {"train": {"steps": 2}}, "distil": [{"kind": "kd"}]}
    assert message in fails(capsys, "run", recipe(work, **taught | change))
    assert not (work / "runs").exists()
