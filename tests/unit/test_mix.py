import json

import numpy as np
import pytest
from PIL import Image

from limbeck.build import build
from limbeck.data.sample import NO_CLASS, VOID, Sample
from limbeck.data.stats import count_classes
from limbeck.datasets import drawn
from limbeck.datasets.folder import Folder
from limbeck.recipe import read
from limbeck.record import UserError
from limbeck.stages.check import check
from limbeck.train.session import Plan

CLASSES = ["background", "road"]
NAMES = {"one": ["sky", "street", "tree"], "two": ["path", "house"]}
MAPS = {
    "one": {"sky": "background", "street": "road", "tree": "background"},
    "two": {"0": "road", "house": "void"},
}
LENGTHS = {"one": {"training": 5, "validation": 2}, "two": {"training": 3, "validation": 2, "test": 2}}


def write(folder, split, number, num_classes, seed, masks=True):
    rng = np.random.default_rng([seed, number])
    mask = rng.integers(0, num_classes, (10, 20), np.uint8)
    mask[3] = VOID
    image = np.full((10, 20, 3), seed * 100 + number, np.uint8)
    image[..., 1] = np.where(mask == VOID, 255, mask * 50)
    for part, pixels in (("images", image), ("annotations", mask))[: 1 + masks]:
        (folder / part / split).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / part / split / f"{number}.png")


@pytest.fixture
def root(tmp_path):
    for seed, (name, splits) in enumerate(LENGTHS.items()):
        for start, (split, length) in enumerate(splits.items()):
            for number in range(length):
                write(tmp_path / name, split, 10 * start + number, len(NAMES[name]), seed)
    return tmp_path


def source(which, **changes):
    data = {"kind": "folder", "path": which, "classes": NAMES[which]}
    return {"name": which, "data": data, "map": MAPS[which]} | changes


def mix(root, split="training", one=None, two=None, **changes):
    given = {"kind": "mix", "classes": CLASSES, "sources": [source("one", **(one or {})), source("two", **(two or {}))]}
    return build("datasets", given | changes, "data", split=split, root=root)


