"""Hint distillation (FitNets): features of equal value."""

from collections.abc import Mapping
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from limbeck.losses._means import mean_over, precise
from limbeck.losses._presets import Preset

__all__ = ["Hint"]


def hint(
    student: Float[Tensor, "n c *space"],
    teacher: Float[Tensor, "n c *space"],
    weights: Float[Tensor, "n *space"] | None = None,
) -> Float[Tensor, ""]:
    """Mean over images, positions and channels of the squared difference; positions by their weights."""
    return mean_over((precise(student) - precise(teacher)).square().mean(1), None, weights)


class Hint(nn.Module):
    """Make the student's features equal the teacher's, behind a trained 1x1 projector where channels differ.

    Sees the teacher's scale: where that is unknown ``pkd`` and ``cosine`` are easier to weigh. Looks at no labels: void
    pixels count too.
    Source: Romero et al., FitNets: Hints for Thin Deep Nets, ICLR 2015, eq. 3 (arXiv:1412.6550), as a mean and without
    the factor 1/2.
    """

    presets: ClassVar[Mapping[str, Preset]] = {"cirkd": Preset(10.0), "mdistiller": Preset(100.0)}
    lacks: ClassVar[frozenset[str]] = frozenset({"void"})

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor | None, weights: Tensor | None = None) -> Tensor:
        """Scalar loss of two maps of equal size and channels, or of vectors [n, c]; the target plays no part."""
        return hint(student, teacher, weights)
