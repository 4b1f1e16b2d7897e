"""Cosine distillation: features that point the same way."""

from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["Cosine"]


def cosine(
    student: Float[Tensor, "n c *space"], teacher: Float[Tensor, "n c *space"], of: Literal["images", "pixels"]
) -> Float[Tensor, ""]:
    """Mean of 1 - cos between the vectors of whole flattened maps, or of single pixels."""
    student, teacher = student.float(), teacher.float()
    if of == "images":
        student, teacher = student.flatten(1), teacher.flatten(1)
    return 1 - F.cosine_similarity(student, teacher, dim=1).mean()


class Cosine(nn.Module):
    """Make the student's features point where the teacher's do, whatever their length.

    ``images`` compares maps as one vector each, so that pixels with large features count most; ``pixels`` compares
    every pixel and averages. Looks at no labels: void pixels count too. Between different channel counts the term's
    trained 1x1 projector stands.

    Args:
        of: What a vector is.
    """

    def __init__(self, of: Literal["images", "pixels"] = "images") -> None:
        super().__init__()
        self.of = of

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor | None) -> Tensor:
        """Scalar loss of two maps of equal size and channels; the target plays no part."""
        return cosine(student, teacher, self.of)
