"""Losses against numbers and programs that are not ours."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Categorical, kl_divergence
from torchmetrics.functional import kl_divergence as torchmetrics_kl

from limbeck.losses.attention import Attention
from limbeck.losses.boundary import Boundary
from limbeck.losses.cgd import ChannelGroups, channel_groups
from limbeck.losses.cosine import Cosine
from limbeck.losses.cross_entropy import CrossEntropy, cross_entropy
from limbeck.losses.cwd import ChannelWise, channel_wise
from limbeck.losses.dice import Dice
from limbeck.losses.dist import Dist
from limbeck.losses.dkd import Decoupled
from limbeck.losses.edge import Edge
from limbeck.losses.focal import Focal
from limbeck.losses.hint import Hint
from limbeck.losses.ifvd import IntraClassVariation
from limbeck.losses.kd import KnowledgeDistillation, pixelwise_kl
from limbeck.losses.lovasz import Lovasz
from limbeck.losses.mgd import MaskedGenerative
from limbeck.losses.ohem import HardExamples
from limbeck.losses.pairwise import PairWise
from limbeck.losses.pkd import Pearson
from limbeck.losses.review import Review

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


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (ChannelGroups(3, 2.0), 4 * 0.297746810),  # published without tau^2
        (ChannelGroups(1, 4.0), 1.036444479),  # cwd
        (Cosine("pixels"), 0.938174579),
        (Attention(), 0.089892417),
        (IntraClassVariation(), 1.075642358),
        (Pearson(), 0.887622373),
        (Hint(), 2.361994853),
        (Dist(gamma=0.0), 0.904292401),
        (Dist(beta=0.0), 0.949617539),
        (Dist(), 1.853909941),
        (Dist(mask="all"), 1.839387955),
        (Decoupled(1.0, 0.0), 0.221922984),
        (Decoupled(0.0, 1.0), 0.919322231),
        (Decoupled(), 7.576500833),
        (KnowledgeDistillation(2.0, standardise=True), 0.626553838),
        (PairWise(), 0.394504334),
    ],
    ids=[
        "cgd",
        "cgd-1",
        "cosine",
        "attention",
        "ifvd",
        "pkd",
        "hint",
        "inter",
        "intra",
        "dist",
        "dist-all",
        "tckd",
        "nckd",
        "dkd",
        "standardised",
        "pairwise",
    ],
)
def test_other_distillation_golden(loss, expected):
    assert loss(STUDENT, TEACHER, TARGET).item() == pytest.approx(expected, abs=1e-6)


def test_cosine_of_whole_maps_is_torchs_embedding_loss():
    expected = F.cosine_embedding_loss(STUDENT.flatten(1), TEACHER.flatten(1), torch.ones(2))
    assert Cosine()(STUDENT, TEACHER, None).item() == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize("group_size", [2, 3, 5, 7])
def test_channel_groups_by_hand(group_size):
    student, teacher = maps(6)
    total = []
    for first in range(0, 5, group_size):
        p, q = (
            Categorical(logits=tensor.double()[:, first : first + group_size].flatten(1) / 2.0)
            for tensor in (teacher, student)
        )
        total.append(4 * kl_divergence(p, q).mean().item())
    assert channel_groups(student, teacher, group_size, 2.0).item() == pytest.approx(np.mean(total), rel=1e-5)


def test_shuffled_groups_are_the_same_for_a_training_that_is_taken_up():
    student, teacher = maps(7)
    whole, first, second = (ChannelGroups(2, 2.0, shuffle_every=3) for _ in range(3))
    expected = [whole(student, teacher, None).item() for _ in range(12)]
    found = [first(student, teacher, None).item() for _ in range(4)]
    second.load_state_dict(first.state_dict())
    assert found + [second(student, teacher, None).item() for _ in range(8)] == expected
    assert [expected[i : i + 3] for i in range(0, 12, 3)] == [[value] * 3 for value in expected[::3]]
    assert len(set(expected)) > 1


def test_kd_is_what_dkd_takes_apart():
    """KD at temperature 1 is TCKD + (1 - p of the label) NCKD, at each position."""
    p = F.softmax(TEACHER, 1)
    for n, h, w in ((0, 0, 0), (0, 1, 2), (1, 1, 1)):
        pixel = (slice(n, n + 1), slice(None), slice(h, h + 1), slice(w, w + 1))
        label = TARGET[n : n + 1, h : h + 1, w : w + 1]
        whole, own, others = (
            loss(STUDENT[pixel], TEACHER[pixel], label).item()
            for loss in (KnowledgeDistillation(), Decoupled(1.0, 0.0, 1.0), Decoupled(0.0, 1.0, 1.0))
        )
        assert whole == pytest.approx(own + (1 - p[n, label.item(), h, w].item()) * others, abs=1e-9)


def test_standardised_logits_forget_their_scale():
    for loss in (KnowledgeDistillation(2.0, standardise=True), Dist(standardise=True), Decoupled(standardise=True)):
        expected = loss(STUDENT, TEACHER, TARGET).item()
        assert loss(9 * STUDENT + 1, TEACHER / 3 - 5, TARGET).item() == pytest.approx(expected, rel=1e-5)
    assert KnowledgeDistillation(2.0)(9 * STUDENT, TEACHER, TARGET) > 1


def test_parts_of_an_image_alike_by_numpy():
    student, teacher = maps(10, (2, 5, 4, 6))
    found = []
    for tensor in (student, teacher):
        cells = tensor.double().reshape(2, 5, 2, 2, 2, 3)  # 2x2 cells of 2x3 positions
        alike = {}
        for name, pooled in (("max", cells.amax((3, 5))), ("mean", cells.mean((3, 5)))):
            rows = pooled.flatten(2).transpose(1, 2).numpy()
            rows /= np.linalg.norm(rows, axis=2, keepdims=True)
            alike[name] = rows @ rows.transpose(0, 2, 1)
        found.append(alike)
    for pool in ("max", "mean"):
        expected = np.mean((found[0][pool] - found[1][pool]) ** 2)
        assert PairWise(2, pool=pool)(student, teacher, None).item() == pytest.approx(expected, rel=1e-5)
    p, q = (Categorical(logits=torch.from_numpy(alike["mean"]) / 0.5) for alike in (found[1], found[0]))
    expected = 0.25 * kl_divergence(p, q).mean().item()
    assert PairWise(2, "kl", 0.5)(student, teacher, None).item() == pytest.approx(expected, rel=1e-4)


def test_masked_generation_by_hand():
    """With convolutions that change nothing what is left is a mean over the seen and the hidden positions."""
    student, teacher = (tensor.abs() for tensor in maps(11, (2, 3, 40, 50)))
    loss = MaskedGenerative(0.75)
    loss.bind([student.shape], [teacher.shape])
    for layer in (loss.generator[0], loss.generator[2]):
        torch.nn.init.dirac_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    torch.manual_seed(4)
    shown = torch.rand(2, 1, 40, 50) >= 0.75
    assert shown.float().mean().item() == pytest.approx(0.25, abs=0.02)
    torch.manual_seed(4)
    expected = (shown * student - teacher).square().sum() / student.numel()
    torch.testing.assert_close(loss(student, teacher, None), expected)
    again = loss(student, teacher, None)
    assert again != expected, "another draw"
    loss.eval()
    torch.testing.assert_close(loss(student, teacher, None), F.mse_loss(student, teacher))
    # The paper's alpha is a weight on the sum over channels and positions, a mean over images.
    alpha = MaskedGenerative.presets["paper-segmentation"]
    summed = 2e-5 * (student - teacher).square().sum() / 2
    ours = alpha.weight_on(student.shape) * loss(student, teacher, None)
    assert ours.item() == pytest.approx(summed.item(), rel=1e-5)


def test_review_by_hand():
    """Two levels, fused as published: mean squares of maps and of their means over cells, over 1 + 1/2 + 1/4 + 1/8."""
    rng = torch.Generator().manual_seed(12)
    student = [torch.randn(3, 6, 8, 12, generator=rng), torch.randn(3, 7, 4, 6, generator=rng)]
    teacher = [torch.randn(3, 4, 16, 24, generator=rng), torch.randn(3, 5, 4, 6, generator=rng)]
    loss = Review()
    loss.bind([t.shape for t in student], [t.shape for t in teacher])
    shallow, deep = loss.fusions
    low = deep.narrow(student[1])
    narrow = shallow.narrow(student[0])
    up = low.repeat_interleave(2, 2).repeat_interleave(2, 3)
    share = torch.sigmoid(F.conv2d(torch.cat([narrow, up], 1), shallow.attention[0].weight, shallow.attention[0].bias))
    fused = (share[:, :1] * narrow + share[:, 1:] * up).repeat_interleave(2, 2).repeat_interleave(2, 3)
    expected = 0.0
    for mine, theirs in ((shallow.widen(fused), teacher[0]), (deep.widen(low), teacher[1])):
        sides = [side for side in (4, 2, 1) if side < min(mine.shape[2:])]
        squares = [(mine - theirs).square().mean()]
        squares += [(F.adaptive_avg_pool2d(mine - theirs, side)).square().mean() for side in sides]
        weights = [1.0, 0.5, 0.25, 0.125][: len(squares)]
        expected += sum(w * s for w, s in zip(weights, squares, strict=True)) / sum(weights)
    assert loss(student, teacher, None).item() == pytest.approx(expected.item(), rel=1e-5)
    assert {p.shape[0] for p in loss.fusions[0].narrow[0].parameters()} == {7}, "as wide as the deepest of the student"


def test_dist_is_numpys_correlation():
    found = []
    for axis in (-1, 0):  # of each pixel over its classes, of each class over the pixels
        p, q = (F.softmax(t.double(), 1).movedim(1, -1).flatten(0, -2).movedim(axis, -1).numpy() for t in maps(8))
        found.append(np.mean([1 - np.corrcoef(one, other)[0, 1] for one, other in zip(p, q, strict=True)]))
    assert Dist(beta=2.0, gamma=3.0)(*maps(8), None).item() == pytest.approx(2 * found[0] + 3 * found[1], abs=1e-5)


def test_pkd_is_one_minus_numpys_correlation():
    # Half the squared difference of unbiased scores is (1 - r) (n - 1) / n.
    student, teacher = maps(9)
    rows = [tensor.movedim(1, 0).flatten(1).double().numpy() for tensor in (student, teacher)]
    n = rows[0].shape[1]
    expected = np.mean([1 - np.corrcoef(one, other)[0, 1] for one, other in zip(*rows, strict=True)]) * (n - 1) / n
    assert Pearson()(student, teacher, None).item() == pytest.approx(expected, abs=1e-5)
    assert Pearson()(7 * student + 3, teacher / 5 - 2, None).item() == pytest.approx(expected, abs=1e-5)


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
        lambda s: channel_groups(s, TEACHER, 3, 2.0),
        lambda s: Cosine()(s, TEACHER, None),
        lambda s: Cosine("pixels")(s, TEACHER, None),
        lambda s: 10 * Attention()(s, TEACHER, None),
        lambda s: IntraClassVariation()(s, TEACHER, TARGET),
        lambda s: Pearson()(s, TEACHER, None),
        lambda s: Hint()(s, TEACHER, None),
        lambda s: Dice()(s, TARGET),
        lambda s: Focal(2.0, [0.5, 2.0, 1.0, 0.5])(s, TARGET),
        lambda s: Lovasz()(s, TARGET),
        lambda s: HardExamples(0.5, 0.3)(s, TARGET),
        lambda s: Boundary()(s, TARGET),
        lambda s: Edge(1)(s[:, :1], TARGET),
    ],
    ids=[
        "kd",
        "cwd",
        "cross_entropy",
        "cgd",
        "cosine",
        "cosine-pixels",
        "attention",
        "ifvd",
        "pkd",
        "hint",
        "dice",
        "focal",
        "lovasz",
        "ohem",
        "boundary",
        "edge",
    ],
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
