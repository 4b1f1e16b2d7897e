"""Images in the columns of parquet files."""

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Image, Value
from PIL import Image as Pillow

from limbeck.build import build
from limbeck.data.stats import count_classes
from limbeck.record import UserError


def palette_mask(ids):
    mask = Pillow.fromarray(np.asarray(ids, np.uint8)).convert("P")
    mask.frombytes(np.asarray(ids, np.uint8).tobytes())
    mask.putpalette([level for index in range(256) for level in (index, 7, 255 - index)])
    return mask


@pytest.fixture
def written(tmp_path, picture):
    """``written(name, rows, **columns)`` writes a parquet file with images and these columns under ``sets``."""

    def make(name, rows=4, features=None, **columns):
        images = [Pillow.fromarray(picture(6, 8, seed=len(name) * 100 + row)) for row in range(rows)]
        table = Dataset.from_dict(
            {"image": images} | columns, Features({"image": Image()} | features) if features else None
        )
        (path := tmp_path / "sets" / name).parent.mkdir(parents=True, exist_ok=True)
        table.to_parquet(str(path))
        return images

    return make


def hub(root, split="training", **given):
    return build("datasets", {"kind": "hub", "path": "sets"} | given, "data", split=split, root=root)


LABELS = {"label": ClassLabel(names=["cat", "dog"])}
MASKS = {"mask": Image()}


def masks(count, top=3):
    return [palette_mask(np.random.default_rng(row).integers(0, top, (6, 8))) for row in range(count)]


def test_images_and_masks(written, tmp_path):
    images, given = written("train.parquet", features=MASKS, mask=masks(4)), masks(4)
    dataset = hub(tmp_path, mask_column="mask", classes=["a", "b", "c"])
    for row in range(4):
        assert np.array_equal(dataset[row].image, np.asarray(images[row]))
        assert np.array_equal(dataset[row].target, np.asarray(given[row]))
    assert dataset[2].name == "train-000002"
    reduced = hub(tmp_path, mask_column="mask", classes=["a", "b"], zero_label=True)[0].target
    assert np.array_equal(reduced, np.asarray(given[0], np.uint8) - 1)


def test_rows_without_a_mask_are_images_without_labels(written, tmp_path):
    ids = masks(4)
    written("train.parquet", features=MASKS, mask=[None, *ids[1:]])
    dataset = hub(tmp_path, mask_column="mask", classes=["a", "b", "c"])
    assert [dataset[row].labelled for row in range(4)] == [False, True, True, True]
    assert dataset[0].truth is None
    assert dataset[0].target.shape == (6, 8)  # so that batches can be made of all of them
    assert count_classes(dataset).pixels == np.bincount(np.stack(ids[1:]).ravel(), minlength=3).tolist()


def test_labels_carry_their_names(written, tmp_path):
    written("train.parquet", features=LABELS, label=[0, 1, 1, -1])
    dataset = hub(tmp_path, label_column="label")
    assert dataset.classes == ("cat", "dog")
    assert [dataset[row].target.item() for row in range(4)] == [0, 1, 1, -1]
    assert dataset[0].target.shape == ()
    assert hub(tmp_path, label_column="label", classes=["Katze", "Hund"]).classes == ("Katze", "Hund")
    with pytest.raises(UserError, match="1 names, but the column 'label' has 2 classes"):
        hub(tmp_path, label_column="label", classes=["x"])


def test_labels_that_are_names(written, tmp_path):
    written("train.parquet", features={"label": Value("string")}, label=["dog", "cat", "dog", "cow"])
    dataset = hub(tmp_path, label_column="label", classes=["cat", "dog"])
    assert [dataset[row].target.item() for row in range(3)] == [1, 0, 1]
    with pytest.raises(UserError, match=r"train-000003: the label 'cow' is none of the 2 classes \(cat, dog\)"):
        dataset[3]
    with pytest.raises(UserError, match=r"data\.classes: the data do not name their classes"):
        hub(tmp_path, label_column="label")


def test_neither_masks_nor_labels_is_no_truth(written, tmp_path):
    written("train.parquet", features=MASKS, mask=[None, *masks(3)])
    assert hub(tmp_path)[0].target is None
    assert hub(tmp_path, mask_column="mask", classes=list("abc"))[0].truth is None


@pytest.mark.parametrize(
    ("files", "path"),
    [
        (("train.parquet", "val.parquet"), "sets"),
        (("data/train-00000-of-00001.parquet", "data/validation-00000-of-00001.parquet"), "sets"),
        (("train/0.parquet", "validation/0.parquet"), "sets/*/*.parquet"),
        (("x-train-y.parquet", "x-val-y.parquet"), "sets/x-{split}-y.parquet"),
    ],
)
def test_files_of_splits(written, tmp_path, files, path):
    first = [written(name, rows)[0] for name, rows in zip(files, (4, 3), strict=True)]
    made = [hub(tmp_path, split, path=path) for split in ("training", "validation")]
    assert [len(dataset) for dataset in made] == [4, 3]
    for dataset, image in zip(made, first, strict=True):
        assert np.array_equal(dataset[0].image, np.asarray(image))


def test_shards_are_one_split(written, tmp_path):
    for name in ("train-00000-of-00002.parquet", "train-00001-of-00002.parquet"):
        written(name)
    assert len(hub(tmp_path)) == 8


