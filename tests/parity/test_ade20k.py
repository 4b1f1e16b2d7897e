"""Labels of ADE20K, as transformers reduces them."""

import numpy as np
import pytest
from PIL import Image

from limbeck.datasets.ade20k import ADE20K


@pytest.fixture
def published(tmp_path):
    """A root with one image in each split; its mask holds every published value."""
    values = np.arange(151, dtype=np.uint8).repeat(2).reshape(2, 151)
    for split in ("training", "validation"):
        for part in ("images", "annotations"):
            (tmp_path / "ADEChallengeData2016" / part / split).mkdir(parents=True)
        Image.fromarray(np.zeros((2, 151, 3), np.uint8)).save(tmp_path / f"ADEChallengeData2016/images/{split}/a.jpg")
        Image.fromarray(values).save(tmp_path / f"ADEChallengeData2016/annotations/{split}/a.png")
    return tmp_path


def reduced(mask):
    transformers = pytest.importorskip("transformers")
    processor = transformers.SegformerImageProcessor(
        do_resize=False, do_normalize=False, do_rescale=False, do_reduce_labels=True
    )
    image = Image.fromarray(np.zeros((*mask.shape, 3), np.uint8))
    return np.asarray(processor(image, Image.fromarray(mask), return_tensors="np")["labels"][0])


def test_labels_are_those_of_transformers(published):
    sample = ADE20K("validation", published)[0]
    raw = np.asarray(Image.open(published / "ADEChallengeData2016/annotations/validation/a.png"))
    assert np.array_equal(sample.target, reduced(raw))


def test_void_in_the_mask_stays_void(published):
    file = published / "ADEChallengeData2016/annotations/validation/a.png"
    raw = np.array(Image.open(file))
    raw[0] = 255
    Image.fromarray(raw).save(file)
    assert np.array_equal(ADE20K("validation", published, reduced=False)[0].target, reduced(raw))
