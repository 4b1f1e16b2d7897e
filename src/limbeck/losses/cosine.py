"""Cosine distillation: features that point the same way."""

from typing import ClassVar, Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.losses._means import SMALL, mean_over, precise

__all__ = ["Cosine"]


def cosine(
    student: Float[Tensor, "n c *space"],
    teacher: Float[Tensor, "n c *space"],
    of: Literal["images", "pixels"],
    weights: Float[Tensor, "n *space"] | None = None,
) -> Float[Tensor, ""]:
    """Mean of 1 - cos between the vectors of whole flattened maps, or of single pixels.

    Weights of positions are those of the mean over pixels, and of the products of whole maps.
    """
    student, teacher = precise(student), precise(teacher)
    if of == "pixels":
        return mean_over(1 - F.cosine_similarity(student, teacher, dim=1, eps=SMALL), None, weights)
    if weights is not None:
        student, teacher = (maps * weights[:, None].sqrt() for maps in (student, teacher))
    return 1 - F.cosine_similarity(student.flatten(1), teacher.flatten(1), dim=1, eps=SMALL).mean()


class Cosine(nn.Module):
    """Make the student's features point where the teacher's do, whatever their length.

    ``images`` compares maps as one vector each, so that pixels with large features count most; ``pixels`` compares
    every pixel and averages. Looks at no labels: void pixels count too. Between different channel counts the term's
    trained 1x1 projector stands. Source: the ELEC 475 course's feature loss is the form of ``images``, an embedding
    loss of flattened maps.

    Args:
        of: What a vector is.
    """

    lacks: ClassVar[frozenset[str]] = frozenset({"void"})

    def __init__(self, of: Literal["images", "pixels"] = "images") -> None:
        super().__init__()
        self.of = of

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor | None, weights: Tensor | None = None) -> Tensor:
        """Scalar loss of two maps of equal size and channels; the target plays no part."""
        return cosine(student, teacher, self.of, weights)