def test_labels_are_mapped_and_void_stays_void(root):
    data = mix(root)
    assert (len(data), data.classes, data.sources) == (8, tuple(CLASSES), ("one", "two"))
    for index in range(8):
        sample = data[index]
        theirs = np.where(sample.image[..., 1] == 255, -1, sample.image[..., 1] // 50)  # as write() coloured them
        ours = {0: 0, 1: 1, 2: 0} if index < 5 else {0: 1, 1: VOID}
        expected = np.vectorize(lambda label, ours=ours: ours.get(label, VOID))(theirs)
        assert np.array_equal(sample.target, expected)
        assert sample.source == ("one" if index < 5 else "two")
        assert sample.name.startswith(f"{sample.source}/")


@pytest.mark.parametrize("crop", [[0.25, 0.1, 0.95, 0.7], [5, 1, 19, 7]])
def test_the_crop_is_shares_or_pixels(root, crop):
    whole, cropped = mix(root), mix(root, one={"crop": crop})
    assert np.array_equal(cropped[1].image, whole[1].image[1:7, 5:19])
    assert np.array_equal(cropped[1].target, whole[1].target[1:7, 5:19])
    assert np.array_equal(cropped[6].image, whole[6].image)
    with pytest.raises(UserError, match=r"one/0: the crop .* 21\.0, .* does not lie within its image of 10x20"):
        _ = mix(root, one={"crop": [0, 0, 21, 10]})[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"map": {"sky": "background", "street": "road"}}, r"data\.sources\.0\.map: one has classes that go nowhere: tree"),
        ({"map": MAPS["one"] | {"skye": "road"}}, r"no class 'skye'\. Did you mean 'sky'"),
        ({"map": MAPS["one"] | {"7": "road"}}, "no class '7'"),
        ({"map": MAPS["one"] | {"sky": "rod"}}, r"'rod', which is no class of the mix\. Did you mean 'road'"),
        ({"map": MAPS["one"] | {"0": "road"}}, "maps the class 'sky' twice, as 'sky' and '0'"),
        ({"map": None}, "'sky' to 'sky', which is no class of the mix"),
        ({"weight": 0}, r"sources\.0\.weight"),
        ({"wieght": 2}, r"sources\.0\.wieght"),
        ({"data": {"path": "one"}}, "say which kind"),
        ({"data": {"kind": "folder", "path": "one", "classess": ["a"]}}, r"data\.classess"),
        ({"crop": [0, 0, 20, 0.7]}, "do not mix"),
        ({"name": "two"}, "each needs a name of its own"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(root, change, message):
    with pytest.raises(UserError, match=message):
        mix(root, one=change)


def test_names_that_agree_need_no_map(root):
    data = mix(root, classes=["sky", "street", "tree", "path", "house"], one={"map": None}, two={"map": None})
    assert set(np.unique(data[0].target)) == {0, 1, 2, VOID}
    assert set(np.unique(data[7].target)) == {3, 4, VOID}


def test_a_source_may_have_some_splits_only(root):
    held_out = {"splits": ["test"]}
    assert mix(root, two=held_out).sources == ("one",)
    assert mix(root, "test", one={"splits": ["training", "validation"]}, two=held_out).sources == ("two",)
    with pytest.raises(UserError, match="the split 'test' is empty"):
        mix(root, "test", one={"splits": ["training"]}, two={"splits": ["training"]})
    with pytest.raises(UserError, match=r"one: .*the split 'test' is empty"):
        mix(root, "test")


def test_missing_sources_are_named_or_left_out_aloud(root, capfd):
    gone = {"data": {"kind": "folder", "path": "gone", "classes": NAMES["two"]}}
    with pytest.raises(UserError, match=r"no files of two \(.*gone\).*LIMBECK_DATA.*missing: skip"):
        mix(root, two=gone)
    data = mix(root, two=gone, missing="skip")
    assert (len(data), data.sources) == (5, ("one",))
    assert "goes without two" in "".join(capfd.readouterr())
    assert data.digest() != mix(root).digest()
    with pytest.raises(UserError, match=r"no files of one .*, two"):
        mix(root, one={"data": gone["data"]}, two=gone, missing="skip")


def test_images_without_masks_are_unlabelled_among_others_with_masks(root):
    bare = {"data": {"kind": "folder", "path": "two", "annotations": None}, "map": None}
    data = mix(root, two=bare)
    assert [data[index].labelled for index in range(8)] == [True] * 5 + [False] * 3
    assert count_classes(data) == count_classes(mix(root, two={"splits": ["test"]}))
    assert data[6].target.shape == data[6].image.shape[:2]
    alone = mix(root, sources=[{"name": "two"} | bare])
    assert alone[0].target is None
    assert alone[0].labelled


def test_what_a_source_itself_leaves_unlabelled_is_no_padding(root, monkeypatch):
    data = mix(root, one={"map": {"sky": "void", "street": "road", "tree": "background"}})
    read = Folder.__getitem__
    monkeypatch.setattr(Folder, "__getitem__", lambda part, index: bare(read(part, index)))

    def bare(sample):
        return Sample(sample.image, np.zeros(sample.image.shape[:2], np.uint8), sample.name, labelled=False)

    assert not data[0].labelled
    assert not data[0].target.any()  # class 0 of the source is void in the mix, but this is no class


def test_classes_of_whole_images_are_mapped_too(tmp_path):
    for name in ("cat", "dog", "van"):
        for split in ("training", "validation"):
            (tmp_path / "three" / split / name).mkdir(parents=True)
            Image.fromarray(np.full((8, 8, 3), len(name), np.uint8)).save(tmp_path / "three" / split / name / "0.png")
    pets = {
        "name": "pets",
        "data": {"kind": "image_folder", "path": "three"},
        "map": {"cat": "pet", "dog": "pet", "van": "void"},
    }
    given = {"kind": "mix", "classes": ["thing", "pet"], "sources": [pets | {"crop": [0, 0, 0.5, 1]}]}
    data = build("datasets", given, "data", split="training", root=tmp_path)
    assert [int(data[index].target) for index in range(3)] == [1, 1, NO_CLASS]
    assert data[0].image.shape == (8, 4, 3)


def test_the_digest_follows_whatever_changes_the_samples(root):
    changes = [
        {},
        {"one": {"crop": [0, 0, 0.5, 1]}},
        {"one": {"map": MAPS["one"] | {"tree": "road"}}},
        {"two": {"name": "2"}},
    ]
    assert len({mix(root, **change).digest() for change in changes}) == 4


def test_weights_say_how_many_are_drawn(root):
    data = mix(root, one={"weight": 0.5}, two={"weight": 2.5})
    assert drawn(data) == (2 + 8, ((5, 2), (3, 8)))  # Python rounds 2.5 and 7.5 to the even number
    plan = Plan("s", root, root, read("smoke/unet").train, "miou", 0, 4, 0, *drawn(data)[:1])
    assert plan.per_epoch == 2


def test_the_check_forgives_sources_that_are_elsewhere_and_counts_draws(root, monkeypatch, tmp_path):
    monkeypatch.setenv("LIMBECK_DATA", str(root))
    recipe = {
        "name": "m", "student": {"kind": "compact_unet"}, "train": {"steps": 1},
        "data": {"kind": "mix", "classes": CLASSES, "size": [32, 32], "batch": 2,
                 "sources": [source("one"), source("two", weight=3)]},
    }  # fmt: skip
    (tmp_path / "r.yaml").write_text(json.dumps(recipe))
    found = check(read(tmp_path / "r.yaml"))[0]
    assert "8 training and 4 validation images" in found
    assert "5 of one's 5, 9 of two's 3" in found
    with pytest.raises(UserError, match=r"r.yaml:1: data\.sources\.1\.map: two has no class 'sky'"):
        check(read(tmp_path / "r.yaml", ["data.sources.1.map.sky=road"]))
    monkeypatch.setenv("LIMBECK_DATA", str(tmp_path / "void"))
    assert "2 classes; not here" in check(read(tmp_path / "r.yaml"))[0]
