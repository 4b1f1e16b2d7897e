import json

import numpy as np
import pytest
from PIL import Image

from limbeck.build import build
from limbeck.recipe import read
from limbeck.record import UserError
from limbeck.stages.context import Context
from limbeck.stages.train import run
from limbeck.stages.training_data import check_data


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


@pytest.mark.parametrize("holdout", [0.1, 0.25, 0.3, 0.4, 0.45, 0.5])
def test_holdout_shares_the_images_out(data, tmp_path, holdout):
    data(*(f"{part}/{n:02}.png" for part in ("images", "masks") for n in range(20)))
    given = {"images": "images", "annotations": "masks", "holdout": holdout}
    training, validation = (stems(folder(tmp_path, split, **given)) for split in ("training", "validation"))
    assert not set(training) & set(validation)
    assert len(training) + len(validation) == 20
    assert len(validation) == 20 * holdout
    assert stems(folder(tmp_path, **given)) == training


def test_holdout_leaves_the_test_split_alone(data, tmp_path):
    data(*(f"{part}/{place}/{n:02}.png" for part in ("images", "masks") for place in "ab" for n in range(20)))
    places = {
        part: {"training": f"{part}/a", "validation": f"{part}/a", "test": f"{part}/b"} for part in ("images", "masks")
    }
    given = {"images": places["images"], "annotations": places["masks"], "holdout": 0.1}
    assert [len(folder(tmp_path, split, **given)) for split in ("training", "validation", "test")] == [18, 2, 20]


@pytest.mark.parametrize("split", ["training", "validation"])
def test_splits_that_are_apart_are_shared_out_no_further(data, tmp_path, split):
    data(*(f"{part}/{s}/a.png" for part in ("images", "annotations") for s in ("training", "validation")))
    with pytest.raises(UserError, match=r"data\.holdout: .* these are images/training and images/validation\."):
        folder(tmp_path, split, holdout=0.2)


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
    # Terms on features alone: QAT and what it is compared with leave them out.
    taught = ["teacher={kind: compact_unet, weights: t.safetensors}", "distil=[{kind: attention, at: encoder.0}]"]
    context = Context(read(tmp_path / "r.yaml", taught), tmp_path / "run")
    check_data(context, "student")
    for role in ("qat", "student-longer"):
        with pytest.raises(UserError, match=f"have no masks, and {role} has no teacher"):
            check_data(context, role)


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


# Masks of colours

SKY, ROAD, LANE, UNKNOWN = (70, 130, 180), (128, 64, 128), (128, 64, 129), (1, 2, 3)
COLOURS = {"sky": list(SKY), "road": [list(ROAD), list(LANE)]}


@pytest.fixture
def painted(data, tmp_path):
    """``painted(colours, mode)`` writes one image with a mask of these colours, a column each."""

    def make(*colours, mode="RGB", name="a.png"):
        (place := data("images/training/a.png") / "annotations/training").mkdir(parents=True, exist_ok=True)
        pixels = np.zeros((6, 8, 3), np.uint8)
        for column in range(8):
            pixels[:, column] = colours[column % len(colours)]
        picture = Image.fromarray(pixels)
        if mode == "P":
            picture = Image.new("P", (8, 6))
            picture.putpalette([level for colour in colours for level in colour])
            picture.putdata([column % len(colours) for _ in range(6) for column in range(8)])
        picture.convert(mode).save(place / name)

    return make


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colours_become_classes(painted, tmp_path, mode):
    painted(SKY, ROAD, LANE, (0, 0, 0), mode=mode)
    dataset = folder(tmp_path, classes="leave", colours=COLOURS, void_colours=[[0, 0, 0]])
    assert dataset.classes == ("sky", "road")
    assert dataset.palette == (SKY, ROAD)
    assert dataset[0].target[2].tolist() == [0, 1, 1, 255] * 2
    assert dataset[0].target.dtype == np.uint8


def test_classes_decide_on_the_order_of_colours(painted, tmp_path):
    painted(SKY, ROAD)
    assert folder(tmp_path, classes=["road", "sky"], colours=COLOURS)[0].target[0, :2].tolist() == [1, 0]
    assert folder(tmp_path, classes=["a", "b"], colours=[ROAD, SKY])[0].target[0, :2].tolist() == [1, 0]


def test_unknown_colours_are_named_and_counted(painted, tmp_path):
    painted(SKY, ROAD, UNKNOWN, (0, 0, 0))
    with pytest.raises(UserError, match=r"a\.png: colours that are no class: \[0, 0, 0\] \(12 pixels\), \[1, 2, 3\]"):
        folder(tmp_path, classes="leave", colours=COLOURS)[0]
    painted(*((level, 0, 0) for level in range(8)))
    with pytest.raises(UserError, match=r"and 5 more\. Add them to data\.colours, or to data\.void_colours"):
        folder(tmp_path, classes="leave", colours=COLOURS)[0]


