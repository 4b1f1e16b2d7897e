"""What every dataset keeps to; a new file in the room needs a line in ``SPECS`` and is tested from then on."""

import pickle

import numpy as np
import pytest
from PIL import Image

import _layouts
from limbeck.build import build, names
from limbeck.data.sample import VOID
from limbeck.record import UserError

SPECS = {
    "scenes": {"canvas": [32, 48], "training": 6, "validation": 4, "test": 3},
    "folder": {"path": "mine", "classes": ["a", "b", "c"]},
    "camvid": {},
    "ade20k": {},
    "voc": {},
    "cityscapes": {},
    "mix": {
        "classes": ["x", "y"],
        "sources": [
            {
                "name": "mine",
                "data": {"kind": "folder", "path": "mine", "classes": ["a", "b", "c"]},
                "map": {"a": "x", "b": "y", "c": "void"},
                "crop": [0, 0.1, 0.5, 1],
            },
            {
                "name": "drawn",
                "data": {"kind": "scenes", "canvas": [32, 48], "training": 5, "validation": 4},
                "map": {str(index): "xy"[index % 2] for index in range(12)},
                "weight": 2.5,
            },
        ],
    },
    "image_folder": {"path": "flowers"},
    "hub": {"path": "rows/data/*.parquet", "mask_column": "mask", "classes": ["a", "b", "c"]},
}
DOUBLES = {"ade20k": 1}
"""Colours that a published palette has twice."""
SPLITS = ("training", "validation")


def make(kind, split, root, **changes):
    return build("datasets", {"kind": kind, **SPECS[kind]} | changes, "data", split=split, root=root)


@pytest.fixture(params=names("datasets"))
def kind(request):
    assert request.param in SPECS, f"say in SPECS how to build {request.param!r} for this test"
    return request.param


@pytest.fixture
def root(request, kind, tmp_path):
    """A folder that holds the data set, in its own layout."""
    if kind == "camvid":
        return request.getfixturevalue("camvid")
    layout = {"mix": "folder"}.get(kind, kind)
    if hasattr(_layouts, layout):
        getattr(_layouts, layout)(tmp_path)
    return tmp_path


def some(dataset):
    return sorted({0, 1, len(dataset) // 2, len(dataset) - 1})


@pytest.mark.parametrize("split", SPLITS)
def test_samples_are_what_they_should_be(kind, root, split):
    dataset = make(kind, split, root)
    assert len(dataset) > 1
    for index in some(dataset):
        sample = dataset[index]
        assert sample.image.dtype == np.uint8
        assert sample.image.shape == ((*sample.target.shape, 3) if sample.target.ndim else (12, 16, 3))
        ids = np.unique(sample.target)
        assert set(ids.tolist()) <= {*range(len(dataset.classes)), VOID}
        assert np.issubdtype(sample.target.dtype, np.integer)
        assert isinstance(sample.name, str)


def test_an_index_is_always_the_same_sample(kind, root):
    dataset, again = make(kind, "validation", root), make(kind, "validation", root)
    for index in reversed(some(dataset)):
        first, second, third = dataset[index], dataset[index], again[index]
        for other in (second, third):
            assert np.array_equal(first.image, other.image)
            assert np.array_equal(first.target, other.target)
            assert first.name == other.name


def test_names_are_unique(kind, root):
    dataset = make(kind, "validation", root)
    found = {dataset[index].name for index in range(min(8, len(dataset)))}
    assert len(found) == min(8, len(dataset))


def test_splits_hold_different_images(kind, root):
    one, other = (make(kind, split, root) for split in SPLITS)
    assert one[0].image.tobytes() != other[0].image.tobytes()
    assert one.digest() != other.digest()


def test_the_digest_is_stable(kind, root):
    digest = make(kind, "training", root).digest()
    assert digest == make(kind, "training", root).digest()
    assert isinstance(digest, str)
    assert 8 <= len(digest) <= 64


def test_classes_and_palette(kind, root):
    dataset = make(kind, "training", root)
    assert len(set(dataset.classes)) == len(dataset.classes) > 1
    assert len(dataset.palette) in (0, len(dataset.classes))
    assert all(len(colour) == 3 and set(colour) <= set(range(256)) for colour in dataset.palette)
    assert len(dataset.palette) - len(set(dataset.palette)) == DOUBLES.get(kind, 0)


def test_it_travels_to_worker_processes(kind, root):
    dataset = make(kind, "validation", root)
    twin = pickle.loads(pickle.dumps(dataset))
    assert np.array_equal(twin[1].image, dataset[1].image)
    assert twin.digest() == dataset.digest()


def test_the_end_is_an_index_error(kind, root):
    dataset = make(kind, "validation", root)
    with pytest.raises(IndexError):
        dataset[len(dataset)]


def test_an_unknown_split_is_an_error(kind, root):
    with pytest.raises(UserError, match="nowhere"):
        make(kind, "nowhere", root)


def test_a_missing_root_names_what_would_help(kind, tmp_path):
    if kind == "scenes":
        assert len(make(kind, "training", tmp_path / "void")) > 0  # drawn: it needs no folder
        return
    with pytest.raises(UserError, match="LIMBECK_DATA"):
        make(kind, "training", tmp_path / "void")


def test_camvid_as_published(camvid):
    training, validation = (build("datasets", {"kind": "camvid"}, "data", split=s, root=camvid) for s in SPLITS)
    assert (len(training), len(validation)) == (367, 101)
    assert training.classes[:4] == ("sky", "building", "pole", "road")
    assert len(training.classes) == 11
    sample = training[0]
    assert sample.image.shape == (360, 480, 3)
    raw = np.asarray(Image.open(training.pairs[0].mask))
    assert np.array_equal(sample.target == VOID, raw == 11)
    assert np.array_equal(sample.target[raw < 11], raw[raw < 11])
    # The mask belongs to the image: what is called sky is brighter than what is called road.
    assert sample.image[sample.target == 0].mean() > sample.image[sample.target == 3].mean()


def test_camvid_by_drives_validates_on_an_unseen_one(camvid):
    spec = {"kind": "camvid", "protocol": "drives"}
    training, validation = (build("datasets", spec, "data", split=s, root=camvid) for s in SPLITS)
    assert (len(training), len(validation)) == (367, 101)
    drives = [{pair.name.split("_")[0][:6] for pair in dataset.pairs} for dataset in (training, validation)]
    assert drives == [{"0001TP", "0016E5"}, {"0006R0"}]
    assert all(pair.image.stem == pair.mask.stem for pair in (*training.pairs, *validation.pairs))


def test_camvid_by_drives_tests_on_one_that_is_not_trained_on(tmp_path):
    for part in ("images", "annotations"):
        (tmp_path / "camvid" / part / "test").mkdir(parents=True)
        for name in ("0001TP_008550", "Seq05VD_f00000"):  # of the published split
            Image.fromarray(np.zeros((4, 6), np.uint8)).save(tmp_path / f"camvid/{part}/test/{name}.png")
    official, drives = (
        build("datasets", {"kind": "camvid", "protocol": protocol}, "data", split="test", root=tmp_path)
        for protocol in ("official", "drives")
    )
    assert len(official) == 2
    assert [pair.name for pair in drives.pairs] == ["Seq05VD_f00000"]


def test_camvid_without_its_test_split_says_so(camvid):
    with pytest.raises(UserError, match=r"images/test: the split 'test' is empty"):
        build("datasets", {"kind": "camvid"}, "data", split="test", root=camvid)
