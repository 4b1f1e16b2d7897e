import numpy as np
import pytest

from limbeck.artifact import resize
from limbeck.artifact.resize import bilinear, predict


def noise(channels, height, width):
    return np.random.default_rng(1).normal(size=(channels, height, width)).astype(np.float32)


def test_equal_logits_go_to_the_lower_class():
    logits = np.zeros((4, 3, 3), np.float32)
    logits[1:3] = 2
    assert (predict(logits, (3, 3)) == 1).all()
    assert (predict(logits, (11, 7)) == 1).all()


def test_constant_planes_stay_constant_to_the_bit():
    plane = np.full((3, 4), 0.1, np.float32)
    assert (bilinear(plane, (37, 53)) == np.float32(0.1)).all()


def test_a_single_channel_is_class_one_above_zero():
    logits = np.array([[[-1.0, 0.0, 0.5]]], np.float32)
    assert predict(logits, (1, 3)).tolist() == [[0, 0, 1]]
    assert predict(logits, (1, 6)).tolist() == [[0, 0, 0, 1, 1, 1]]


def test_many_classes_need_a_wider_type():
    logits = np.zeros((300, 2, 2), np.float32)
    logits[299] = 1
    ids = predict(logits, (5, 5))
    assert ids.dtype == np.uint16
    assert (ids == 299).all()
    assert predict(logits[:256], (5, 5)).dtype == np.uint8


def test_logits_at_size_are_an_argmax():
    logits = noise(7, 20, 30)
    assert np.array_equal(predict(logits, (20, 30)), logits.argmax(0))


def test_logits_are_left_alone():
    logits = noise(3, 4, 5)
    before = logits.copy()
    predict(logits, (4, 5))
    predict(logits, (9, 9))
    assert np.array_equal(logits, before)


@pytest.mark.parametrize("strip", [1, 100, 1 << 20])
def test_strips_do_not_show(monkeypatch, strip):
    logits = noise(4, 7, 9)
    whole, same_size = predict(logits, (61, 47)), predict(logits, (7, 9))
    monkeypatch.setattr(resize, "STRIP", strip)
    assert np.array_equal(predict(logits, (61, 47)), whole)
    assert np.array_equal(predict(logits, (7, 9)), same_size)


def test_views_with_any_strides_are_read():
    logits = noise(4, 6, 8)
    strided = np.ascontiguousarray(logits.transpose(1, 2, 0)).transpose(2, 0, 1)
    assert np.array_equal(predict(strided, (31, 33)), predict(logits, (31, 33)))
