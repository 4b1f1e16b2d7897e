import json

import numpy as np
import pytest
from PIL import Image

from limbeck.build import build
from limbeck.recipe import read
from limbeck.record import UserError
from limbeck.stages.context import Context
from limbeck.stages.train import run


@pytest.fixture
def data(tmp_path):
    """``data("images/training/a.png", ...)`` writes images, and masks where the path says annotations or masks."""

    def make(*names, ids=2):
        for name in names:
            path = tmp_path / "mine" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            rng = np.random.default_rng(len(name))
            shape = (6, 8) if "annotations" in name or "masks" in name else (6, 8, 3)
            Image.fromarray(rng.integers(0, ids if len(shape) == 2 else 256, shape, np.uint8)).save(path)
        return tmp_path / "mine"

    return make


def folder(root, split="training", **given):
    given = {"path": "mine", "classes": ["a", "b"]} | given
    given = {key: value for key, value in given.items() if value != "leave"}
    return build("datasets", {"kind": "folder", **given}, "data", split=split, root=root)


def stems(dataset):
    return [dataset[index].name for index in range(len(dataset))]


def test_folders_of_splits(data, tmp_path):
    data("images/training/b.jpg", "images/training/a.jpg", "annotations/training/a.png", "annotations/training/b.png")
    dataset = folder(tmp_path)
    assert stems(dataset) == ["a", "b"]
    assert dataset.classes == ("a", "b")
    assert set(np.unique(dataset[0].target)) <= {0, 1}


def test_paths_may_be_absolute(data, tmp_path):
    place = data("images/training/a.png", "annotations/training/a.png")
    assert stems(folder(tmp_path / "elsewhere", path=str(place))) == ["a"]


def test_globs(data, tmp_path):
    data("x/training/s1/img.png", "x/training/s2/img.png", "x/training/s1/masks.png", "x/training/s2/masks.png")
    dataset = folder(tmp_path, images="x/{split}/*/img.png", annotations=None)
    assert len(dataset) == 2
    assert dataset[0].target is None


def test_each_split_may_have_its_own_place(data, tmp_path):
    data("tr/a.png", "va/b.png", "masks/a.png", "masks/b.png")
    given = {"images": {"training": "tr", "validation": "va"}, "annotations": "masks"}
    assert stems(folder(tmp_path, **given)) == ["a"]
    assert stems(folder(tmp_path, "validation", **given)) == ["b"]
    with pytest.raises(UserError, match=r"'test' is not given; known: training, validation"):
        folder(tmp_path, "test", **given)


def test_list_files(data, tmp_path):
    place = data(*(f"{part}/{n}.png" for part in ("images", "masks") for n in "abcd"))
    (place / "training.txt").write_text("c\na\n")
    (place / "other.txt").write_text("d\n")
    given = {"images": "images", "annotations": "masks"}
    assert stems(folder(tmp_path, **given, lists="{split}.txt")) == ["c", "a"]
    lists = {"training": "training.txt", "validation": "other.txt"}
    assert stems(folder(tmp_path, "validation", **given, lists=lists)) == ["d"]
    with pytest.raises(UserError, match=r"validation\.txt: this list of samples cannot be read"):
        folder(tmp_path, "validation", **given, lists="{split}.txt")


def test_suffixes(data, tmp_path):
    data("images/training/a_leftImg8bit.png", "annotations/training/a_labels.png")
    dataset = folder(tmp_path, image_suffix="_leftImg8bit", mask_suffix="_labels")
    assert dataset.pairs[0].mask.name == "a_labels.png"
    with pytest.raises(UserError, match="1 of 1 images have no mask"):
        folder(tmp_path)


@pytest.mark.parametrize("holdout", [0.1, 0.25, 0.5])
def test_holdout_shares_the_images_out(data, tmp_path, holdout):
    data(*(f"{part}/{n:02}.png" for part in ("images", "masks") for n in range(20)))
    given = {"images": "images", "annotations": "masks", "holdout": holdout}
    training, validation = (stems(folder(tmp_path, split, **given)) for split in ("training", "validation"))
    assert not set(training) & set(validation)
    assert len(training) + len(validation) == 20
    assert len(validation) == 20 * holdout
    assert stems(folder(tmp_path, **given)) == training


def test_holdout_leaves_the_test_split_alone(data, tmp_path):
    data(*(f"{part}/test/{n:02}.png" for part in ("images", "annotations") for n in range(20)))
    assert len(folder(tmp_path, "test", holdout=0.1)) == 20


def test_too_large_a_holdout_is_refused(data, tmp_path):
    data("images/training/a.png")
    with pytest.raises(UserError, match=r"holdout must be between 0 and 0\.5"):
        folder(tmp_path, holdout=0.7)


