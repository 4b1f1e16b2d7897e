import numpy as np
import pytest

from limbeck.artifact.load import Predictor
from limbeck.artifact.preprocess import Preprocess
from limbeck.data.sample import Sample
from limbeck.metrics.confusion import Confusion, scores
from limbeck.metrics.evaluate import evaluate
from limbeck.record import UserError

CLASSES = ("r", "g", "b")


class Pictures:
    """Colour noise of different sizes; the truth is the strongest colour, with a void row."""

    classes, palette = CLASSES, ()

    def __init__(self, num=5, with_target=True, scale=1):
        self.num, self.with_target, self.scale = num, with_target, scale

    def __len__(self):
        return self.num

    def __getitem__(self, index):
        image = np.random.default_rng(index).integers(0, 256, (16 + index, 20, 3), np.uint8)
        target = np.repeat(np.repeat(image.argmax(-1), self.scale, 0), self.scale, 1).astype(np.uint8)
        target[0] = 255
        return Sample(image, target if self.with_target else None, f"picture{index}")

    def digest(self):
        return "0"


def predictor(classes=CLASSES, size=(16, 20), **arguments):
    return Predictor(lambda pixel_values: pixel_values, Preprocess(size, **arguments), classes)


def test_every_mask_is_scored_at_its_own_size():
    masks, told = {}, []
    network, data = predictor(), Pictures()
    quality = evaluate(
        network, data, batch=2, progress=lambda *now: told.append(now), keep=lambda i, m: masks.update({i: m})
    )
    expected = Confusion(3)
    for index, sample in enumerate(map(data.__getitem__, range(5))):
        mask = network.mask(sample.image)
        assert np.array_equal(masks[index], mask)
        own = Confusion(3).add(mask, sample.target)
        expected += own
        assert quality.images[index] == {"name": f"picture{index}", "miou": scores(own.matrix, CLASSES)["miou"]}
    assert np.array_equal(quality.matrix, expected.matrix)
    assert quality.scores == scores(expected.matrix, CLASSES)
    assert quality.num_images == 5
    assert quality.agreement is None
    assert list(masks) == [0, 1, 2, 3, 4]
    assert told == [(2, 5), (4, 5), (5, 5)]


@pytest.mark.parametrize(("batch", "workers"), [(1, 0), (3, 2), (8, 1), (2, 4)])
def test_batches_and_threads_change_nothing(batch, workers):
    plain = evaluate(predictor(), Pictures(7))
    other = evaluate(predictor(), Pictures(7), batch=batch, workers=workers)
    assert np.array_equal(plain.matrix, other.matrix)
    assert plain.images == other.images


def test_a_perfect_network():
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    quality = evaluate(predictor(mean=mean, std=std), Pictures(1))
    assert quality.scores["miou"] == quality.scores["pixel_accuracy"] == quality.images[0]["miou"] == 100


def test_targets_may_be_larger_than_their_images():
    quality = evaluate(predictor(), Pictures(2, scale=3))
    assert quality.matrix.sum() == sum(3 * (16 + index) * 60 - 60 for index in range(2))


def test_without_targets_there_are_masks_but_no_scores():
    masks = []
    quality = evaluate(predictor(), Pictures(3, with_target=False), keep=lambda _, mask: masks.append(mask))
    assert quality.scores is None
    assert quality.images[2] == {"name": "picture2", "miou": None}
    assert [mask.shape for mask in masks] == [(16, 20), (17, 20), (18, 20)]


def test_nothing_to_evaluate():
    quality = evaluate(predictor(), Pictures(0))
    assert (quality.scores, quality.images, quality.num_images, quality.agreement) == (None, [], 0, None)


def test_agreement_with_another_networks_masks():
    kept = []
    evaluate(predictor(), Pictures(3), keep=lambda _, mask: kept.append(mask))
    assert evaluate(predictor(), Pictures(3), reference=kept.__getitem__).agreement == 100
    kept[0] = kept[0].copy()
    kept[0][:8] = 3
    total = sum(mask.size for mask in kept)
    agreement = evaluate(predictor(), Pictures(3), reference=kept.__getitem__).agreement
    assert agreement == pytest.approx(100 * (total - 160) / total)


class Wrong(Pictures):
    def __getitem__(self, index):
        sample = super().__getitem__(index)
        sample.target[5, 5] = 77
        return sample


class Grey(Pictures):
    def __getitem__(self, index):
        return Sample(np.zeros((9, 9, 1), np.uint8), None, f"grey{index}")


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("network", "data", "message"),
    [
        (predictor(), Wrong(), "picture0: target has class id 77; the classes are 0 to 2"),
        (predictor(), Grey(), r"grey0: needs a uint8 image \[h, w, 3\]"),
        (predictor(("a", "b")), Pictures(), "the network has 2 classes, the dataset 3"),
    ],
)
def test_errors_name_the_sample(network, data, message, workers):
    with pytest.raises(UserError, match=message):
        evaluate(network, data, workers=workers)
