"""Training on one class an image: batches, losses, distillation terms and class counts."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from limbeck.data.sample import NO_CLASS, VOID, Sample, void_of
from limbeck.data.sampler import Batches
from limbeck.data.stats import ClassCounts
from limbeck.data.transforms import Augmentation
from limbeck.data.views import Views, load
from limbeck.losses.cross_entropy import CrossEntropy
from limbeck.losses.kd import KnowledgeDistillation
from limbeck.place import Place
from limbeck.recipe import Augment, Ramp, Resize
from limbeck.record import UserError
from limbeck.train.terms import make_term

LOGITS = torch.Size([1, 5])


class Numbers:
    """Twelve images whose class is their number, modulo 5."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Sample:
        pixels = np.random.default_rng(index).integers(0, 256, (20, 24, 3), np.uint8)
        return Sample(pixels, np.array(index % 5, np.int64), str(index))


def logits(seed: int, *shape: int) -> torch.Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def term(loss: nn.Module, at: str, student: torch.Size, teacher: torch.Size):
    return make_term("t", loss, at, (student, teacher), 1.0, Ramp(), Place("r"))


def test_a_batch_has_one_class_an_image_and_the_image_alone_moves() -> None:
    augment = Augment(scale=(0.5, 2.0), flip=True, color=0.3)
    views = Views(Numbers(), Augmentation((16, 16), Resize(), augment), seed=1)
    (batch,) = load(views, Batches(12, 12, 0, 0, 1), 0)
    assert batch["image"].shape == (12, 3, 16, 16)
    assert batch["target"].shape == (12,)
    assert batch["target"].dtype == torch.int64
    assert torch.equal(batch["target"], batch["index"] % 5)


def test_void_is_another_number_among_classes() -> None:
    assert void_of(torch.zeros(3)) == NO_CLASS == -1
    assert void_of(np.array(0)) == NO_CLASS
    assert void_of(torch.zeros(3, 4, 4)) == void_of(np.zeros((4, 4))) == VOID


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_equals_torch(smoothing: float) -> None:
    student, target = logits(0, 8, 300), torch.arange(8) * 40  # 200 and 280 are classes, and 255 would be one
    target[0] = 255
    found = CrossEntropy(label_smoothing=smoothing)(student, target)
    torch.testing.assert_close(found, F.cross_entropy(student, target, label_smoothing=smoothing))


def test_weights_count_images_and_images_without_a_class_cost_nothing() -> None:
    student, target = logits(0, 6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    loss = CrossEntropy(class_weights="inverse_frequency", class_counts=ClassCounts([30, 10, 20], [60] * 3))
    weights = torch.tensor([1 / 30, 1 / 10, 1 / 20])
    torch.testing.assert_close(loss(student, target), F.cross_entropy(student, target, weights))
    partly = target.clone()
    partly[:3] = NO_CLASS
    torch.testing.assert_close(loss(student, partly), loss(student[3:], target[3:]))
    assert loss(student, torch.full_like(target, NO_CLASS)) == 0


def test_kd_is_the_mean_over_images_times_the_square_of_the_temperature() -> None:
    """The term of the CSE 5368 project: T^2 KLDivLoss(batchmean) of softened logits, T 4."""
    student, teacher, target = logits(0, 8, 6), logits(1, 8, 6), torch.arange(8) % 6
    expected = 16 * nn.KLDivLoss(reduction="batchmean")(
        F.log_softmax(student / 4, dim=1), F.softmax(teacher / 4, dim=1)
    )
    torch.testing.assert_close(KnowledgeDistillation(temperature=4)(student, teacher, target), expected)
    distils = term(KnowledgeDistillation(temperature=4), "logits", LOGITS, LOGITS)
    torch.testing.assert_close(distils(student, teacher, target, 0.5), expected)


def test_kd_trusts_the_teacher_on_images_without_a_class_if_told_so() -> None:
    student, teacher, target = logits(0, 4, 5), logits(1, 4, 5), torch.tensor([0, NO_CLASS, 2, NO_CLASS])
    valid, everything = (KnowledgeDistillation(mask=mask)(student, teacher, target) for mask in ("valid", "all"))
    torch.testing.assert_close(valid, KnowledgeDistillation()(student[::2], teacher[::2], None))
    torch.testing.assert_close(everything, KnowledgeDistillation()(student, teacher, None))


class Seen(nn.Module):
    """Keeps what it is given."""

    def forward(self, student, teacher, target):
        self.given = student, teacher, target
        return student.sum()


def test_vectors_of_different_length_get_a_linear_projector() -> None:
    seen = Seen()
    bound = term(seen, "head", torch.Size([1, 8]), torch.Size([1, 12]))
    assert bound.match.projector_params == 96 == sum(p.numel() for p in bound.projector.parameters())
    bound(torch.ones(4, 8), torch.ones(4, 12), torch.arange(4), 0.0)
    student, teacher, target = seen.given
    assert student.shape == teacher.shape == (4, 12)
    assert torch.equal(target, torch.arange(4))


def test_a_class_has_no_place_on_a_map() -> None:
    seen = Seen()
    term(seen, "a", torch.Size([1, 8, 6, 6]), torch.Size([1, 8, 3, 3]))(
        torch.ones(4, 8, 6, 6), torch.ones(4, 8, 3, 3), torch.arange(4), 0.0
    )
    assert seen.given[0].shape == (4, 8, 3, 3)
    assert seen.given[2] is None


@pytest.mark.parametrize(
    ("student", "teacher", "wanted"),
    [
        ([1, 8], [1, 8, 4, 4], "two maps or two vectors"),
        ([1, 8, 4], [1, 8, 4], r"maps \[n, c, h, w\] or vectors"),
    ],
)
def test_shapes_that_do_not_compare(student: list[int], teacher: list[int], wanted: str) -> None:
    with pytest.raises(UserError, match=wanted):
        term(Seen(), "a", torch.Size(student), torch.Size(teacher))
