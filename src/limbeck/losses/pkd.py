"""Pearson feature distillation (PKD)."""

from collections.abc import Mapping
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from limbeck.losses._means import SMALL, precise
from limbeck.losses._presets import Preset

__all__ = ["Pearson"]


def scores(maps: Float[Tensor, "n c *space"]) -> Float[Tensor, "c p"]:
    """Each channel with mean 0 and standard deviation 1 over all positions of all images; 0 where it is constant."""
    values = precise(maps).movedim(1, 0).flatten(1)
    spread = values.std(1, correction=min(1, values.shape[1] - 1), keepdim=True)  # one position has no spread
    return (values - values.mean(1, keepdim=True)) / (spread + SMALL)


def pearson(student: Float[Tensor, "n c *space"], teacher: Float[Tensor, "n c *space"]) -> Float[Tensor, ""]:
    """Half the mean squared difference of the standardised maps: 1 - Pearson's correlation, averaged over channels."""
    return (scores(student) - scores(teacher)).square().mean() / 2


class Pearson(nn.Module):
    """Make each channel of the student rise and fall where the teacher's does, whatever the scale and offset of both.

    One weight suits different networks. Statistics are those of the batch, which is better not small. Looks at no
    labels: void pixels count too. Between different channel counts the term's trained 1x1 projector stands.
    Source: Cao et al., PKD: General Distillation Framework for Object Detectors via Pearson Correlation Coefficient,
    NeurIPS 2022, section 3 (arXiv:2207.02039).
    """

    presets: ClassVar[Mapping[str, Preset]] = {"mmrazor-detection": Preset(6.0)}
    lacks: ClassVar[frozenset[str]] = frozenset({"void", "batch_split", "repeat"})

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor | None) -> Tensor:
        """Scalar loss of two maps of equal size and channels, or of vectors [n, c]; the target plays no part."""
        return pearson(student, teacher)
