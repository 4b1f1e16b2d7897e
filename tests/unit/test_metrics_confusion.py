import math

import numpy as np
import pytest

from limbeck.metrics.agreement import agreeing, agreement
from limbeck.metrics.confusion import Confusion, scores


def ids(*values):
    return np.array(values, np.uint8)


def test_rows_are_the_truth_and_void_is_left_out():
    matrix = Confusion(3).add(ids(0, 1, 1, 2, 0), ids(0, 0, 1, 1, 255)).matrix
    assert matrix.dtype == np.int64
    assert matrix.tolist() == [[1, 1, 0], [0, 1, 1], [0, 0, 0]]


def test_matrices_add_up():
    first, second = Confusion(2).add(ids(0, 1), ids(0, 0)), Confusion(2).add(ids(1), ids(1))
    both = Confusion(2).add(ids(0, 1), ids(0, 0)).add(ids(1), ids(1))
    assert np.array_equal((first + second).matrix, both.matrix)
    assert first.matrix.sum() == 2


@pytest.mark.parametrize(
    ("prediction", "target", "message"),
    [
        (ids(0, 0), ids(0, 7), "target has class id 7; the classes are 0 to 2"),
        (ids(9, 0), ids(0, 1), "prediction has class id 9"),
        (np.array([0]), np.array([-1]), "target has class id -1"),
        (ids(0), ids(0, 1), "differ in shape"),
    ],
)
def test_ids_that_are_no_class_are_named(prediction, target, message):
    with pytest.raises(ValueError, match=message):
        Confusion(3).add(prediction, target)


def test_wide_ids_are_counted():
    assert Confusion(400).add(np.array([[399]], np.uint16), np.array([[300]])).matrix[300, 399] == 1


def test_scores_by_hand():
    # Class 0: 3 pixels, 2 hit. Class 1: 1 pixel, hit, and 1 too many. Class 2: predicted only by nobody, there nowhere.
    result = scores(np.array([[2, 1, 0], [0, 1, 0], [0, 0, 0]]), ("a", "b", "c"))
    assert result["per_class"]["iou"] == pytest.approx([200 / 3, 50.0, None])
    assert result["per_class"]["accuracy"] == pytest.approx([200 / 3, 100.0, None])
    assert result["miou"] == pytest.approx((200 / 3 + 50) / 2)
    assert result["mean_accuracy"] == pytest.approx((200 / 3 + 100) / 2)
    assert result["mean_dice"] == pytest.approx((80 + 200 / 3) / 2)
    assert result["pixel_accuracy"] == pytest.approx(75)
    assert result["fw_iou"] == pytest.approx(0.75 * 200 / 3 + 0.25 * 50)
    assert result["frequency"] == pytest.approx([75, 25, 0])
    assert result["classes"] == ["a", "b", "c"]


def test_a_class_that_is_only_predicted_has_an_iou_of_zero_and_no_accuracy():
    result = scores(np.array([[1, 1], [0, 0]]), ("a", "b"))
    assert result["per_class"] == {"iou": [50.0, 0.0], "accuracy": [50.0, None]}
    assert result["miou"] == 25
    assert result["mean_accuracy"] == 50


def test_nothing_seen_is_nothing_known():
    result = scores(np.zeros((2, 2), np.int64), ("a", "b"))
    assert result == {
        "miou": None, "pixel_accuracy": None, "mean_accuracy": None, "mean_dice": None, "fw_iou": None,
        "classes": ["a", "b"], "per_class": {"iou": [None, None], "accuracy": [None, None]}, "frequency": [None, None],
    }  # fmt: skip


def test_names_are_one_a_class():
    with pytest.raises(ValueError, match="1 class names for a matrix of 2"):
        scores(np.zeros((2, 2), np.int64), ("a",))


def test_agreement_in_points():
    a, b = ids(0, 1, 2, 3), ids(0, 1, 0, 0)
    assert agreement(a, b) == 50
    assert agreement(a, b.astype(np.uint16), np.array([True, True, False, False])) == 100
    assert agreeing(a, b) == (2, 4)
    assert math.isnan(agreement(a, b, np.zeros(4, bool)))
    with pytest.raises(ValueError, match="differ in shape"):
        agreement(a, b[:2])
