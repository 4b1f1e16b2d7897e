"""Distillation from a stronger teacher (DIST): correlations between classes and between pixels."""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from limbeck.losses._means import SMALL, precise, shares, standardised, valid_in
from limbeck.losses._presets import Preset

__all__ = ["Dist"]


def unrelated(
    student: Float[Tensor, "rows columns"],
    teacher: Float[Tensor, "rows columns"],
    counts: Float[Tensor, "#rows columns"],
) -> tuple[Float[Tensor, " rows"], Bool[Tensor, " rows"]]:
    """1 - Pearson's correlation of every row, its columns counting as said, and whether the teacher's row varies."""
    student, teacher = (x - (counts * x).sum(1, keepdim=True) for x in (student, teacher))
    spread_s, spread_t = ((counts * x.square()).sum(1) for x in (student, teacher))
    # The root of 0 has no slope; a spread of less than SMALL is none.
    both = spread_s.clamp(min=SMALL**2).sqrt() * spread_t.clamp(min=SMALL**2).sqrt()
    return 1 - (counts * student * teacher).sum(1) / both, spread_t > SMALL**2


def dist(
    student: Float[Tensor, "n c *space"],
    teacher: Float[Tensor, "n c *space"],
    temperature: float,
    beta: float,
    gamma: float,
    counts: Float[Tensor, "n *space"],
) -> Float[Tensor, ""]:
    """tau^2 (beta inter + gamma intra) of the softmaxes at tau; ``counts`` are each position's share of the means.

    Inter is the mean over positions of 1 - correlation over the classes, intra the mean over classes of 1 - correlation
    over the positions. Rows and columns in which the teacher does not vary say nothing and are left out.
    """
    rows_s, rows_t = (F.softmax(x / temperature, dim=1).movedim(1, -1).flatten(0, -2) for x in (student, teacher))
    over = counts.flatten()
    inter, told = unrelated(rows_s, rows_t, torch.full_like(rows_s[:1], 1 / rows_s.shape[1]))
    there = over * told
    inter = (there * inter).sum() / there.sum().clamp(min=torch.finfo(over.dtype).tiny)
    intra, told = unrelated(rows_s.T, rows_t.T, over[None])
    intra = torch.where(told, intra, 0.0).sum() / told.sum().clamp(min=1)
    return temperature**2 * (beta * inter + gamma * intra)


class Dist(nn.Module):
    """Make the student rank classes as the teacher does, in every pixel and, of each class, from pixel to pixel.

    Asks for linear relation instead of equality, which a student can follow when the teacher is much stronger. For
    logits [n, c] pixels are images. The second part compares all pixels of the batch.
    Source: Huang et al., Knowledge Distillation from A Stronger Teacher, NeurIPS 2022, section 3 (arXiv:2205.10536),
    for maps over all their pixels as in the authors' code for segmentation.

    Args:
        temperature: Softens both distributions; greater than 0.
        beta: Weight of the part between classes.
        gamma: Weight of the part between pixels.
        mask: ``valid`` leaves void pixels out; ``all`` trusts the teacher there too.
        standardise: Divide the logits of every pixel by their spread over the classes first.

    Raises:
        ValueError: If ``temperature`` is not positive, or a weight is negative.
    """

    presets: ClassVar[Mapping[str, Preset]] = {
        "paper-segmentation": Preset(1.0, {"mask": "all"}),
        "paper-imagenet": Preset(2.0),
        "mmrazor": Preset(2.0),
    }
    lacks: ClassVar[frozenset[str]] = frozenset({"batch_split"})

    def __init__(
        self,
        temperature: float = 1.0,
        beta: float = 1.0,
        gamma: float = 1.0,
        mask: Literal["valid", "all"] = "valid",
        standardise: bool = False,
    ) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature must be > 0, got {temperature}")
        if min(beta, gamma) < 0:
            raise ValueError(f"beta and gamma must be >= 0, got {beta} and {gamma}")
        self.temperature, self.beta, self.gamma, self.mask = temperature, beta, gamma, mask
        self.ready = standardised if standardise else precise

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor | None, weights: Tensor | None = None) -> Tensor:
        """Scalar loss of two logit maps of equal size, or of logits [n, c]; 0 when all is void."""
        student, teacher = self.ready(student), self.ready(teacher)
        counts = shares(student[:, 0], valid_in(target) if self.mask == "valid" else None, weights)
        return dist(student, teacher, self.temperature, self.beta, self.gamma, counts)
