"""Scores of a classifier against another implementation and against counting by hand."""

import numpy as np
import pytest
import torch
import torchmetrics.functional.classification as theirs

from limbeck.artifact.load import Predictor
from limbeck.artifact.prediction import ClassPrediction, largest
from limbeck.artifact.preprocess import Preprocess
from limbeck.data.sample import NO_CLASS, Sample
from limbeck.metrics.accuracy import Labels, class_scores
from limbeck.metrics.evaluate import evaluate
from limbeck.record import UserError

NAMES = tuple("abcdefgh")


def counted(logits: np.ndarray, target: np.ndarray) -> Labels:
    labels = Labels(logits.shape[1])
    for index, (own, truth) in enumerate(zip(logits, target, strict=True)):
        labels.add(str(index), own, largest(own), np.array(truth), None)
    return labels


def test_equals_torchmetrics() -> None:
    rng = np.random.default_rng(0)
    target = rng.integers(0, 8, 200)
    logits = rng.normal(size=(200, 8)).astype(np.float32)
    logits[np.arange(200), target] += 1
    labels = counted(logits, target)
    found = class_scores(labels, NAMES)
    given, truth = torch.from_numpy(logits), torch.from_numpy(target)
    kept = {"num_classes": 8, "average": "micro"}
    assert found["accuracy"] == pytest.approx(100 * theirs.multiclass_accuracy(given, truth, **kept).item(), abs=1e-4)
    top = theirs.multiclass_accuracy(given, truth, top_k=5, **kept).item()
    assert found["top5_accuracy"] == pytest.approx(100 * top, abs=1e-4)
    mean = theirs.multiclass_recall(given, truth, num_classes=8, average="macro").item()
    assert found["mean_accuracy"] == pytest.approx(100 * mean, abs=1e-4)
    for name, function in (("accuracy", "recall"), ("precision", "precision"), ("f1", "f1_score")):
        wanted = getattr(theirs, f"multiclass_{function}")(given, truth, num_classes=8, average="none")
        np.testing.assert_allclose(found["per_class"][name], 100 * wanted.numpy(), atol=1e-4)
    matrix = theirs.multiclass_confusion_matrix(given, truth, num_classes=8)
    np.testing.assert_array_equal(labels.matrix, matrix.numpy())


def test_by_hand_with_a_class_that_is_never_there() -> None:
    logits = np.array([[3, 1, 0], [3, 1, 0], [0, 1, 0]], np.float32)
    found = class_scores(counted(logits, np.array([0, 1, 1])), NAMES[:3])
    assert found["accuracy"] == pytest.approx(200 / 3)
    assert found["top5_accuracy"] is None
    assert found["per_class"]["accuracy"] == [100, 50, None]
    assert found["per_class"]["precision"] == [50, 100, None]
    assert found["per_class"]["f1"] == [pytest.approx(200 / 3), pytest.approx(200 / 3), None]
    assert found["mean_accuracy"] == 75


def test_equal_logits_are_no_luck() -> None:
    """All classes tied: the first is said, and only the first five count as said among the five."""
    labels = counted(np.zeros((8, 8), np.float32), np.arange(8))
    assert class_scores(labels, NAMES)["accuracy"] == 12.5
    assert class_scores(labels, NAMES)["top5_accuracy"] == 62.5


def test_nothing_to_count() -> None:
    labels = Labels(3)
    labels.add("x", np.zeros(3, np.float32), np.array(0), None, np.array(1))
    assert class_scores(labels, NAMES[:3]) is None
    assert labels.images == [{"name": "x", "accuracy": None}]
    assert (labels.same, labels.looked_at) == (0, 1)


def test_class_255_is_a_class() -> None:
    logits = np.eye(300, dtype=np.float32)
    assert class_scores(counted(logits, np.arange(300)), [str(n) for n in range(300)])["accuracy"] == 100
    assert largest(logits[299]).dtype == np.uint16


@pytest.mark.parametrize(("target", "wanted"), [(np.array(3), "class id 3"), (np.zeros((2, 2), int), "is a map")])
def test_targets_that_are_no_class(target: np.ndarray, wanted: str) -> None:
    with pytest.raises(ValueError, match=wanted):
        Labels(3).add("x", np.zeros(3, np.float32), np.array(0), target, None)


class Shades:
    """Grey images; the class is how bright they are."""

    classes, palette = ("dark", "middle", "bright"), ()

    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: int) -> Sample:
        return Sample(np.full((6, 8, 3), 40 + 80 * (index % 3), np.uint8), np.array(index % 3), f"shade {index}")


def brightness(pixel_values: np.ndarray) -> np.ndarray:
    level = pixel_values.mean((1, 2, 3))
    return -np.abs(level[:, None] * 255 - np.array([40, 120, 200])).astype(np.float32)


def predictor(**more) -> Predictor:
    plain = Preprocess((4, 4), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    return Predictor(brightness, plain, Shades.classes, dense=False, **more)


def test_one_walk_over_a_split() -> None:
    kept: list[np.ndarray] = []
    quality = evaluate(predictor(), Shades(), batch=3, keep=lambda _, label: kept.append(label))
    assert quality.scores["accuracy"] == 100
    assert [int(label) for label in kept] == [0, 1, 2, 0, 1, 2, 0]
    assert quality.images[0] == {"name": "shade 0", "accuracy": 100.0}
    wrong = [np.array(1, np.uint8), *kept[1:]]
    assert evaluate(predictor(), Shades(), reference=wrong.__getitem__).agreement == pytest.approx(600 / 7)


@pytest.mark.parametrize("without", [np.array(NO_CLASS), None])
def test_images_whose_class_is_not_scored(without: np.ndarray | None) -> None:
    class Some(Shades):
        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            return sample if index else Sample(sample.image, without, "no class")

    quality = evaluate(predictor(), Some())
    assert (quality.scores["accuracy"], int(quality.matrix.sum()), quality.num_images) == (100, 6, 7)
    assert quality.images[0] == {"name": "no class", "accuracy": None}


def test_a_prediction_names_the_class() -> None:
    found = predictor()(Shades()[2].image)
    assert isinstance(found, ClassPrediction)
    assert (found.label, found.top(1)[0][0]) == (2, "bright")
    assert found.probabilities.sum() == pytest.approx(1)
    assert [name for name, _ in found.top()] == ["bright", "middle", "dark"]
    expected = torch.softmax(torch.from_numpy(found.logits).double(), 0)
    np.testing.assert_allclose(found.probabilities, expected.numpy())


def test_maps_where_classes_are_wanted() -> None:
    maps = Predictor(lambda x: np.zeros((len(x), 3, 2, 2), np.float32), predictor().preprocess, dense=False)
    with pytest.raises(UserError, match=r"not \[n, c\]"):
        maps.mask(Shades()[0].image)
    with pytest.raises(UserError, match=r"not \[n, c, h, w\]"):
        Predictor(brightness, predictor().preprocess).mask(Shades()[0].image)


def test_masks_are_no_targets_of_a_classifier() -> None:
    class Masks(Shades):
        def __getitem__(self, index: int) -> Sample:
            return Sample(super().__getitem__(index).image, np.zeros((6, 8), np.uint8), "m")

    with pytest.raises(UserError, match="m: the target is a map"):
        evaluate(predictor(), Masks())
