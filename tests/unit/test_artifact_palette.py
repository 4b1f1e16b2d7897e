import numpy as np
import pytest

from limbeck.artifact.palette import VOID_COLOUR, colourise, palette
from limbeck.artifact.prediction import Prediction


def test_colours_are_distinct_and_a_longer_palette_goes_on():
    colours = palette(256)
    assert len(set(colours)) == 256
    assert colours[:19] == palette(19)
    assert palette(0) == ()
    assert all(isinstance(value, int) and 0 <= value <= 255 for colour in colours for value in colour)


def test_colours_are_far_from_void_and_from_each_other():
    colours = np.array([*palette(32), VOID_COLOUR], int)
    apart = np.abs(colours[:, None] - colours[None]).sum(-1)
    assert apart[~np.eye(len(colours), dtype=bool)].min() >= 60


def test_the_first_colours_do_not_depend_on_the_machine():
    assert palette(12)[7:] == ((136, 0, 85), (153, 0, 255), (255, 204, 255), (102, 85, 0), (0, 0, 255))


def test_more_colours_than_there_are():
    with pytest.raises(ValueError, match="got 5000"):
        palette(5000)


def test_void_and_unknown_ids_are_grey():
    picture = colourise(np.array([[0, 1, 2, 255]], np.uint8), ((1, 2, 3), (4, 5, 6)))
    assert picture.dtype == np.uint8
    assert picture.tolist() == [[[1, 2, 3], [4, 5, 6], list(VOID_COLOUR), list(VOID_COLOUR)]]


def test_more_than_256_classes():
    colours = palette(400)
    assert colourise(np.array([[255, 399, 5000]], np.uint16), colours).tolist()[0] == [
        list(colours[255]), list(colours[399]), list(VOID_COLOUR)
    ]  # fmt: skip


def test_overlay_blends_and_leaves_void_alone():
    prediction = Prediction(np.array([[0, 255]], np.uint8), ("a",), ((200, 0, 100),))
    image = np.full((1, 2, 3), 100, np.uint8)
    assert prediction.overlay(image).tolist() == [[[150, 50, 100], [100, 100, 100]]]
    assert np.array_equal(prediction.overlay(image, 0), image)
    assert prediction.overlay(image, 1)[0, 0].tolist() == [200, 0, 100]
    assert prediction.picture[0, 0].tolist() == [200, 0, 100]


def test_overlay_needs_the_masks_image():
    prediction = Prediction(np.zeros((2, 2), np.uint8), ("a",), ((0, 0, 0),))
    with pytest.raises(ValueError, match="do not match"):
        prediction.overlay(np.zeros((2, 3, 3), np.uint8))
    with pytest.raises(ValueError, match="opacity 2"):
        prediction.overlay(np.zeros((2, 2, 3), np.uint8), 2)
