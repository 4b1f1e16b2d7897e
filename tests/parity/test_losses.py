"""Losses against numbers and programs that are not ours."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Categorical, kl_divergence
from torchmetrics.functional import kl_divergence as torchmetrics_kl

from limbeck.losses.cross_entropy import CrossEntropy, class_weights, cross_entropy
from limbeck.losses.cwd import ChannelWise, channel_wise
from limbeck.losses.edge import Edge, edges
from limbeck.losses.kd import KnowledgeDistillation, pixelwise_kl

# Two images of 2x3 pixels and 4 classes: student sin(k + 1), teacher 2 cos((k + 1) / 2), k counting through
# [n, c, h, w]; label (6 n + 3 h + w) % 4, one pixel void. Values computed in float64 with the standard library alone.
K = torch.arange(48, dtype=torch.float64).reshape(2, 4, 2, 3)
STUDENT, TEACHER = torch.sin(K + 1), 2 * torch.cos((K + 1) / 2)
TARGET = (torch.arange(12) % 4).reshape(2, 2, 3)
TARGET[0, 0, 1] = 255


@pytest.mark.parametrize(
    ("temperature", "mask", "expected"), [(1, "valid", 0.400608536), (4, "valid", 0.864197659), (1, "all", 0.407832733)]
)
def test_kd_golden(temperature, mask, expected):
    loss = KnowledgeDistillation(temperature, mask)(STUDENT, TEACHER, TARGET)
    assert loss.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("temperature", "expected"), [(1, 0.837600106), (4, 1.036444479)])
def test_cwd_golden(temperature, expected):
    assert ChannelWise(temperature)(STUDENT, TEACHER, None).item() == pytest.approx(expected, abs=1e-6)


def maps(seed, shape=(3, 5, 4, 6), scale=3.0):
    rng = torch.Generator().manual_seed(seed)
    return scale * torch.randn(shape, generator=rng), scale * torch.randn(shape, generator=rng)


def classes_last(logits, temperature):
    return logits.double().movedim(1, -1) / temperature


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_kd_is_the_divergence_of_torch_and_torchmetrics(temperature):
    student, teacher = maps(0)
    p, q = (Categorical(logits=classes_last(logits, temperature)) for logits in (teacher, student))
    expected = temperature**2 * kl_divergence(p, q).mean().item()
    assert pixelwise_kl(student, teacher, temperature).item() == pytest.approx(expected, rel=1e-5)
    by_torchmetrics = torchmetrics_kl(p.probs.flatten(0, -2), q.probs.flatten(0, -2))
    assert expected == pytest.approx(temperature**2 * by_torchmetrics.item(), rel=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_cwd_is_the_divergence_of_positions(temperature):
    student, teacher = maps(1)
    p, q = (Categorical(logits=logits.double().flatten(2) / temperature) for logits in (teacher, student))
    expected = temperature**2 * kl_divergence(p, q).mean().item()
    assert channel_wise(student, teacher, temperature).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_kd_gradient_is_the_closed_form(temperature):
    student, teacher = maps(2)
    valid = torch.rand(3, 4, 6, generator=torch.Generator().manual_seed(0)) < 0.7
    student.requires_grad_()
    pixelwise_kl(student, teacher, temperature, valid).backward()
    difference = F.softmax(student.detach() / temperature, 1) - F.softmax(teacher / temperature, 1)
    expected = temperature * difference * valid[:, None] / valid.sum()
    torch.testing.assert_close(student.grad, expected, atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_cwd_gradient_is_the_closed_form(temperature):
    student, teacher = maps(3)
    student.requires_grad_()
    channel_wise(student, teacher, temperature).backward()
    looked = [F.softmax(tensor.flatten(2) / temperature, -1) for tensor in (student.detach(), teacher)]
    expected = temperature * (looked[0] - looked[1]).reshape(student.shape) / (3 * 5)
    torch.testing.assert_close(student.grad, expected, atol=1e-7, rtol=1e-4)


def slope(function, at, position, step=1e-2):
    up, down = at.clone(), at.clone()
    up[position] += step
    down[position] -= step
    return (function(up).item() - function(down).item()) / (2 * step)


@pytest.mark.parametrize(
    "loss",
    [
        lambda s: pixelwise_kl(s, TEACHER, 2.0, TARGET != 255),
        lambda s: channel_wise(s, TEACHER, 2.0),
        lambda s: cross_entropy(s, TARGET, torch.tensor([0.5, 2.0, 1.0, 0.5]), 0.1),
    ],
    ids=["kd", "cwd", "cross_entropy"],
)
def test_gradients_are_the_slopes(loss):
    # Losses compute in float32, so slopes are good to three digits, whatever the input's type.
    student = STUDENT.clone().requires_grad_()
    loss(student).backward()
    assert student.grad.dtype == torch.float64
    for position in [(0, 0, 0, 0), (0, 3, 0, 1), (1, 2, 1, 1), (1, 1, 0, 2)]:
        assert student.grad[position].item() == pytest.approx(slope(loss, STUDENT, position), abs=2e-4)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, [0.2, 3.0, 1.0, 0.7, 0.1]])
def test_cross_entropy_is_torchs_own(weights, smoothing):
    logits, _ = maps(4)
    target = torch.randint(0, 5, (3, 4, 6), generator=torch.Generator().manual_seed(1))
    target[:, :2, :3] = 255
    weight = None if weights is None else torch.tensor(weights)
    expected = F.cross_entropy(logits, target, weight, ignore_index=255, label_smoothing=smoothing)
    torch.testing.assert_close(cross_entropy(logits, target, weight, smoothing), expected)


def test_cross_entropy_by_hand():
    target, log_p = TARGET.numpy(), STUDENT.numpy() - np.log(np.exp(STUDENT.numpy()).sum(1, keepdims=True))
    picked = [-log_p[n, target[n, h, w], h, w] for n, h, w in np.argwhere(target != 255)]
    assert CrossEntropy()(STUDENT, TARGET).item() == pytest.approx(np.mean(picked), abs=1e-6)


def test_cross_entropy_resizes_logits_to_the_target():
    logits = maps(5)[0]
    target = torch.randint(0, 5, (3, 16, 24), generator=torch.Generator().manual_seed(2))
    large = F.interpolate(logits, (16, 24), mode="bilinear", align_corners=False)
    torch.testing.assert_close(CrossEntropy()(logits, target), F.cross_entropy(large, target))


PIXELS = [600, 300, 90, 10]


def mean_one(weights):
    return np.asarray(weights) / np.mean(weights)


def test_inverse_frequency_weights():
    # Proportional to 1 / count; mean 1.
    np.testing.assert_allclose(class_weights(PIXELS, "inverse_frequency"), mean_one([1 / n for n in PIXELS]), rtol=1e-6)


def test_median_frequency_weights():
    shares = [n / 1000 for n in PIXELS]
    expected = mean_one([np.median(shares) / share for share in shares])
    np.testing.assert_allclose(class_weights(PIXELS, "median_frequency"), expected, rtol=1e-6)


def test_log_frequency_weights():
    # ENet: 1 / ln(1.02 + share); the ratio of weights is what matters.
    expected = mean_one([1 / math.log(1.02 + n / 1000) for n in PIXELS])
    np.testing.assert_allclose(class_weights(PIXELS, "log_frequency"), expected, rtol=1e-6)
    assert expected[3] / expected[0] == pytest.approx(math.log(1.62) / math.log(1.03))


@pytest.mark.parametrize("kind", ["inverse_frequency", "median_frequency", "log_frequency"])
def test_weights_of_absent_classes(kind):
    weights = class_weights([600, 0, 400], kind)
    assert weights[1] == 0
    assert weights[[0, 2]].mean().item() == pytest.approx(1)
    assert weights[2] > weights[0]
    assert class_weights([0, 0], kind).tolist() == [0, 0]


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
