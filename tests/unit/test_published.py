"""Published data sets: what is theirs alone, and what is refused."""

import numpy as np
import pytest
from PIL import Image

import _layouts
from limbeck.build import build
from limbeck.datasets.cityscapes import TRAIN_IDS, Cityscapes
from limbeck.record import UserError


@pytest.fixture
def make(tmp_path):
    """``make(kind, split, **arguments)`` in a folder where all layouts are."""
    for layout in ("ade20k", "voc", "cityscapes"):
        getattr(_layouts, layout)(tmp_path)

    def built(kind, split="training", **given):
        return build("datasets", {"kind": kind} | given, "data", split=split, root=tmp_path)

    return built


def names(dataset):
    return [dataset[index].name for index in range(len(dataset))]


# ADE20K


def test_ade20k_is_reduced_once(make, tmp_path):
    dataset = make("ade20k")
    raw = np.asarray(Image.open(dataset.pairs[0].mask)).astype(int)
    assert (raw == 0).any()
    for _ in range(2):
        assert np.array_equal(dataset[0].target, np.where(raw == 0, 255, raw - 1))


def test_ade20k_has_the_names_and_colours_of_the_benchmark(make):
    dataset = make("ade20k")
    assert len(dataset.classes) == 150
    assert [dataset.classes[index] for index in (0, 1, 12, 20, 149)] == ["wall", "building", "person", "car", "flag"]
    assert dataset.palette[0] == (120, 120, 120)
    assert dataset.palette[149] == (92, 0, 255)


def test_masks_that_were_reduced_already_are_refused(make, tmp_path):
    for file in (tmp_path / "ADEChallengeData2016/annotations/training").iterdir():
        raw = np.asarray(Image.open(file)).astype(int)
        Image.fromarray(np.where(raw == 0, 255, raw - 1).astype(np.uint8)).save(file)
    with pytest.raises(UserError, match=r"ADE_train_00000001\.png: holds 255.*reduced already.*data\.reduced"):
        make("ade20k")
    dataset = make("ade20k", reduced=True)
    assert np.array_equal(dataset[0].target, np.asarray(Image.open(dataset.pairs[0].mask)))
    assert make("ade20k", reduced=True).digest() != make("ade20k", reduced=False).digest()


@pytest.mark.parametrize("part", ["images", "annotations"])
def test_a_missing_folder_of_ade20k_is_named(make, tmp_path, part):
    for file in (folder := tmp_path / "ADEChallengeData2016" / part / "validation").iterdir():
        file.unlink()
    folder.rmdir()
    with pytest.raises(UserError, match=rf"{part}/validation: no images in this folder of ADE20K"):
        make("ade20k", "validation")


@pytest.mark.parametrize("kind", ["ade20k", "voc", "cityscapes"])
def test_masks_in_colour_are_refused(make, kind):
    dataset = make(kind)
    Image.new("RGB", (16, 12)).save(dataset.pairs[1].mask)
    with pytest.raises(UserError, match=r"one class id a pixel \(mode L or P\), found mode RGB"):
        dataset[1]


@pytest.mark.parametrize("kind", ["ade20k", "voc", "cityscapes"])
def test_test_labels_are_not_published(make, kind):
    with pytest.raises(UserError, match=r"no split 'test': its labels are not published.*score validation"):
        make(kind, "test")


# PASCAL VOC


def test_voc_reads_ids_and_not_palette_colours(make):
    dataset = make("voc", "validation")
    with Image.open(dataset.pairs[0].mask) as mask:
        assert mask.mode == "P"
        assert np.array_equal(dataset[0].target, np.asarray(mask))
    assert names(dataset) == ["2007_000033", "2007_000042"]


def test_voc_has_the_colours_of_the_devkit(make):
    known = {0: (0, 0, 0), 1: (128, 0, 0), 7: (128, 128, 128), 15: (192, 128, 128), 20: (0, 64, 128)}
    dataset = make("voc")
    assert len(dataset.classes) == 21
    assert {index: dataset.palette[index] for index in known} == known
    assert dataset.classes[15] == "person"


def test_augmented_voc_trains_on_all_masks_but_those_of_validation(make):
    dataset = make("voc", augmented=True)
    assert sorted(names(dataset)) == ["2007_000032", "2007_000039", "2007_000063", "2008_000008", "2008_000015"]
    assert dataset.pairs[0].mask.parent.name == "SegmentationClassAug"
    assert names(make("voc", "validation", augmented=True)) == names(make("voc", "validation"))


