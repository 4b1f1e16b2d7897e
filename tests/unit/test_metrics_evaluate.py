from dataclasses import replace

import numpy as np
import pytest

from limbeck.artifact.average import average
from limbeck.artifact.load import Predictor
from limbeck.artifact.preprocess import Preprocess
from limbeck.artifact.protocol import Protocol, Slide, answered
from limbeck.data.sample import Sample
from limbeck.metrics.boundary import Boundary, boundary_scores
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


def test_counts_of_single_images_make_their_iou_and_that_of_all():
    quality = evaluate(predictor(), Pictures())
    for counts, image in zip(quality.counts, quality.images, strict=True):
        assert 100 * np.mean(counts[:, 0] / counts.sum(1)) == pytest.approx(image["miou"])
    whole = quality.counts.sum(0)
    assert 100 * np.mean(whole[:, 0] / whole.sum(1)) == pytest.approx(quality.scores["miou"])
    assert (whole[:, 0] + whole[:, 1]).tolist() == quality.matrix.sum(0).tolist()
    assert evaluate(predictor(), Pictures(with_target=False)).counts.tolist() == [[[0] * 3] * 3] * 5


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
        return Sample(np.zeros((9, 9, 2), np.uint8), None, f"grey{index}")


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


class Sources(Pictures):
    """The same pictures; the first two are from one source, the others from another."""

    def __getitem__(self, index):
        return replace(super().__getitem__(index), source="few" if index < 2 else "many")


def test_scores_source_by_source_and_their_sum():
    network, data = predictor(), Sources()
    quality = evaluate(network, data, batch=2)
    alone = {"few": Confusion(3), "many": Confusion(3)}
    for sample in map(data.__getitem__, range(5)):
        alone[sample.source].add(network.mask(sample.image), sample.target)
    assert list(quality.sources) == ["few", "many"]
    for name, own in alone.items():
        assert quality.sources[name] == scores(own.matrix, CLASSES) | {
            "images": {"few": 2, "many": 3}[name], "matrix": own.matrix.tolist(),
        }  # fmt: skip
    assert np.array_equal(quality.matrix, alone["few"].matrix + alone["many"].matrix)
    assert quality.scores == evaluate(network, Pictures(), batch=2).scores
    assert evaluate(network, Pictures()).sources == {}


def test_edges_are_scored_when_asked():
    network, data = predictor(), Sources()
    quality = evaluate(network, data, boundary=True)
    tally = Boundary(3)
    for sample in map(data.__getitem__, range(5)):
        tally.add(network.mask(sample.image), sample.target)
    expected = boundary_scores(tally.counts)
    assert quality.scores["boundary_iou"] == pytest.approx(expected["mean"])
    assert quality.scores["per_class"]["boundary_iou"] == expected["iou"]
    assert "boundary_iou" in quality.sources["many"]
    assert "boundary_iou" not in evaluate(network, data).scores


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_the_protocol_decides_what_the_network_sees(batch):
    seen = []

    def run(pixel_values):
        seen.append(pixel_values.shape)
        return pixel_values

    network = Predictor(run, Preprocess((16, 20)), CLASSES)
    protocol = Protocol(Slide((8, 10)), flip=True)
    masks = {}
    evaluate(network, Pictures(), batch=batch, protocol=protocol, keep=lambda i, m: masks.update({i: m}))
    assert {shape[2:] for shape in seen} == {(16, 20)}
    assert max(shape[0] for shape in seen) <= batch
    for index, sample in enumerate(map(Pictures().__getitem__, range(5))):
        looks = protocol.looks(network.preprocess, sample.image)
        assert np.array_equal(masks[index], average(answered(network.logits, looks, 8), sample.target.shape))


def test_sizes_that_a_network_does_not_take_are_named_before_anything_is_read():
    def run(pixel_values):
        if pixel_values.shape[2:] != (16, 20):
            raise RuntimeError("mismatch\nat a place")
        return pixel_values

    class Unread(Pictures):
        def __getitem__(self, index):
            raise AssertionError("read before the sizes were tried")

    network = Predictor(run, Preprocess((16, 20)), CLASSES)
    with pytest.raises(UserError, match=r"does not take inputs of 12x15: mismatch .*dynamic: \[height, width\].*slide"):
        evaluate(network, Unread(), protocol=Protocol(scales=(1.0, 0.75)))
    assert evaluate(network, Pictures(), protocol=Protocol(Slide((8, 8)), scales=(0.75, 1.25))).num_images == 5


def test_a_classifier_is_shown_whole_images():
    network = Predictor(lambda p: p.mean((2, 3)), Preprocess((16, 20)), CLASSES, dense=False)
    with pytest.raises(UserError, match="a classifier sees the whole image"):
        evaluate(network, Pictures(with_target=False), protocol=Protocol(Slide((8, 8))))
    plain = evaluate(network, Sources(with_target=False))
    assert evaluate(network, Sources(with_target=False), protocol=Protocol(flip=True)).images == plain.images
    assert {name: own["images"] for name, own in plain.sources.items()} == {"few": 2, "many": 3}
