"""Boundary IoU against its definition: erosions of one class after the other, counted pixel by pixel."""

import numpy as np
import pytest

from limbeck.data.sample import VOID
from limbeck.metrics.boundary import Boundary, band_width, boundary_scores, inner_band


def eroded(mask, times):
    """What the published code does: padded with zeros, eroded by 3x3 ones, so many times."""
    padded = np.pad(mask, 1)
    for _ in range(times):
        shifted = [np.roll(np.roll(padded, dy, 0), dx, 1) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        padded = np.logical_and.reduce(shifted)
        padded[[0, -1]], padded[:, [0, -1]] = False, False
    return padded[1:-1, 1:-1]


def by_definition(prediction, target, num_classes):
    reach = max(1, round(0.02 * np.sqrt(target.shape[0] ** 2 + target.shape[1] ** 2)))
    found = []
    for index in range(num_classes):
        bands = [mask & ~eroded(mask, reach) for mask in (target == index, prediction == index)]
        union = (bands[0] | bands[1]).sum()
        found.append(100 * (bands[0] & bands[1]).sum() / union if union else None)
    return found


def blocks(height, width, side, num_classes, seed):
    ids = np.random.default_rng(seed).integers(0, num_classes, (-(-height // side), -(-width // side)), np.uint8)
    return ids.repeat(side, 0).repeat(side, 1)[:height, :width]


@pytest.mark.parametrize(
    ("height", "width", "side"), [(60, 80, 13), (50, 40, 7), (97, 211, 40), (9, 5, 2), (3, 200, 9), (1, 1, 1)]
)
def test_it_is_the_definition(height, width, side):
    target, prediction = blocks(height, width, side, 4, 1), blocks(height, width, side + 1, 4, 2)
    tally = Boundary(5)
    tally.add(prediction, target)
    assert boundary_scores(tally.counts)["iou"] == pytest.approx(by_definition(prediction, target, 5))


def test_a_square_that_is_one_pixel_off_by_hand():
    target, prediction = np.zeros((20, 20), np.uint8), np.zeros((20, 20), np.uint8)
    target[5:15, 5:15] = 1
    prediction[5:15, 6:16] = 1
    tally = Boundary(2)
    tally.add(prediction, target)
    # Frames of 36 pixels one pixel wide; they share 9 of the top and 9 of the bottom row, and no column.
    assert tally.counts[:, 1].tolist() == [18, 36, 36]
    assert boundary_scores(tally.counts)["iou"][1] == pytest.approx(100 * 18 / 54)


def test_images_are_summed_as_counts():
    tally, single = Boundary(3), [Boundary(3), Boundary(3)]
    for seed in (0, 1):
        target, prediction = blocks(40, 60, 9, 3, seed), blocks(40, 60, 8, 3, seed + 5)
        tally.add(prediction, target)
        single[seed].add(prediction, target)
    assert np.array_equal(tally.counts, single[0].counts + single[1].counts)


def test_equal_masks_are_full_and_absent_classes_unknown():
    target = blocks(40, 60, 9, 3, 0)
    tally = Boundary(4)
    tally.add(target.astype(np.int64), target)
    assert boundary_scores(tally.counts) == {"mean": 100.0, "iou": [100.0, 100.0, 100.0, None]}
    assert boundary_scores(Boundary(2).counts) == {"mean": None, "iou": [None, None]}


def test_void_is_in_no_band_and_its_edge_is_none():
    target = np.zeros((40, 60), np.uint8)
    target[10:20, 10:20] = VOID
    target[10:12, 30:40] = 1
    assert not inner_band(target, 1)[9:21, 9:21].any()
    outer = inner_band(target, 1)
    assert outer[9, 30:40].all()
    assert outer[10, 30:40].all()
    prediction = target.copy()
    prediction[target == VOID] = 1  # whatever is said there does not count
    tally = Boundary(2)
    tally.add(prediction, target)
    assert boundary_scores(tally.counts)["mean"] == 100.0


def test_the_band_is_two_per_cent_of_the_diagonal():
    assert [band_width(size) for size in ((30, 40), (300, 400), (1024, 2048), (2, 2))] == [1, 10, 46, 1]
