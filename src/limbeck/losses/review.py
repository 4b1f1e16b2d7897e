"""Knowledge review (ReviewKD): deep features of the student help its shallow ones to be the teacher's."""

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.losses._means import precise

__all__ = ["Review"]

WIDEST = 512
"""Most channels in which levels are fused."""

POOLED = (4, 2, 1)
"""Sides of the grids that features are also compared on, each counting half of the one before."""


def hierarchical(student: Float[Tensor, "n c h w"], teacher: Float[Tensor, "n c h w"]) -> Float[Tensor, ""]:
    """Mean squared difference of the maps and of their means over ever larger cells, weighed 1, 1/2, 1/4, 1/8."""
    found, weight, total = F.mse_loss(student, teacher), 1.0, 1.0
    for side in POOLED:
        if side < min(student.shape[2:]):
            weight /= 2
            total += weight
            mine, theirs = F.adaptive_avg_pool2d(student, side), F.adaptive_avg_pool2d(teacher, side)
            found = found + weight * F.mse_loss(mine, theirs)
    return found / total


class Fusion(nn.Module):
    """Attention-based fusion of a level with all deeper ones: what the teacher has here, and what goes on."""

    def __init__(self, channels: int, middle: int, out: int, deepest: bool) -> None:
        super().__init__()
        first, last = nn.Conv2d(channels, middle, 1, bias=False), nn.Conv2d(middle, out, 3, padding=1, bias=False)
        nn.init.kaiming_uniform_(first.weight, a=1)
        nn.init.kaiming_uniform_(last.weight, a=1)
        self.narrow = nn.Sequential(first, nn.BatchNorm2d(middle))
        self.attention = None if deepest else nn.Sequential(nn.Conv2d(2 * middle, 2, 1), nn.Sigmoid())
        self.widen = nn.Sequential(last, nn.BatchNorm2d(out))

    def forward(self, level: Tensor, deeper: Tensor | None, size: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Compare at ``size``; ``deeper`` is what went on from the level below, None at the deepest."""
        level = self.narrow(level)
        if self.attention is not None and deeper is not None:
            deeper = F.interpolate(deeper, level.shape[2:], mode="nearest")
            weights = self.attention(torch.cat([level, deeper], dim=1))
            level = weights[:, :1] * level + weights[:, 1:] * deeper
        if level.shape[2:] != torch.Size(size):
            level = F.interpolate(level, tuple(size), mode="nearest")
        return self.widen(level), level


class Review(nn.Module):
    """Make each level of the student, fused with all deeper ones, the teacher's level.

    ``at`` is a list from shallow to deep, ``[layer1 -> layer1, layer2 -> layer2]``. The fusion is trained beside the
    student and left out of its file. Looks at no labels. The sum over the levels; wants a warm-up, as published.
    Source: Chen et al., Distilling Knowledge via Knowledge Review, CVPR 2021, section 3 (arXiv:2104.09044).
    """

    levels: ClassVar[bool] = True
    any_channels: ClassVar[bool] = True
    maps_only: ClassVar[bool] = True
    lacks: ClassVar[frozenset[str]] = frozenset({"void", "equality", "batch_split"})

    def bind(self, student: Sequence[tuple[int, ...]], teacher: Sequence[tuple[int, ...]]) -> None:
        """Make a fusion for every level."""
        middle = min(WIDEST, student[-1][1])
        last = len(student) - 1
        self.fusions = nn.ModuleList(
            Fusion(mine[1], middle, theirs[1], index == last)
            for index, (mine, theirs) in enumerate(zip(student, teacher, strict=True))
        )

    def forward(self, student: list[Tensor], teacher: list[Tensor], target: Tensor | None) -> Tensor:
        """Scalar loss of maps [n, c, h, w] of any size and channels, shallow to deep; the target plays no part."""
        deeper, lost = None, []
        for fusion, mine, theirs in zip(reversed(self.fusions), reversed(student), reversed(teacher), strict=True):
            found, deeper = fusion(precise(mine), deeper, theirs.shape[2:])
            lost.append(hierarchical(found, precise(theirs)))
        return torch.stack(lost).sum()
