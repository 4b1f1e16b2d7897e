"""What several teachers say together, against numbers by hand."""

import math

import pytest
import torch
import torch.nn.functional as F

from limbeck.data.sample import NO_CLASS, VOID
from limbeck.losses.kd import KnowledgeDistillation
from limbeck.place import Place
from limbeck.record import UserError
from limbeck.train.combine import combined, combined_shape, confidence

# Two teachers, one image of two classes: 3/4 and 1/2 for class 0.
FIRST, SECOND = torch.tensor([[math.log(3.0), 0.0]]), torch.tensor([[7.0, 7.0]])


def test_one_teacher_is_left_as_it_is():
    assert combined([FIRST], None, "mean", logits=True) is FIRST


def test_the_mean_of_logits_is_that_of_probabilities():
    found = combined([FIRST, SECOND], None, "mean", logits=True)
    assert found.softmax(1)[0].tolist() == pytest.approx([5 / 8, 3 / 8])
    assert found.exp().sum() == pytest.approx(1)


def test_the_mean_of_features_is_theirs():
    one, other = torch.full((1, 2, 2, 2), 1.0), torch.full((1, 2, 2, 2), 4.0)
    assert torch.equal(combined([one, other], None, "mean", logits=False), torch.full((1, 2, 2, 2), 2.5))


def test_confidence_by_hand():
    """Cross-entropies of class 0 are -ln 3/4 and -ln 1/2, so exp of them 4/3 and 2: weights 2/(10/3) and (4/3)/(10/3)."""
    said = torch.stack([FIRST, SECOND]).log_softmax(2)
    assert confidence(said, torch.tensor([0]))[:, 0].tolist() == pytest.approx([0.6, 0.4])
    found = combined([FIRST, SECOND], torch.tensor([0]), "confidence", logits=True)
    assert found.softmax(1)[0, 0] == pytest.approx(0.6 * 0.75 + 0.4 * 0.5)


def test_three_weights_add_up_and_are_halved():
    """(1 - share) / (K - 1): of three teachers whose losses are equal each counts for a third."""
    said = torch.randn(3, 5, 4, 2, 3, generator=torch.Generator().manual_seed(0)).log_softmax(2)
    weights = confidence(said, torch.randint(4, (5, 2, 3), generator=torch.Generator().manual_seed(1)))
    assert torch.allclose(weights.sum(0), torch.ones(5, 2, 3))
    assert weights.max() <= 0.5
    same = confidence(said[:1].expand(3, -1, -1, -1, -1), torch.zeros(5, 2, 3, dtype=torch.long))
    assert torch.allclose(same, torch.full_like(same, 1 / 3))


@pytest.mark.parametrize("target", [torch.tensor([NO_CLASS]), None])
def test_without_a_label_all_count_alike(target):
    found = combined([FIRST, SECOND], target, "confidence", logits=True)
    assert found.softmax(1)[0].tolist() == pytest.approx([5 / 8, 3 / 8])


def test_void_pixels_count_alike_and_the_others_do_not():
    maps = [logits[:, :, None, None].expand(1, 2, 1, 2) for logits in (FIRST, SECOND)]
    target = torch.tensor([[[VOID, 0]]])
    found = combined(maps, target, "confidence", logits=True).softmax(1)[0, 0, 0]
    assert found.tolist() == pytest.approx([0.625, 0.65])


def test_they_meet_at_the_coarsest_grid_and_the_label_with_them():
    fine, coarse = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 4, 2)
    target = torch.randint(3, (2, 16, 16))
    found = combined([fine, coarse], target, "confidence", logits=True)
    assert found.shape == coarse.shape
    plain = combined([fine, coarse], None, "mean", logits=True)
    assert not torch.allclose(found, plain)
    resized = F.interpolate(fine, (4, 2), mode="bilinear", align_corners=False)
    assert torch.allclose(plain, (resized.softmax(1) / 2 + coarse.softmax(1) / 2).log(), atol=1e-5)


def test_the_gradient_is_that_of_the_weighted_losses():
    """Kullback-Leibler is linear in the teacher but for a constant: at temperature 1, as the paper weighs it."""
    maps, target = [torch.randn(2, 4, 3, 3) for _ in range(3)], torch.randint(4, (2, 3, 3))
    student = torch.randn(2, 4, 3, 3, requires_grad=True)
    loss = KnowledgeDistillation(temperature=1)
    (ours,) = torch.autograd.grad(loss(student, combined(maps, target, "confidence", logits=True), target), student)
    said = torch.stack(maps).log_softmax(2)
    each = (said.exp() * (said - student.log_softmax(1))).sum(2)
    (theirs,) = torch.autograd.grad((confidence(said, target) * each).sum(0).mean(), student)
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_sixteen_bits_and_large_logits():
    large = [torch.randn(2, 5, 3, 3).mul(100).bfloat16(), torch.randn(2, 5, 3, 3).mul(100).half()]
    for how in ("mean", "confidence"):
        found = combined(large, torch.randint(5, (2, 3, 3)), how, logits=True)
        assert found.dtype == torch.float32
        assert torch.isfinite(found.logsumexp(1)).all()
        assert torch.allclose(found.exp().sum(1), torch.ones(2, 3, 3), atol=1e-3)


def test_channels_that_differ_have_no_mean():
    where = Place("r.yaml", ("distil", "terms", 0, "at"))
    assert combined_shape([torch.Size([1, 8, 4, 6]), torch.Size([1, 8, 2, 3])], where) == (1, 8, 2, 3)
    for other in (torch.Size([1, 9, 4, 6]), torch.Size([1, 8])):
        with pytest.raises(UserError, match=r"distil.terms.0.at: the teachers give .* name one of them: `a -> name:b`"):
            combined_shape([torch.Size([1, 8, 4, 6]), other], where)
