"""The student's own running average as a teacher: self-distillation."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.data.views import Batch
from limbeck.train.optim import early_decay
from limbeck.train.teacher import Precision, Teacher

__all__ = ["Average"]


class Average:
    """A copy of the student that follows it: parameters and batch norm statistics are averaged over the steps.

    It starts as the student does. The share that stays at a step is ``decay``, and less in the first steps.

    Source: Tarvainen and Valpola, Mean teachers are better role models, NeurIPS 2017 (arXiv:1703.01780), section 2.

    Args:
        student: The network to follow, without hooks of its own taps yet.
        decay: Share of the average that stays at each step.
        paths: Places to look at.
        name: What terms call it; empty for the only teacher.
        mean: What its input is normalised with.
        std: Likewise.
        precision: Of its forward pass; whatever surrounds the call if None.
    """

    def __init__(
        self,
        student: nn.Module,
        decay: float,
        paths: Sequence[str],
        name: str = "",
        *,
        mean: Sequence[float],
        std: Sequence[float],
        precision: Precision | None = None,
    ) -> None:
        self.decay, self.name, self.updates = decay, name, 0
        self.teacher = Teacher(copy.deepcopy(student), mean, std, paths, precision=precision)

    def __call__(self, batch: Batch) -> Mapping[str, Tensor]:
        """What the average computes at the tapped places."""
        return self.teacher(batch)

    @torch.no_grad()
    def follow(self, student: nn.Module) -> None:
        """Move towards the student; whole numbers, such as counts of batches, are taken over."""
        self.updates += 1
        share = 1 - early_decay(self.decay, self.updates)
        theirs = dict(_tensors(student))
        for name, mine in _tensors(self.teacher.model):
            if mine.is_floating_point():
                mine.lerp_(theirs[name].detach(), share)
            else:
                mine.copy_(theirs[name])

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs."""
        return {"updates": self.updates, "average": self.teacher.model.state_dict()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take up where :meth:`state` was."""
        self.updates = int(state["updates"])
        self.teacher.model.load_state_dict(state["average"])

    def to(self, device: torch.device) -> "Average":
        """Move it."""
        self.teacher.model.to(device).to(memory_format=torch.channels_last)
        return self

    def close(self) -> None:
        """Take its hooks off."""
        self.teacher.close()


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers, one that is shared only once."""
    yield from model.named_parameters()
    yield from model.named_buffers()