def test_masks_of_ids_have_no_colours(painted, tmp_path):
    painted(SKY, mode="L")
    with pytest.raises(UserError, match=r"mode RGB, RGBA or P\), found mode L; leave it out"):
        folder(tmp_path, classes="leave", colours=COLOURS)[0]
    painted(SKY)
    with pytest.raises(UserError, match=r"found mode RGB\. `kind: folder` reads colours with data\.colours"):
        folder(tmp_path)[0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"colours": {"a": [1, 2, 3], "b": [1, 2, 3]}}, r"\[1, 2, 3\] stands for two classes"),
        ({"colours": {"a": [1, 2, 3], "b": [4, 5, 6]}, "void_colours": [[4, 5, 6]]}, "stands for two classes"),
        ({"colours": {"a": [1, 2, 3], "c": [4, 5, 6]}}, "b, c is in one of them only"),
        ({"colours": [[1, 2, 3]]}, "1 for 2 classes"),
        ({"colours": {"a": [1, 2, 300], "b": [4, 5, 6]}}, "levels outside 0 to 255"),
        ({"colours": [[1, 2, 3], [4, 5, 6]], "void": [7]}, "masks of colours have void_colours"),
        ({"void_colours": [[4, 5, 6]]}, "give colours too"),
        ({"group": "("}, "no regular expression"),
    ],
)
def test_colours_that_contradict_each_other(painted, tmp_path, given, message):
    painted(SKY)
    with pytest.raises(UserError, match=message):
        folder(tmp_path, **given)


def test_the_digest_knows_colours(painted, tmp_path):
    painted(SKY)
    ways = [{"sky": [1, 2, 3], "road": [4, 5, 6]}, {"sky": [4, 5, 6], "road": [1, 2, 3]}]
    assert len({folder(tmp_path, classes="leave", colours=colours).digest() for colours in ways}) == 2


# Sequences

FRAMES = [f"{drive}_{number:03}.png" for drive in ("d1", "d2", "d3", "d4", "d5") for number in range(4)]


@pytest.mark.parametrize("group", ["^(d[0-9]+)_", "^d[0-9]+", r"^images/(\w+)_"])
@pytest.mark.parametrize("holdout", [0.2, 0.4])
def test_whole_sequences_are_held_out(data, tmp_path, group, holdout):
    data(*(f"{part}/{name}" for part in ("images", "masks") for name in FRAMES))
    given = {"images": "images", "annotations": "masks", "holdout": holdout, "group": group}
    training, validation = (stems(folder(tmp_path, split, **given)) for split in ("training", "validation"))
    assert sorted(training + validation) == [name.removesuffix(".png") for name in FRAMES]
    assert not {stem[:2] for stem in training} & {stem[:2] for stem in validation}
    assert len(validation) == holdout * 20


def test_sequences_of_unequal_length_come_near_the_share(data, tmp_path):
    lengths = {f"s{number:02}": 1 + number % 7 for number in range(30)}
    data(*(f"images/{drive}_{n}.png" for drive, length in lengths.items() for n in range(length)))
    given = {"images": "images", "annotations": None, "holdout": 0.25, "group": "^(s..)_"}
    found = len(folder(tmp_path, "validation", **given)) / sum(lengths.values())
    assert abs(found - 0.25) < 0.04


def test_too_few_sequences_are_refused(data, tmp_path):
    data(*(f"images/{name}" for name in FRAMES if name < "d3"))
    given = {"images": "images", "annotations": None, "group": "^(d.)_"}
    with pytest.raises(UserError, match=r"0\.2 of 2 groups leaves one side without any"):
        folder(tmp_path, holdout=0.2, **given)
    assert len(folder(tmp_path, holdout=0.5, **given)) == 4


def test_an_image_of_no_sequence_is_named(data, tmp_path):
    data("images/d1_1.png", "images/other.png")
    with pytest.raises(UserError, match=r"other\.png: data\.group '\^\(d\.\)_' fits nothing in its name"):
        folder(tmp_path, images="images", annotations=None, holdout=0.5, group="^(d.)_")


def test_splits_that_share_a_sequence_are_refused(data, tmp_path):
    data("images/training/d1_1.png", "images/training/d2_1.png", "images/validation/d2_2.png")
    assert len(folder(tmp_path, annotations=None)) == 2
    for split in ("training", "validation"):
        with pytest.raises(UserError, match=r"share 1 sequences of data\.group, such as 'd2'"):
            folder(tmp_path, split, annotations=None, group="^(d.)_")


@pytest.mark.parametrize("split", ["training", "validation"])
def test_lists_that_overlap_are_refused(data, tmp_path, split):
    place = data(*(f"images/{name}.png" for name in "abc"))
    (place / "training.txt").write_text("a\nb\n")
    (place / "validation.txt").write_text("b\nc\n")
    with pytest.raises(UserError, match=r"1 images are in \w+ and in \w+ too, such as b\.png"):
        folder(tmp_path, split, images="images", annotations=None, lists="{split}.txt")


def test_test_images_that_were_trained_on_are_refused(data, tmp_path):
    data("a/1.png", "a/2.png", "b/3.png")
    images = {"training": "a", "validation": "b", "test": "a/2.png"}
    assert len(folder(tmp_path, images=images, annotations=None)) == 2
    with pytest.raises(UserError, match=r"1 images are in test and in training too, such as 2\.png"):
        folder(tmp_path, "test", images=images, annotations=None)


def test_terms_of_ones_own_data(data, tmp_path):
    data("images/training/a.png")
    assert folder(tmp_path, annotations=None).licence is None
    assert folder(tmp_path, annotations=None, licence="CC BY 4.0").licence.name == "CC BY 4.0"
