"""Tiny data sets, each in the folder layout of the published one."""

from pathlib import Path
from zlib import crc32

import numpy as np
from PIL import Image

SIZE = (12, 16)


def image(path: Path) -> None:
    """A picture that no other file name has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(crc32(path.name.encode())).integers(0, 256, (*SIZE, 3), np.uint8)).save(path)


def mask(path: Path, ids: list[int], seed: int, palette: bool = False) -> None:
    """A mask that holds all of ``ids``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    pixels = rng.choice(ids, SIZE).astype(np.uint8)
    pixels[0, : len(ids)] = ids[: SIZE[1]]
    picture = Image.fromarray(pixels)
    if palette:
        picture = picture.convert("P")
        picture.frombytes(pixels.tobytes())
        picture.putpalette([level for index in range(256) for level in (index, 255 - index, 7)])
    picture.save(path)


def ade20k(root: Path) -> None:
    for split, code, length in (("training", "train", 4), ("validation", "val", 3)):
        for number in range(length):
            name = f"ADE_{code}_{number + 1:08d}"
            image(root / f"ADEChallengeData2016/images/{split}/{name}.jpg")
            mask(root / f"ADEChallengeData2016/annotations/{split}/{name}.png", [0, 1, 2, 75, 150], number)


def voc(root: Path) -> None:
    folder = root / "VOCdevkit/VOC2012"
    (folder / "ImageSets/Segmentation").mkdir(parents=True)
    lists = {"train": ["2007_000032", "2007_000039", "2007_000063"], "val": ["2007_000033", "2007_000042"]}
    more = ["2008_000008", "2008_000015"]
    for name, stems in lists.items():
        (folder / f"ImageSets/Segmentation/{name}.txt").write_text("".join(f"{stem}\n" for stem in stems))
        for seed, stem in enumerate(stems):
            mask(folder / f"SegmentationClass/{stem}.png", [0, 1, 15, 20, 255], seed, palette=True)
    for seed, stem in enumerate([*lists["train"], *lists["val"], *more]):
        image(folder / f"JPEGImages/{stem}.jpg")
        mask(folder / f"SegmentationClassAug/{stem}.png", [0, 1, 15, 20, 255], seed)


def cityscapes(root: Path) -> None:
    for split, cities in (("train", ("aachen", "ulm")), ("val", ("lindau",))):
        for city in cities:
            for number in range(2):
                name = f"{city}_{number:06d}_000019"
                image(root / f"cityscapes/leftImg8bit/{split}/{city}/{name}_leftImg8bit.png")
                ids = [0, 3, 7, 8, 11, 29, 33]
                mask(root / f"cityscapes/gtFine/{split}/{city}/{name}_gtFine_labelIds.png", ids, number)


def hub(root: Path) -> None:
    """Parquet files as the hub has them."""
    from datasets import Dataset, Features
    from datasets import Image as Column

    folder(root)
    (root / "rows/data").mkdir(parents=True)
    for split, called in (("training", "train"), ("validation", "validation")):
        columns = {"image": f"mine/images/{split}", "mask": f"mine/annotations/{split}"}
        files = {name: [str(path) for path in sorted((root / place).iterdir())] for name, place in columns.items()}
        table = Dataset.from_dict(files, Features({"image": Column(), "mask": Column()}))
        table.to_parquet(str(root / f"rows/data/{called}-00000-of-00001.parquet"))


def folder(root: Path) -> None:
    for split, length in (("training", 4), ("validation", 3)):
        for number in range(length):
            image(root / f"mine/images/{split}/{split}-{number}.png")
            mask(root / f"mine/annotations/{split}/{split}-{number}.png", [0, 1, 2, 255], number)


def image_folder(root: Path) -> None:
    for split, length in (("train", 4), ("val", 3)):
        for name in ("daisy", "rose", "tulip"):
            for number in range(length):
                image(root / f"flowers/{split}/{name}/{split}-{name}-{number}.{'JPG' if number % 2 else 'png'}")


SCENESEG_COLOURS = (
    (61, 93, 255), (216, 255, 61), (0, 0, 0), (61, 184, 255), (255, 61, 61), (255, 190, 61), (255, 116, 61),
    (255, 28, 145), (0, 255, 220),
)  # fmt: skip
"""Background, road edge, unlabelled, sky, vulnerable, small vehicle, large vehicle, foreground, road."""


def sceneseg(root: Path, sources: tuple[str, ...], length: int = 20) -> None:
    """A folder for each source, twice its name, with masks in colour."""
    for source in sources:
        for number in range(length):
            home = root / source / source
            image(home / "images" / f"{source}{number:04d}.png")
            (home / "gt_masks").mkdir(parents=True, exist_ok=True)
            rng = np.random.default_rng(number)
            pixels = rng.integers(0, len(SCENESEG_COLOURS), SIZE)
            pixels[0, : len(SCENESEG_COLOURS)] = range(len(SCENESEG_COLOURS))
            colours = np.asarray(SCENESEG_COLOURS, np.uint8)[pixels]
            Image.fromarray(colours).save(home / "gt_masks" / f"{source}{number:04d}.png")


INTEL = ("buildings", "forest", "glacier", "mountain", "sea", "street")


def intel(root: Path, each: int = 10) -> None:
    """intel-image-classification with its doubled folders; seg_pred has no classes."""
    home = root / "intel-image-classification"
    for name in INTEL:
        for number in range(each):
            image(home / "seg_train" / "seg_train" / name / f"{name}{number}.jpg")
            image(home / "seg_test" / "seg_test" / name / f"{name}{number + 500}.jpg")
    for number in range(each):
        image(home / "seg_pred" / "seg_pred" / f"{number}.jpg")
