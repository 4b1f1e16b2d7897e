"""Masked generative distillation (MGD): the teacher's features from a part of the student's."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from limbeck.losses._means import precise
from limbeck.losses._presets import Preset

__all__ = ["MaskedGenerative"]


class MaskedGenerative(nn.Module):
    """Make the student's features tell the teacher's, where they are and where they were hidden.

    Positions are hidden at random and a generator of two 3x3 convolutions, trained beside the student and left out of
    its file, restores the teacher's map. It is as wide as the teacher's map, which may cost more than the teacher: tap
    a narrow one. Looks at no labels: void pixels count too.

    The loss is a mean. The published one is a sum over channels and positions for an image: its alpha is a weight of
    alpha c h w here, which ``compat`` works out for the size at hand.
    Source: Yang et al., Masked Generative Distillation, ECCV 2022, section 3 (arXiv:2205.01529).

    Args:
        hidden: Share of the positions that are hidden, in [0, 1).

    Raises:
        ValueError: If ``hidden`` is not in [0, 1).
    """

    maps_only: ClassVar[bool] = True
    presets: ClassVar[Mapping[str, Preset]] = {
        "paper-segmentation": Preset(2e-5, {"hidden": 0.75}, sums="values"),
        "paper-detection": Preset(2e-5, {"hidden": 0.65}, sums="values"),
    }
    lacks: ClassVar[frozenset[str]] = frozenset({"void", "equality", "batch_split", "repeat", "permutation"})

    def __init__(self, hidden: float = 0.75) -> None:
        super().__init__()
        if not 0 <= hidden < 1:
            raise ValueError(f"hidden must be in [0, 1), got {hidden}")
        self.hidden = hidden

    def bind(self, student: Sequence[tuple[int, ...]], teacher: Sequence[tuple[int, ...]]) -> None:
        """Make the generator, at the teacher's width; the term's projector has brought the student there."""
        width = teacher[0][1]
        self.generator = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)
        )

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor | None) -> Tensor:
        """Scalar loss of two maps of equal size and channels; the target plays no part."""
        student = precise(student)
        if self.training:
            drawn = torch.rand_like(student[:, :1], memory_format=torch.contiguous_format)
            student = student * (drawn >= self.hidden)
        found: Tensor = self.generator(student)
        return (found - precise(teacher)).square().mean()
