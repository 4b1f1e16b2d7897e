"""Losses on the labels against numbers and programs that are not ours."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from segmentation_models_pytorch.losses import DiceLoss, LovaszLoss
from torchvision.ops import sigmoid_focal_loss

from limbeck.losses.boundary import Boundary
from limbeck.losses.dice import Dice
from limbeck.losses.edge import Edge, edges
from limbeck.losses.focal import Focal
from limbeck.losses.lovasz import Lovasz
from limbeck.losses.ohem import HardExamples


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5])
def test_edges_are_dilated_borders(width):
    # By hand: the first pixel after each border between two classes, dilated by a square.
    target = torch.randint(0, 3, (2, 3, 4), generator=torch.Generator().manual_seed(3)).repeat_interleave(6, 1)
    target = target.repeat_interleave(6, 2)
    target[0, 5:9, 3:20] = 255
    expected = np.zeros(target.shape, bool)
    reach = range(-(width // 2), (width + 1) // 2)
    for n, i, j in np.ndindex(*target.shape):
        for a, b in ((i - 1, j), (i, j - 1)):
            if a >= 0 and b >= 0 and target[n, a, b] != target[n, i, j] and 255 not in target[n, [a, i], [b, j]]:
                for y, x in ((i + dy, j + dx) for dy in reach for dx in reach):
                    if 0 <= y < target.shape[1] and 0 <= x < target.shape[2]:
                        expected[n, y, x] = True
    assert expected.any()
    np.testing.assert_array_equal(edges(target, width), expected)


def test_an_edge_lies_evenly_around_its_border():
    target = (torch.arange(10) >= 5).long().expand(1, 8, 10)
    assert edges(target, 4)[0, 0].nonzero().flatten().tolist() == [3, 4, 5, 6]
    assert not edges(torch.zeros(1, 4, 4, dtype=torch.long), 4).any()


def test_edge_loss_by_hand():
    # 12 pixels, 2 void; a border between columns 1 and 2: with width 2, columns 1 and 2 are edge.
    target = torch.tensor([[[0, 0, 1, 1], [0, 0, 1, 1], [255, 0, 1, 255]]])
    logits = torch.sin(torch.arange(12, dtype=torch.float64) + 1).reshape(1, 1, 3, 4)
    p = 1 / (1 + np.exp(-logits[0, 0].numpy()))
    edge, valid = np.zeros((3, 4), bool), target[0].numpy() != 255
    edge[:, 1:3] = True
    positive, negative = (edge & valid).sum(), (~edge & valid).sum()
    assert (positive, negative) == (6, 4)
    expected = (0.4 * -np.log(p[edge & valid]).sum() + 0.6 * -np.log(1 - p[~edge & valid]).sum()) / 10
    assert Edge(2)(logits, target).item() == pytest.approx(expected, abs=1e-6)


def labelled(seed, classes=5, shape=(3, 12, 16)):
    rng = torch.Generator().manual_seed(seed)
    target = torch.randint(0, classes, shape, generator=rng)
    target[:, :2, :3] = 255
    return 3 * torch.randn(shape[0], classes, *shape[1:], generator=rng), target


@pytest.mark.parametrize("per_image", [False, True])
def test_dice_by_hand(per_image):
    logits, target = labelled(8)
    target[0][target[0] == 3] = 1  # absent from one image
    p = F.softmax(logits.double(), 1).numpy()
    for squared in (False, True):
        lost = []
        for images in ([0], [1], [2]) if per_image else ([0, 1, 2],):
            for label in range(5):
                valid, truth = (target[images] != 255).numpy(), (target[images] == label).numpy()
                found = p[images, label][valid]
                if truth.any():
                    total = (found ** (2 if squared else 1)).sum() + truth.sum()
                    lost.append(1 - 2 * found[truth[valid]].sum() / total)
        assert len(lost) == (14 if per_image else 5)
        assert Dice(per_image, squared)(logits, target).item() == pytest.approx(np.mean(lost), abs=1e-6)


def test_dice_is_that_of_segmentation_models():
    logits, target = labelled(9)
    expected = DiceLoss("multiclass", ignore_index=255)(logits, target)
    torch.testing.assert_close(Dice(squared=False)(logits, target), expected)


@pytest.mark.parametrize("per_image", [False, True])
def test_lovasz_is_that_of_segmentation_models(per_image):
    logits, target = labelled(10)
    expected = LovaszLoss("multiclass", per_image=per_image, ignore_index=255)(logits, target)
    torch.testing.assert_close(Lovasz(per_image)(logits, target), expected)


def test_lovasz_of_hard_answers_is_one_minus_iou():
    logits, target = labelled(11)
    guess = logits.argmax(1)
    valid = target != 255
    iou = [
        ((guess == label) & (target == label)).sum() / (((guess == label) & valid) | (target == label)).sum()
        for label in range(5)
    ]
    hard = 100 * F.one_hot(guess, 5).movedim(-1, 1).float()
    torch.testing.assert_close(Lovasz()(hard, target), 1 - torch.stack(iou).mean())


@pytest.mark.parametrize(("gamma", "alpha"), [(0.0, 0.5), (0.5, 0.25), (2.0, 0.25), (5.0, 0.9)])
def test_focal_of_two_classes_is_torchvisions(gamma, alpha):
    logits, target = labelled(12, classes=1)
    target = torch.where(target == 255, 255, torch.randint(0, 2, target.shape))
    expected = sigmoid_focal_loss(logits[:, 0], (target == 1).float(), alpha, gamma)[target != 255].mean()
    found = Focal(gamma, [1 - alpha, alpha])(torch.cat([torch.zeros_like(logits), logits], 1), target)
    torch.testing.assert_close(found, expected)


def test_focal_without_focus_is_cross_entropy():
    logits, target = labelled(13)
    torch.testing.assert_close(Focal(0.0)(logits, target), F.cross_entropy(logits, target, ignore_index=255))


@pytest.mark.parametrize(("threshold", "min_kept"), [(0.7, 0), (0.1, 0.5), (0.01, 100), (1.0, 0), (0.01, 10**6)])
@pytest.mark.parametrize("weights", [None, [0.2, 3.0, 1.0, 0.7, 0.1]])
def test_hard_examples_by_sorting(threshold, min_kept, weights):
    logits, target = labelled(14)
    valid = (target != 255).numpy()
    p = F.softmax(logits.double(), 1).gather(1, target.clamp(max=4)[:, None])[:, 0].numpy()[valid]
    w = np.ones(len(p)) if weights is None else np.asarray(weights)[target.numpy()[valid]]
    order = np.argsort(p)
    count = max((p < threshold).sum(), min(len(p), math.ceil(min_kept * len(p)) if min_kept <= 1 else min_kept))
    kept = order[:count]
    assert 0 < count <= len(p) == 558
    expected = (w[kept] * -np.log(p[kept])).sum() / w[kept].sum()
    assert HardExamples(threshold, min_kept, weights)(logits, target).item() == pytest.approx(expected, rel=1e-5)


def test_boundary_by_hand():
    logits, target = labelled(15, classes=3, shape=(2, 9, 11))
    target = target.where(target == 255, (torch.arange(11) > 4).long() + (torch.arange(9) > 5).long()[:, None])
    p = F.softmax(logits.double(), 1).numpy()
    valid = (target != 255).numpy()

    def spread(values, reach):
        padded = np.pad(values, reach, constant_values=-1)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * reach + 1, 2 * reach + 1))
        return windows.max((2, 3))

    def border(values, inside):
        outside = (1 - values) * inside
        return (spread(outside, 1) - outside) * inside

    lost = []
    for image in range(2):
        for label in range(3):
            truth = border((target[image] == label).numpy().astype(float), valid[image])
            found = border(p[image, label], valid[image])
            if truth.any():
                precision = (found * spread(truth, 2)).sum() / found.sum()
                recall = (truth * spread(found, 2)).sum() / truth.sum()
                lost.append(1 - 2 * precision * recall / (precision + recall))
    assert len(lost) == 6
    assert Boundary()(logits, target).item() == pytest.approx(np.mean(lost), abs=1e-6)


def test_a_border_may_lie_within_its_tolerance():
    halves = lambda at: (torch.arange(32) >= at).long().expand(1, 16, 32)  # noqa: E731
    guess = lambda at: 100 * F.one_hot(halves(at), 2).movedim(-1, 1).float()  # noqa: E731
    assert Boundary(tolerance=5)(guess(18), halves(16)).item() == pytest.approx(0, abs=1e-6)
    assert Boundary(tolerance=5)(guess(22), halves(16)).item() == pytest.approx(1, abs=1e-4)
    assert Boundary(tolerance=13)(guess(22), halves(16)).item() == pytest.approx(0, abs=1e-6)
    assert Boundary()(guess(16), torch.zeros(1, 16, 32, dtype=torch.long)) == 0, "there is no border to find"
