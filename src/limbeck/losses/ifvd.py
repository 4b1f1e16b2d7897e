"""Intra-class feature variation distillation (IFVD)."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from limbeck.data.sample import VOID

__all__ = ["IntraClassVariation"]


def likeness(features: Float[Tensor, "n c p"], members: Float[Tensor, "n k p"]) -> Float[Tensor, "n p"]:
    """Cosine of every pixel's features with the mean of its class in its own image; ``members`` are one-hot labels."""
    count = members.sum(2, keepdim=True).clamp(min=1)
    centres = members @ features.transpose(1, 2) / count
    return F.cosine_similarity(features, centres.transpose(1, 2) @ members, dim=1)


def variation(
    student: Float[Tensor, "n cs h w"], teacher: Float[Tensor, "n ct h w"], target: Int[Tensor, "n h w"]
) -> Float[Tensor, ""]:
    """Mean over valid pixels of the squared difference of both networks' likenesses; 0 when all is void."""
    valid = (target != VOID).flatten(1)
    labels = torch.where(valid, target.flatten(1), 0)
    members = F.one_hot(labels).transpose(1, 2) * valid[:, None].float()
    difference = likeness(student.float().flatten(2), members) - likeness(teacher.float().flatten(2), members)
    return torch.where(valid, difference**2, 0.0).sum() / valid.sum().clamp(min=1)


class IntraClassVariation(nn.Module):
    """Make pixels of the student lie around their class's mean as those of the teacher do, in any number of channels.

    Looks at labels as classes; void, and images without labels, play no part.
    Source: Wang et al., Intra-class Feature Variation Distillation for Semantic Segmentation, ECCV 2020, eqs. 1-3.
    """

    any_channels: ClassVar[bool] = True
    reads_labels: ClassVar[bool] = True

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor | None) -> Tensor:
        """Scalar loss of two maps of equal size against class ids of that size."""
        if target is None:
            target = torch.full_like(student[:, 0], VOID, dtype=torch.int64)
        return variation(student, teacher, target)
