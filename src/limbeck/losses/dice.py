"""Dice loss: one minus the overlap of each class's probability with its area."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from limbeck.data.sample import VOID
from limbeck.losses._labels import maps_at_target

__all__ = ["Dice"]


def dice(
    logits: Float[Tensor, "n c h w"], target: Int[Tensor, "n h w"], per_image: bool, squared: bool
) -> Float[Tensor, ""]:
    """Mean over the classes that are there of 1 - 2 sum(p g) / (sum(p^2) + sum(g)); 0 when all is void."""
    valid = (target != VOID)[:, None]
    truth = F.one_hot(torch.where(valid[:, 0], target, 0), logits.shape[1]).movedim(-1, 1) * valid
    found = F.softmax(logits, dim=1) * valid
    over = (2, 3) if per_image else (0, 2, 3)
    area = truth.sum(over)
    both = (found * truth).sum(over)
    total = (found**2 if squared else found).sum(over) + area
    there = area > 0
    lost = torch.where(there, 1 - 2 * both / total.clamp(min=torch.finfo(torch.float32).tiny), 0.0)
    return lost.sum() / there.sum().clamp(min=1)


class Dice(nn.Module):
    """Overlap of classes, small ones counting as much as large ones; void is left out.

    Only classes with a valid pixel count: one that is absent can overlap with nothing. Use it beside ``cross_entropy``.
    Source: Milletari et al., V-Net, 3DV 2016, section 3 (arXiv:1606.04797), for every class.

    Args:
        per_image: Overlap of each image, averaged; otherwise of the batch as a whole.
        squared: Squares of the probabilities in the denominator, as published; otherwise the probabilities.
    """

    lacks: ClassVar[frozenset[str]] = frozenset({"batch_split"})

    def __init__(self, per_image: bool = False, squared: bool = True) -> None:
        super().__init__()
        self.per_image, self.squared = per_image, squared

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Scalar loss of logits [n, c, h', w'] against class ids [n, h, w]."""
        return dice(maps_at_target(logits, target, "dice"), target, self.per_image, self.squared)
