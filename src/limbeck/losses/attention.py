"""Attention transfer (AT)."""

from collections.abc import Mapping
from typing import ClassVar

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.losses._means import precise
from limbeck.losses._presets import Preset

__all__ = ["Attention"]


def attention(maps: Float[Tensor, "n c *space"], power: float) -> Float[Tensor, "n p"]:
    """Where a network looks: mean over channels of |x|^power at each position, as a vector of length 1."""
    return F.normalize(precise(maps).abs().pow(power).mean(1).flatten(1), dim=1)


class Attention(nn.Module):
    """Make the student look where the teacher looks, whatever the number of their channels.

    The mean of the squared difference over images and positions, which have length 1 together: weights are large, 1,000
    in the published code. Looks at no labels.
    Source: Zagoruyko & Komodakis, Paying More Attention to Attention, ICLR 2017, section 3.1 (arXiv:1612.03928),
    squared and averaged as in the authors' code.

    Args:
        power: Exponent; higher looks at the strongest positions alone. At least 1.

    Raises:
        ValueError: If ``power`` is less than 1.
    """

    any_channels: ClassVar[bool] = True
    maps_only: ClassVar[bool] = True
    presets: ClassVar[Mapping[str, Preset]] = {"paper": Preset(1000.0), "cirkd": Preset(10000.0)}
    lacks: ClassVar[frozenset[str]] = frozenset({"void"})

    def __init__(self, power: float = 2.0) -> None:
        super().__init__()
        if power < 1:
            raise ValueError(f"power must be >= 1, got {power}")
        self.power = power

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor | None) -> Tensor:
        """Scalar loss of two maps of equal size; the target plays no part."""
        return F.mse_loss(attention(student, self.power), attention(teacher, self.power))
