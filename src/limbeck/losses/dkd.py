"""Decoupled knowledge distillation (DKD): the label's probability, and the others among themselves."""

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from limbeck.data.sample import NO_CLASS, VOID, void_of
from limbeck.losses._means import mean_over, precise, standardised, valid_in
from limbeck.losses._presets import Preset

__all__ = ["Decoupled"]


def decoupled(
    student: Float[Tensor, "n c *space"], teacher: Float[Tensor, "n c *space"], labels: Int[Tensor, "n *space"]
) -> tuple[Float[Tensor, "n *space"], Float[Tensor, "n *space"]]:
    """KL at every position between the binary distributions (label, any other), and between those of the others."""
    is_label = (
        torch.arange(student.shape[1], device=labels.device).view(-1, *[1] * (labels.ndim - 1)) == labels[:, None]
    )
    logs = [F.log_softmax(logits, dim=1) for logits in (student, teacher)]
    own = [log.gather(1, labels[:, None])[:, 0] for log in logs]
    rest = [log.masked_fill(is_label, -torch.inf).logsumexp(1) for log in logs]
    target = own[1].exp() * (own[1] - own[0]) + rest[1].exp() * (rest[1] - rest[0])
    # Where a label was taken out both are -inf, and their difference is nothing.
    others = [F.log_softmax(log.masked_fill(is_label, -torch.inf), dim=1).masked_fill(is_label, 0.0) for log in logs]
    return target, (others[1].exp() * (others[1] - others[0])).sum(1)


class Decoupled(nn.Module):
    """Teach how sure of the label to be and, apart from that, how the other classes rank, which ``kd`` ties together.

    ``kd`` at temperature 1 is alpha 1 with a beta of 1 - p of the teacher's label: it stops to teach the others where
    the teacher is sure. Looks at labels as classes; void, and images without labels, play no part. A high ``beta``
    wants a warm-up: ``schedule: {warmup: 0.1}``.
    Source: Zhao et al., Decoupled Knowledge Distillation, CVPR 2022, eqs. 6-7 (arXiv:2203.08679); for maps at every
    valid pixel.

    Args:
        alpha: Weight of the label's part.
        beta: Weight of the others' part.
        temperature: Softens both distributions; greater than 0.
        standardise: Divide the logits of every pixel by their spread over the classes first.

    Raises:
        ValueError: If ``temperature`` is not positive, or a weight is negative.
    """

    reads_labels: ClassVar[bool] = True
    presets: ClassVar[Mapping[str, Preset]] = {
        "paper-cifar": Preset(1.0, {"alpha": 1.0, "beta": 8.0, "temperature": 4.0}),
        "paper-imagenet": Preset(1.0, {"alpha": 1.0, "beta": 0.5, "temperature": 1.0}),
    }

    def __init__(
        self, alpha: float = 1.0, beta: float = 8.0, temperature: float = 4.0, standardise: bool = False
    ) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature must be > 0, got {temperature}")
        if min(alpha, beta) < 0:
            raise ValueError(f"alpha and beta must be >= 0, got {alpha} and {beta}")
        self.alpha, self.beta, self.temperature = alpha, beta, temperature
        self.ready = standardised if standardise else precise

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor | None, weights: Tensor | None = None) -> Tensor:
        """Scalar loss of two logit maps of equal size, or of logits [n, c], against class ids; 0 when all is void."""
        if target is None:
            target = torch.full_like(student[:, 0], VOID if student.ndim > 2 else NO_CLASS, dtype=torch.int64)
        student, teacher = (self.ready(logits) / self.temperature for logits in (student, teacher))
        valid = valid_in(target)
        label, others = decoupled(student, teacher, torch.where(target != void_of(target), target, 0))
        return self.temperature**2 * mean_over(self.alpha * label + self.beta * others, valid, weights)
