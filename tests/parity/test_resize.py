"""Resizing against torch, which is where networks were trained."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from limbeck.artifact.resize import Window, bilinear, predict

SIZES = [
    ((45, 60), (360, 480)),
    ((9, 12), (67, 101)),
    ((31, 17), (8, 5)),
    ((1, 1), (4, 3)),
    ((4, 5), (4, 5)),
    ((3, 40), (40, 3)),
]


def logits_of(channels, size, seed=0):
    return np.random.default_rng(seed).normal(0, 4, (channels, *size)).astype(np.float32)


def interpolated(logits, size):
    resized = F.interpolate(torch.from_numpy(logits)[None], size=size, mode="bilinear", align_corners=False)
    return resized[0].numpy()


@pytest.mark.parametrize(("source", "target"), SIZES)
def test_bilinear_equals_torch(source, target):
    logits = logits_of(1, source)
    np.testing.assert_allclose(bilinear(logits[0], target), interpolated(logits, target)[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("source", "target"), SIZES)
def test_predict_equals_interpolate_and_argmax(source, target):
    logits = logits_of(11, source)
    ids = predict(logits, target)
    expected = interpolated(logits, target)
    assert ids.shape == target
    assert ids.dtype == np.uint8
    # Where two classes are within rounding of each other, either may win.
    chosen = np.take_along_axis(expected, ids[None].astype(np.intp), axis=0)[0]
    assert (expected.max(0) - chosen).max() < 1e-5
    assert (ids == expected.argmax(0)).mean() > 0.999


def test_wide_images_are_as_near_to_torch():
    logits = logits_of(2, (3, 131))
    np.testing.assert_allclose(bilinear(logits[0], (5, 3000)), interpolated(logits, (5, 3000))[0], atol=1e-5, rtol=0)


def two_steps(logits, window, size):
    """Upsample to the input, crop, resize to the image: the long way that a window stands for."""
    region, shape = window
    return interpolated(interpolated(logits, shape)[:, : region[0], : region[1]], size)


@pytest.mark.parametrize("region", [(48, 37), (30, 64), (1, 64)])
def test_window_equals_crop_where_the_image_has_the_inputs_scale(region):
    logits, window = logits_of(3, (6, 8)), Window(region, (48, 64))
    np.testing.assert_allclose(
        bilinear(logits[1], region, window), two_steps(logits, window, region)[1], atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("size", [(96, 74), (20, 15), (131, 111)])
def test_window_equals_crop_where_logits_have_the_inputs_scale(size):
    logits, window = logits_of(3, (48, 64)), Window((48, 37), (48, 64))
    np.testing.assert_allclose(bilinear(logits[1], size, window), two_steps(logits, window, size)[1], atol=2e-5, rtol=0)


def test_window_is_near_the_two_steps_elsewhere():
    y, x = np.mgrid[:12, :16].astype(np.float32)
    smooth = np.stack([np.sin(y / 4), np.cos(x / 5)]).astype(np.float32)
    window, size = Window((96, 70), (96, 128)), (200, 150)
    difference = np.abs(bilinear(smooth[1], size, window) - two_steps(smooth, window, size)[1])
    assert difference.max() < 0.01


def test_a_window_of_the_whole_input_changes_nothing():
    logits = logits_of(5, (6, 8))
    assert np.array_equal(predict(logits, (50, 70), Window((48, 64), (48, 64))), predict(logits, (50, 70)))