def test_splits_may_be_called_anything(written, tmp_path):
    written("old.parquet", 4)
    written("new.parquet", 3)
    splits = {"training": "old", "validation": "new"}
    assert [len(hub(tmp_path, split, splits=splits)) for split in splits] == [4, 3]
    with pytest.raises(
        UserError, match=r"split 'training', which would be called training or train; found new\.parquet"
    ):
        hub(tmp_path)
    with pytest.raises(UserError, match="test is 'new', as training or validation is"):
        hub(tmp_path, "test", splits=splits | {"test": "new"})


def test_a_share_is_held_out_where_there_is_one_split(written, tmp_path):
    written("train.parquet", 10)
    splits = {"training": "train", "validation": "train"}
    with pytest.raises(UserError, match=r"both 'train'; set data\.holdout"):
        hub(tmp_path, splits=splits)
    with pytest.raises(UserError, match="name it for both"):
        hub(tmp_path, holdout=0.2)
    for split in splits:
        with pytest.raises(UserError, match=r"both 'train'; set data\.holdout"):
            hub(tmp_path, split, splits={"validation": "train"})
    with pytest.raises(UserError, match="test is 'train', as training or validation is"):
        hub(tmp_path, "test", splits={"test": "train"})
    made = [hub(tmp_path, split, splits=splits, holdout=0.2) for split in splits]
    assert [len(dataset) for dataset in made] == [8, 2]
    assert not {made[0][row].name for row in range(8)} & {made[1][row].name for row in range(2)}
    assert made[0].digest() != made[1].digest()


def test_the_digest_follows_the_contents_and_not_the_place(written, tmp_path):
    written("train.parquet")
    before = hub(tmp_path).digest()
    (tmp_path / "sets").rename(tmp_path / "other")
    assert hub(tmp_path, path="other").digest() == before
    written("train.parquet", 5)
    assert hub(tmp_path).digest() != before


def test_columns_that_are_not_there(written, tmp_path):
    written("train.parquet", features=MASKS | LABELS, mask=masks(4), label=[0, 1, 1, 0])
    with pytest.raises(
        UserError, match=r"data\.mask_column: no column 'maks'.*Did you mean 'mask'\?.*image, mask, label"
    ):
        hub(tmp_path, mask_column="maks", classes=["a"])
    with pytest.raises(UserError, match=r"data\.image_column: no column 'picture'"):
        hub(tmp_path, image_column="picture")
    with pytest.raises(UserError, match=r"data\.mask_column: the column 'label' holds no images"):
        hub(tmp_path, mask_column="label", classes=["a"])
    with pytest.raises(UserError, match="give mask_column or label_column"):
        hub(tmp_path, mask_column="mask", label_column="label")


def test_rows_that_cannot_be_read_are_named(written, tmp_path):
    written("train.parquet", features=MASKS, mask=[masks(1)[0], Pillow.new("RGB", (8, 6)), *masks(2, top=9)])
    dataset = hub(tmp_path, mask_column="mask", classes=["a", "b", "c"])
    with pytest.raises(UserError, match=r"train-000001/mask: a mask holds one class id a pixel .*mode RGB"):
        dataset[1]
    with pytest.raises(UserError, match=r"train-000002/mask: class ids .* out of range"):
        dataset[2]


def test_bytes_need_no_image_type(tmp_path, written):
    images = written("train.parquet", features={"raw": Value("binary")}, raw=[b"no image"] * 4)
    assert np.array_equal(hub(tmp_path)[3].image, np.asarray(images[3]))
    with pytest.raises(UserError, match="train-000000/raw: not a readable image"):
        hub(tmp_path, image_column="raw")[0]


@pytest.mark.parametrize("path", ["nowhere/*.parquet", "nowhere.parquet", "./nowhere"])
def test_files_that_are_not_there(tmp_path, path):
    with pytest.raises(UserError, match=r"nowhere.*: no parquet files there\. Set LIMBECK_DATA"):
        hub(tmp_path, path=path)


def test_a_hub_that_cannot_be_reached(tmp_path, monkeypatch):
    monkeypatch.setattr("limbeck.datasets._hub_rows.get_dataset_split_names", lambda *_, **__: 1 / 0)
    with pytest.raises(UserError, match=r"owner/name: neither parquet files.*nor a data set on the Hugging Face hub"):
        hub(tmp_path, path="owner/name")


def test_a_data_set_of_the_hub(tmp_path, monkeypatch):
    table = Dataset.from_dict(
        {"image": [Pillow.new("RGB", (4, 4))], "label": [1]}, Features({"image": Image()} | LABELS)
    )
    asked = []
    monkeypatch.setattr("limbeck.datasets._hub_rows.get_dataset_split_names", lambda *_, **__: ["train", "val"])
    monkeypatch.setattr(
        "limbeck.datasets._hub_rows.load_dataset", lambda *words, **more: asked.append((words, more)) or table
    )
    dataset = hub(tmp_path, "validation", path="owner/name", label_column="label", revision="abc", licence="MIT")
    assert asked == [(("owner/name", None), {"split": "val", "revision": "abc"})]
    assert dataset[0].target == 1
    assert dataset.licence.name == "MIT"
    with pytest.raises(UserError, match="owner/name: no split 'test'"):
        hub(tmp_path, "test", path="owner/name")
