"""Folders of classes: their layouts, the share that validation takes, and what is refused."""

from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from PIL import Image

from limbeck.build import build
from limbeck.data.stats import count_classes
from limbeck.record import UserError

CLASSES = ("buildings", "forest", "glacier")


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(crc32(path.name.encode())).integers(0, 256, (8, 10, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def fill(folder: Path, count: int, classes: tuple[str, ...] = CLASSES) -> None:
    for name in classes:
        for number in range(count):
            image(folder / name / f"{number}.jpg")


@pytest.fixture
def intel(tmp_path: Path) -> Path:
    """The layout of the Intel scenes: no validation, and images without classes."""
    fill(tmp_path / "set/seg_train/seg_train", 20)
    fill(tmp_path / "set/seg_test/seg_test", 3)
    for number in range(4):
        image(tmp_path / f"set/seg_pred/seg_pred/{number}.jpg")
    return tmp_path


def read(root: Path, split: str, **more: object):
    return build("datasets", {"kind": "image_folder", "path": "set", **more}, "data", split=split, root=root)


def test_the_intel_layout_is_found(intel: Path) -> None:
    training, validation, test, rest = (read(intel, s) for s in ("training", "validation", "test", "unlabelled"))
    assert [len(d) for d in (training, validation, test, rest)] == [54, 6, 9, 4]
    assert all(d.classes == CLASSES for d in (training, validation, test, rest))
    assert [int(test[index].target) for index in range(9)] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert test[3].name == "forest/0.jpg"
    assert rest[0].target is None


def test_validation_takes_a_share_of_each_class_and_leaves_the_test_set_alone(intel: Path) -> None:
    training, validation = (read(intel, split, holdout=0.25) for split in ("training", "validation"))
    assert count_classes(training).pixels == [15, 15, 15]
    assert count_classes(validation).pixels == [5, 5, 5]
    names = [{pair.image for pair in dataset.pairs} for dataset in (training, validation)]
    assert not names[0] & names[1]
    assert len(names[0] | names[1]) == 60
    assert not any("seg_test" in str(path) for path in names[0] | names[1])


def test_a_new_image_moves_no_other_between_training_and_validation(intel: Path) -> None:
    before = {pair.name for pair in read(intel, "validation").pairs}
    image(intel / "set/seg_train/seg_train/forest/new.jpg")
    after = {pair.name for pair in read(intel, "validation").pairs}
    assert len(before ^ after) in (0, 2)  # it may itself be one with the lowest hashes, and take the place of another
    assert {name for name in before ^ after if name.startswith(("buildings", "glacier"))} == set()


@pytest.mark.parametrize(
    ("names", "sizes"),
    [(("train", "val"), (12, 6)), (("training", "validation"), (12, 6)), (("train", "valid"), (12, 6))],
)
def test_usual_names(tmp_path: Path, names: tuple[str, str], sizes: tuple[int, int]) -> None:
    for name, count in zip(names, (4, 2), strict=True):
        fill(tmp_path / "set" / name, count)
    assert (len(read(tmp_path, "training")), len(read(tmp_path, "validation"))) == sizes


def test_names_of_ones_own_and_no_validation_among_them(tmp_path: Path) -> None:
    fill(tmp_path / "set/a", 10)
    fill(tmp_path / "set/val", 2)
    folders = {"training": "a", "test": "val"}
    found = [len(read(tmp_path, split, folders=folders)) for split in ("training", "validation", "test")]
    assert found == [27, 3, 6]


def test_classes_in_another_order_have_other_ids(intel: Path) -> None:
    test = read(intel, "test", classes=["glacier", "forest", "buildings"])
    assert (int(test[0].target), test[0].name) == (0, "glacier/0.jpg")
    assert test.digest() != read(intel, "test").digest()


def test_capital_suffixes_hidden_files_and_deeper_folders(tmp_path: Path) -> None:
    fill(tmp_path / "set/train", 2)
    fill(tmp_path / "set/val", 2)
    image(tmp_path / "set/val/forest/deep/1.PNG")
    for litter in (".DS_Store", "Thumbs.db", ".cache/x.txt"):
        (tmp_path / "set/val/forest" / litter).parent.mkdir(exist_ok=True)
        (tmp_path / "set/val/forest" / litter).write_text("x")
    assert [pair.name for pair in read(tmp_path, "validation").pairs if "forest" in pair.name] == [
        "forest/0.jpg", "forest/1.jpg", "forest/deep/1.PNG",
    ]  # fmt: skip


def test_the_digest_knows_of_a_moved_image(intel: Path) -> None:
    before = read(intel, "test").digest()
    folder = intel / "set/seg_test/seg_test"
    (folder / "forest/2.jpg").rename(folder / "glacier/9.jpg")
    assert read(intel, "test").digest() != before


@pytest.mark.parametrize(
    ("spoil", "split", "wanted"),
    [
        (lambda s: (s / "seg_test/seg_test/forest").rename(s / "gone"), "test", "class 'forest' has no folder in this split"),
        (lambda s: fill(s / "seg_test/seg_test", 1, ("forests",)), "test", "'forests' is none of those trained on. Did you mean 'forest'?"),
        (lambda s: (s / "seg_test/seg_test/forest").rename(s / "x") and (s / "seg_test/seg_test/forest").mkdir(), "test", "seg_test/forest: holds no images"),
        (lambda s: (s / "seg_train/seg_train/forest/a.txt").write_text("x"), "training", r"forest/a\.txt: no image by its name"),
        (lambda s: image(s / "seg_train/seg_train/loose.jpg"), "training", r"loose\.jpg: lies beside the class folders"),
        (lambda s: [(s / f"seg_train/seg_train/forest/{n}.jpg").unlink() for n in range(1, 20)], "validation", "'forest' has one training image"),
    ],
)  # fmt: skip
def test_what_is_refused(intel: Path, spoil, split: str, wanted: str) -> None:
    spoil(intel / "set")
    with pytest.raises(UserError, match=wanted):
        read(intel, split)


def test_half_an_image_is_named(intel: Path) -> None:
    path = intel / "set/seg_test/seg_test/forest/0.jpg"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"forest/0\.jpg: not a readable image"):
        read(intel, "test")[3]


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ({"folders": {"train": "a"}}, "no such split 'train'. Did you mean 'training'"),
        ({"folders": {"training": "a"}}, "a: no such folder, which data.folders names for training"),
        ({"folders": {"training": "seg_train", "validation": "seg_train"}}, "validation .* lies in training"),
        ({"folders": {"training": "seg_train/seg_train", "test": "seg_train"}}, "training .* lies in test"),
        ({"holdout": 0.9}, "holdout must be above 0 and at most 0.5"),
    ],
)
def test_arguments_that_cannot_be(intel: Path, more: dict[str, object], wanted: str) -> None:
    with pytest.raises(UserError, match=wanted):
        read(intel, "training", **more)


def test_a_share_and_a_folder_for_validation_are_one_too_many(tmp_path: Path) -> None:
    fill(tmp_path / "set/train", 2)
    fill(tmp_path / "set/val", 2)
    with pytest.raises(UserError, match="there is a validation folder"):
        read(tmp_path, "training", holdout=0.1)


def test_images_alone_have_no_truth_and_no_classes(tmp_path: Path) -> None:
    for number in range(5):
        image(tmp_path / f"set/{number}.jpg")
    training, validation = (read(tmp_path, split, folders={"training": "."}) for split in ("training", "validation"))
    assert (len(training), len(validation)) == (4, 1)
    assert training.classes == ()
    assert training[0].target is None
