"""Where the other side of the distillation terms comes from: a frozen network, or what one gave before."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from limbeck.data.views import Batch
from limbeck.graph.network import with_channels
from limbeck.train.taps import LOGITS, Tapped

__all__ = ["Source", "Teacher", "channels"]


class Source(Protocol):
    """Gives the teacher's side of every term for a batch."""

    def __call__(self, batch: Batch) -> Mapping[str, Tensor]:
        """Tensors without gradients by the place that terms name."""
        ...

    def close(self) -> None:
        """Let go of hooks and files."""
        ...


class Teacher:
    """A frozen network: in eval mode, without gradients, never part of what is trained or saved."""

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float], paths: Sequence[str]) -> None:
        self.model = model.eval().requires_grad_(False)
        self.mean, self.std = channels(mean), channels(std)
        self.tapped, self._whole = Tapped(self.model, paths, "teacher"), LOGITS in paths

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Mapping[str, Tensor]:
        """What it computes at the tapped places for the batch's images in 0..1, and no further."""
        assert not self.model.training
        image = with_channels(batch["image"], self.mean.shape[1])
        image = (image - self.mean.to(image.device)) / self.std.to(image.device)
        return self.tapped(image)[1] if self._whole else self.tapped.only(image)

    def close(self) -> None:
        """Take its hooks off."""
        self.tapped.close()


def channels(values: Sequence[float]) -> Tensor:
    """A value a channel, in the shape of a batch of images."""
    return torch.tensor(list(values), dtype=torch.float32).view(1, -1, 1, 1)