def test_zero_label_and_void(data, tmp_path):
    place = data("images/training/a.png")
    (place / "annotations/training").mkdir(parents=True)
    ids = np.tile(np.asarray([0, 1, 2, 9], np.uint8), (6, 2))
    Image.fromarray(ids).save(place / "annotations/training/a.png")
    dataset = folder(tmp_path, zero_label=True, void=[9])
    assert dataset[0].target[0].tolist() == [255, 0, 1, 255] * 2
    assert dataset[0].target[0].tolist() == [255, 0, 1, 255] * 2
    with pytest.raises(UserError, match="class ids 2, 9 are out of range"):
        folder(tmp_path)[0]


def test_class_names_from_a_file(data, tmp_path):
    place = data("images/training/a.png", "annotations/training/a.png")
    (place / "id2label.json").write_text(json.dumps({"1": "road", "0": "sky"}))
    (place / "names.json").write_text(json.dumps({"0": "x", "1": "y"}))
    assert folder(tmp_path, classes="leave").classes == ("sky", "road")
    assert folder(tmp_path, classes="names.json").classes == ("x", "y")


@pytest.mark.parametrize("text", ['{"0": "a", "2": "b"}', "no json", '["a", "b"]', '{"a": "b"}'])
def test_broken_class_names_say_how_they_should_look(data, tmp_path, text):
    place = data("images/training/a.png", "annotations/training/a.png")
    (place / "id2label.json").write_text(text)
    with pytest.raises(UserError, match=r"id2label\.json: class names look like"):
        folder(tmp_path, classes="leave")


def test_masks_need_class_names(data, tmp_path):
    data("images/training/a.png", "annotations/training/a.png")
    with pytest.raises(UserError, match=r"id2label\.json: no such file of class names.*data\.classes"):
        folder(tmp_path, classes="leave")


def test_images_alone_need_no_names(data, tmp_path):
    data("images/training/a.png")
    dataset = folder(tmp_path, classes="leave", annotations=None)
    assert dataset.classes == ()
    assert dataset[0].target is None


def test_images_alone_teach_nothing_without_a_teacher(data, tmp_path, monkeypatch):
    data(*(f"images/{split}/{n}.png" for split in ("training", "validation") for n in range(4)))
    (tmp_path / "r.yaml").write_text(
        "name: x\ndata: {kind: folder, path: mine, annotations: null, classes: [a, b], size: [32, 32], batch: 2}\n"
        "student: {kind: compact_unet, width: 4, stages: 2}\ntrain: {steps: 1}\n"
    )
    monkeypatch.setenv("LIMBECK_DATA", str(tmp_path))
    with pytest.raises(UserError, match=r"r\.yaml:2: data: the training images have no masks, and student has no"):
        run(Context(read(tmp_path / "r.yaml"), tmp_path / "run"), "student")


def test_an_image_without_a_mask_is_named(data, tmp_path):
    data("images/training/a.png", "images/training/b.png", "annotations/training/a.png")
    with pytest.raises(UserError, match=r"1 of 2 images have no mask.*b\.png"):
        folder(tmp_path)


def test_a_missing_folder_names_the_variable(tmp_path):
    with pytest.raises(UserError, match=r"mine: no such data folder.*LIMBECK_DATA"):
        folder(tmp_path)


def test_an_empty_split_names_where_it_looked(data, tmp_path):
    data("images/training/a.png", "annotations/training/a.png")
    with pytest.raises(UserError, match=r"the split 'validation' is empty: no images in 'images/validation'"):
        folder(tmp_path, "validation")


def test_the_digest_knows_how_labels_are_read(data, tmp_path):
    data("images/training/a.png", "annotations/training/a.png")
    ways = [{}, {"zero_label": True}, {"void": [7]}, {"classes": ["a", "c"]}, {"annotations": None}]
    assert len({folder(tmp_path, **given).digest() for given in ways}) == len(ways)


@pytest.mark.parametrize("split", ["training", "validation"])
@pytest.mark.parametrize("images", ["images", {"training": "images", "validation": "images"}])
def test_trained_and_scored_images_are_never_the_same(data, tmp_path, split, images):
    data("images/a.png", "images/b.png", "masks/a.png", "masks/b.png")
    given = {"images": images, "annotations": "masks"}
    with pytest.raises(UserError, match=r"training and validation are the same files \('images'\); set data\.holdout"):
        folder(tmp_path, split, **given)
    assert len(folder(tmp_path, split, **given, holdout=0.5)) == 1


def test_a_test_split_is_not_made_of_the_others(data, tmp_path):
    data("images/a.png", "masks/a.png", "more/b.png", "masks/b.png")
    given = {"annotations": "masks", "holdout": 0.5}
    with pytest.raises(UserError, match=r"'test' names the same files \('images'\) as training or validation"):
        folder(tmp_path, "test", images="images", **given)
    images = {"training": "images", "validation": "images"}
    assert len(folder(tmp_path, "test", images=images | {"test": "more"}, **given)) == 1
    with pytest.raises(UserError, match="'test' is not given"):
        folder(tmp_path, "test", images=images, **given)


def test_more_classes_than_ids(data, tmp_path):
    data("images/training/a.png", "annotations/training/a.png")
    with pytest.raises(UserError, match="256 classes; at most 255 fit"):
        folder(tmp_path, classes=[f"c{index}" for index in range(256)])
