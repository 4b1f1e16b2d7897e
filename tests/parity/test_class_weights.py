"""Weights of classes against numbers and programs that are not ours."""

import math

import numpy as np
import pytest
import torch

from limbeck.data.stats import ClassCounts
from limbeck.losses._labels import class_weights, image_weights
from limbeck.losses.cross_entropy import CrossEntropy
from limbeck.losses.focal import Focal
from limbeck.losses.ohem import HardExamples
from limbeck.record import UserError

PIXELS = [600, 300, 90, 10]


def mean_one(weights):
    return np.asarray(weights) / np.mean(weights)


def test_inverse_frequency_weights():
    # Proportional to 1 / count; mean 1.
    np.testing.assert_allclose(
        class_weights(everywhere(PIXELS), "inverse_frequency"), mean_one([1 / n for n in PIXELS]), rtol=1e-6
    )


def everywhere(pixels):
    """Each class in every image."""
    return ClassCounts(list(pixels), [sum(pixels)] * len(pixels))


def test_median_frequency_weights():
    # Eigen & Fergus: freq(c) is over the images where c is present; the rarest class is in a tenth of the images.
    areas = [1000, 800, 500, 100]
    shares = [n / area for n, area in zip(PIXELS, areas, strict=True)]
    expected = mean_one([np.median(shares) / share for share in shares])
    np.testing.assert_allclose(class_weights(ClassCounts(PIXELS, areas), "median_frequency"), expected, rtol=1e-6)


def test_log_frequency_weights():
    # ENet: 1 / ln(1.02 + share); the ratio of weights is what matters.
    expected = mean_one([1 / math.log(1.02 + n / 1000) for n in PIXELS])
    np.testing.assert_allclose(class_weights(everywhere(PIXELS), "log_frequency"), expected, rtol=1e-6)
    assert expected[3] / expected[0] == pytest.approx(math.log(1.62) / math.log(1.03))


@pytest.mark.parametrize("kind", ["inverse_frequency", "median_frequency", "log_frequency"])
def test_weights_of_absent_classes(kind):
    weights = class_weights(everywhere([600, 0, 400]), kind)
    assert weights[1] == 0
    assert weights[[0, 2]].mean().item() == pytest.approx(1)
    assert weights[2] > weights[0]
    assert class_weights(everywhere([0, 0]), kind).tolist() == [0, 0]


def road(*counts, width=640, void=0):
    """Class ids [320, width] with so many pixels of each class, the first ``void`` ones without any."""
    ids = np.repeat([255, *range(len(counts))], [void, *counts])
    return torch.from_numpy(ids.reshape(320, width))


def test_weights_of_each_image_are_scenesegs():
    """Its N / (n_k + 5120) on its 320x640 pixels, once both have mean 1; a class that is absent gets 0."""
    pixels = 320 * 640
    few, many = (pixels - 2000 - 40000, 40000, 2000), (pixels // 2, 0, pixels // 2)
    found = image_weights(torch.stack([road(*few), road(*many)]), 3)
    np.testing.assert_allclose(found[0], mean_one([pixels / (n + 5120) for n in few]), rtol=1e-5)
    assert found[1].tolist() == [1, 0, 1]


def test_weights_of_an_image_by_hand():
    # 7 of 8 pixels and 1: 1 / 0.9 and 1 / 0.15 have the mean 35 / 9. Void pixels are no part of the image.
    labels = torch.tensor([[[0, 0, 0, 0], [0, 0, 0, 1], [255, 255, 255, 255]]])
    np.testing.assert_allclose(image_weights(labels, 2), [[10 / 35, 60 / 35]], rtol=1e-6)
    assert image_weights(torch.full((2, 3, 4), 255), 2).tolist() == [[0, 0], [0, 0]]


def test_cross_entropy_weighed_by_each_image():
    rng = torch.Generator().manual_seed(3)
    logits, target = torch.randn(3, 4, 8, 8, generator=rng), torch.randint(0, 3, (3, 8, 8), generator=rng)
    target[0, :6] = 0
    target[1, 2:] = 255
    expected = []
    for one, labels in zip(logits.double().numpy(), target.numpy(), strict=True):
        log_p = one - np.log(np.exp(one).sum(0))
        places = np.argwhere(labels != 255)
        count = np.bincount(labels[labels != 255], minlength=4)
        weights = np.asarray([1 / (count[labels[h, w]] / len(places) + 0.025) for h, w in places])
        expected.append(np.average([-log_p[labels[h, w], h, w] for h, w in places], weights=weights))
    loss = CrossEntropy(class_weights="per_image")
    assert loss(logits, target).item() == pytest.approx(np.mean(expected), rel=1e-5)
    empty = torch.full((1, 8, 8), 255)
    more = torch.cat([target, empty]), torch.cat([logits, logits[:1]]).requires_grad_()
    found = loss(more[1], more[0])
    assert found.item() == pytest.approx(np.mean(expected), rel=1e-5)  # an image without labels says nothing
    found.backward()
    assert more[1].grad[3].abs().max() == 0
    assert more[1].grad[:3].flatten(1).abs().amax(1).min() > 0
    assert loss(logits[:1], empty).item() == 0


def test_focal_and_hard_pixels_take_the_weights_of_each_image():
    """Of one image they are those of the list that says the same."""
    logits, target = torch.randn(1, 2, 320, 640, generator=torch.Generator().manual_seed(4)), road(150000, 54800)[None]
    listed = image_weights(target, 2)[0].tolist()
    for loss in (Focal, HardExamples):
        torch.testing.assert_close(
            loss(class_weights="per_image")(logits, target), loss(class_weights=listed)(logits, target)
        )
        assert loss(class_weights="per_image")(logits, target) != loss()(logits, target)


def test_a_whole_image_has_no_shares_of_classes():
    with pytest.raises(UserError, match="per_image is for maps"):
        CrossEntropy(class_weights="per_image")(torch.zeros(2, 3), torch.tensor([0, 1]))
