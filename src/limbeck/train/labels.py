"""Losses against the labels: of the logits, and of auxiliary heads."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from limbeck.recipe import Ramp
from limbeck.train.ramps import factor
from limbeck.train.taps import LOGITS

__all__ = ["TaskTerm", "of_heads"]

EVEN = Ramp()


class TaskTerm(nn.Module):
    """One loss against the labels: its name in the log, its weight, and the place it looks at.

    Terms of one name are added up in the log.
    """

    def __init__(
        self, name: str, loss: nn.Module, weight: float = 1.0, at: str = LOGITS, ramp: Ramp = EVEN
    ) -> None:  # fmt: skip
        super().__init__()
        self.name, self.loss, self.weight, self.at, self.ramp = name, loss, weight, at, ramp

    def forward(
        self, taps: Mapping[str, Tensor], target: Tensor, share: float = 0.5, steps: int | None = None
    ) -> Tensor:
        """Weighted scalar loss of what was tapped, in float32; 0, without a look at it, where the weight is 0."""
        found = taps[self.at].float()
        weight = self.weight * factor(self.ramp, share, steps)
        if not weight:
            return 0.0 * found[(0,) * found.ndim]
        with torch.autocast(found.device.type, enabled=False):  # it would multiply matrices in 16 bits
            loss: Tensor = self.loss(found, target)
        return weight * loss


def of_heads(heads: Mapping[str, float | TaskTerm], task: Sequence[TaskTerm]) -> list[TaskTerm]:
    """Terms of auxiliary heads by path: a number weighs the terms of the logits there, a term is the head's own.

    Where the labels play no part, because every weight of ``task`` is 0, they play none for a head of its own loss.
    """
    found = []
    for path, head in heads.items():
        if isinstance(head, TaskTerm):
            found.append(TaskTerm(path, head.loss, head.weight * any(term.weight for term in task), path))
        else:
            found += [TaskTerm(path, term.loss, head * term.weight, path, term.ramp) for term in task]
    return found
