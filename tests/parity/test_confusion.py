"""Scores against a plain loop and torchmetrics."""

import numpy as np
import pytest
import torch
from torchmetrics import classification

from limbeck.metrics.confusion import Confusion, scores

NUM = 7
NAMES = tuple(map(str, range(NUM)))


def masks(seed, classes=NUM, size=(3, 40, 50)):
    random = np.random.default_rng(seed)
    target = random.integers(0, classes, size)
    prediction = np.where(random.random(size) < 0.6, target, random.integers(0, classes, size))
    target[random.random(size) < 0.1] = 255
    return prediction.astype(np.uint8), target.astype(np.uint8)


def theirs(metric, prediction, target, **arguments):
    measure = getattr(classification, f"Multiclass{metric}")(num_classes=NUM, ignore_index=255, **arguments)
    return measure(torch.from_numpy(prediction).long(), torch.from_numpy(target).long()).numpy()


def test_matrix_equals_a_loop():
    prediction, target = masks(0, size=(20, 30))
    expected = np.zeros((NUM, NUM), np.int64)
    for said, truth in zip(prediction.flat, target.flat, strict=True):
        if truth != 255:
            expected[truth, said] += 1
    assert np.array_equal(Confusion(NUM).add(prediction, target).matrix, expected)


@pytest.mark.parametrize("seed", range(3))
def test_matrix_equals_torchmetrics(seed):
    prediction, target = masks(seed)
    total = sum((Confusion(NUM).add(p, t) for p, t in zip(prediction, target, strict=True)), Confusion(NUM))
    assert np.array_equal(total.matrix, theirs("ConfusionMatrix", prediction, target))


# With 5 of 7 classes, two are neither there nor predicted: both sides leave them out of the mean.
@pytest.mark.parametrize("classes", [NUM, 5])
@pytest.mark.parametrize(
    ("name", "metric", "average"),
    [
        ("miou", "JaccardIndex", "macro"),
        ("fw_iou", "JaccardIndex", "weighted"),
        ("pixel_accuracy", "Accuracy", "micro"),
        ("mean_accuracy", "Recall", "macro"),
        ("mean_dice", "F1Score", "macro"),
    ],
)
def test_scores_equal_torchmetrics(classes, name, metric, average):
    prediction, target = masks(3, classes)
    own = scores(Confusion(NUM).add(prediction, target).matrix, NAMES)
    assert own[name] == pytest.approx(100 * float(theirs(metric, prediction, target, average=average)), abs=1e-4)


def test_per_class_equals_torchmetrics():
    prediction, target = masks(4)
    own = scores(Confusion(NUM).add(prediction, target).matrix, NAMES)["per_class"]
    np.testing.assert_allclose(own["iou"], 100 * theirs("JaccardIndex", prediction, target, average="none"), atol=1e-4)
    np.testing.assert_allclose(own["accuracy"], 100 * theirs("Recall", prediction, target, average="none"), atol=1e-4)