@pytest.mark.parametrize("name", ["train_aug.txt", "trainaug.txt"])
def test_a_list_of_augmented_images_is_followed(make, tmp_path, name):
    lists = tmp_path / "VOCdevkit/VOC2012/ImageSets/Segmentation"
    (lists / name).write_text("/JPEGImages/2008_000015.jpg /SegmentationClassAug/2008_000015.png\n2007_000032\n")
    assert names(make("voc", augmented=True)) == ["2008_000015", "2007_000032"]


def test_a_list_that_trains_on_validation_is_refused(make, tmp_path):
    lists = tmp_path / "VOCdevkit/VOC2012/ImageSets/Segmentation"
    (lists / "trainaug.txt").write_text("2008_000015\n2007_000033\n")
    with pytest.raises(UserError, match="1 of its images are in the validation split too, such as 2007_000033"):
        make("voc", augmented=True)


def test_augmented_voc_without_its_masks_says_what_to_fetch(make, tmp_path):
    (tmp_path / "VOCdevkit/VOC2012/SegmentationClassAug").rename(tmp_path / "away")
    with pytest.raises(UserError, match=r"SegmentationClassAug: no masks of SBD here.*voc_aug"):
        make("voc", augmented=True)


@pytest.mark.parametrize("place", ["VOC2012", "VOCtrainval_11-May-2012/VOCdevkit/VOC2012"])
def test_voc_is_found_where_its_archives_unpack_to(make, tmp_path, place):
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "VOCdevkit/VOC2012").rename(tmp_path / place)
    assert len(make("voc")) == 3


@pytest.mark.parametrize("path", ["VOCdevkit", "VOCdevkit/VOC2012", "."])
def test_the_path_of_voc_may_name_any_of_its_folders(make, path):
    assert len(make("voc", path=path)) == 3


def test_files_that_lists_name_must_be_there(make, tmp_path):
    (tmp_path / "VOCdevkit/VOC2012/JPEGImages/2007_000039.jpg").unlink()
    with pytest.raises(UserError, match=r"2007_000039\.jpg: 1 of the files that its list names are missing"):
        make("voc")


# Cityscapes


def test_cityscapes_scores_what_the_benchmark_scores():
    torchvision = pytest.importorskip("torchvision.datasets")
    table = {c.id: c for c in torchvision.Cityscapes.classes if c.id >= 0}
    scored = sorted((c for c in table.values() if c.train_id != 255), key=lambda c: c.train_id)
    assert [c.name for c in scored] == list(Cityscapes.classes)
    assert [c.color for c in scored] == list(Cityscapes.palette)
    assert [int(TRAIN_IDS[i]) for i in range(34)] == [table[i].train_id for i in range(34)]


def test_cityscapes_goes_from_label_ids_to_classes(make):
    dataset = make("cityscapes")
    raw = np.asarray(Image.open(dataset.pairs[0].mask))
    target = dataset[0].target
    wanted = {0: 255, 3: 255, 7: 0, 8: 1, 11: 2, 29: 255, 33: 18}
    assert {int(i): set(target[raw == i].tolist()) for i in np.unique(raw)} == {i: {w} for i, w in wanted.items()}
    assert names(dataset)[0] == "aachen_000000_000019_leftImg8bit"


def test_masks_of_train_ids_are_no_label_ids(make, tmp_path):
    file = next((tmp_path / "cityscapes/gtFine/train/ulm").iterdir())
    file.rename(file.with_name(file.name.replace("labelIds", "labelTrainIds")))
    with pytest.raises(UserError, match="1 of 4 images have no mask of the same name"):
        make("cityscapes")


def test_unknown_label_ids_are_refused(make):
    dataset = make("cityscapes")
    Image.fromarray(np.full((12, 16), 40, np.uint8)).save(dataset.pairs[0].mask)
    with pytest.raises(UserError, match="class ids 40 are out of range"):
        dataset[0]


@pytest.mark.parametrize("part", ["leftImg8bit", "gtFine"])
def test_a_split_without_cities_is_named(make, tmp_path, part):
    (tmp_path / "cityscapes" / part / "val").rename(tmp_path / "away")
    with pytest.raises(UserError, match=rf"{part}/val: no cities with images"):
        make("cityscapes", "validation")
