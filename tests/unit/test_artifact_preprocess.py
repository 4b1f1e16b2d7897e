import numpy as np
import pytest
from PIL import Image

from limbeck.artifact.preprocess import Preprocess
from limbeck.artifact.resize import Window

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def normalised(image):
    return ((image / 255 - MEAN) / STD).transpose(2, 0, 1)


def test_an_image_at_size_is_only_normalised():
    image = picture(32, 48)
    pixel_values = Preprocess((32, 48))(image)
    assert pixel_values.dtype == np.float32
    assert pixel_values.flags.c_contiguous
    np.testing.assert_allclose(pixel_values, normalised(image), atol=1e-6)
    restored = pixel_values * np.reshape(STD, (3, 1, 1)) + np.reshape(MEAN, (3, 1, 1))
    assert np.array_equal((restored * 255).round().astype(np.uint8).transpose(1, 2, 0), image)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
def test_squash_is_pillows_resize(interpolation):
    image = picture(50, 70)
    expected = Image.fromarray(image).resize((48, 32), Image.Resampling[interpolation.upper()])
    pixel_values = Preprocess((32, 48), interpolation=interpolation)(image)
    np.testing.assert_allclose(pixel_values, normalised(np.asarray(expected)), atol=1e-6)


@pytest.mark.parametrize(
    ("image_hw", "region"),
    [((64, 64), (32, 32)), ((10, 100), (5, 48)), ((100, 10), (32, 3)), ((1, 1000), (1, 48)), ((16, 24), (32, 48))],
)
def test_keep_ratio_fits_inside_and_pads_with_zeros(image_hw, region):
    preprocess = Preprocess((32, 48), keep_ratio=True)
    height, width = preprocess.region(image_hw)
    assert (height, width) == region
    pixel_values = preprocess(np.full((*image_hw, 3), 200, np.uint8))
    assert pixel_values.shape == (3, 32, 48)
    assert (pixel_values[:, height:] == 0).all()
    assert (pixel_values[:, :, width:] == 0).all()
    assert (pixel_values[:, :height, :width] > 0).all()


def test_multiples_are_padded_not_stretched():
    preprocess, image = Preprocess((36, 48), multiple=32), picture(36, 48)
    assert preprocess.shape == (64, 64)
    assert preprocess.region((36, 48)) == (36, 48)
    assert preprocess.window((36, 48)) == Window((36, 48), (64, 64))
    pixel_values = preprocess(image)
    np.testing.assert_allclose(pixel_values[:, :36, :48], normalised(image), atol=1e-6)
    assert not pixel_values[:, 36:].any()
    assert Preprocess((32, 64), multiple=32).window((5, 5)) is None


def test_mean_and_std_count_the_channels():
    assert Preprocess((4, 4), mean=(0.5,), std=(0.5,))(np.full((4, 4, 1), 255, np.uint8)).max() == 1
    with pytest.raises(ValueError, match=r"needs a uint8 image \[h, w, 3\], got uint8 \[4, 4, 2\]"):
        Preprocess((4, 4))(np.zeros((4, 4, 2), np.uint8))
    with pytest.raises(ValueError, match="float32"):
        Preprocess((4, 4))(np.zeros((4, 4, 3), np.float32))


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": (0, 4)},
        {"multiple": 0},
        {"std": (1, 1)},
        {"std": (1, 1, 0)},
        {"mean": (), "std": ()},
        {"interpolation": "area"},
    ],
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=r"."):
        Preprocess(**{"size": (4, 4)} | wrong)


def test_json_round_trip():
    preprocess = Preprocess((32, 48), True, 16, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "nearest")
    value = preprocess.to_json()
    assert value == {
        "size": [32, 48], "keep_ratio": True, "multiple": 16, "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6],
        "interpolation": "nearest",
    }  # fmt: skip
    assert Preprocess.from_json(value) == preprocess
    assert Preprocess.from_json({"size": [4, 5], "mean": [0], "std": [1], "later": 1}).size == (4, 5)
