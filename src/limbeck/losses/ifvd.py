"""Intra-class feature variation distillation (IFVD)."""

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from limbeck.data.sample import VOID
from limbeck.losses._means import SMALL, mean_over, precise
from limbeck.losses._presets import Preset

__all__ = ["IntraClassVariation"]


def likeness(features: Float[Tensor, "n c p"], members: Float[Tensor, "n k p"]) -> Float[Tensor, "n p"]:
    """Cosine of every pixel's features with the mean of its class in its own image; ``members`` are one-hot labels."""
    count = members.sum(2, keepdim=True).clamp(min=1)
    centres = members @ features.transpose(1, 2) / count
    return F.cosine_similarity(features, centres.transpose(1, 2) @ members, dim=1, eps=SMALL)


def variation(
    student: Float[Tensor, "n cs h w"],
    teacher: Float[Tensor, "n ct h w"],
    target: Int[Tensor, "n h w"],
    classes: int,
    weights: Float[Tensor, "n h w"] | None = None,
) -> Float[Tensor, ""]:
    """Mean over valid pixels of the squared difference of both networks' likenesses; 0 when all is void."""
    student, teacher = precise(student).flatten(2), precise(teacher).flatten(2)
    valid = (target != VOID).flatten(1)
    labels = torch.where(valid, target.flatten(1), 0)
    members = F.one_hot(labels, classes).transpose(1, 2).to(student.dtype) * valid[:, None]
    difference = likeness(student, members) - likeness(teacher, members)
    return mean_over(difference.square(), valid, None if weights is None else weights.flatten(1))


class IntraClassVariation(nn.Module):
    """Make pixels of the student lie around their class's mean as those of the teacher do, in any number of channels.

    Looks at labels as classes; void, and images without labels, play no part.
    Source: Wang et al., Intra-class Feature Variation Distillation for Semantic Segmentation, ECCV 2020, eqs. 1-3.

    Args:
        num_classes: Classes of the data.
    """

    any_channels: ClassVar[bool] = True
    maps_only: ClassVar[bool] = True
    reads_labels: ClassVar[bool] = True
    presets: ClassVar[Mapping[str, Preset]] = {"paper": Preset(20.0), "segdistill": Preset(10.0)}

    def __init__(self, num_classes: int = VOID) -> None:
        super().__init__()
        self.num_classes = num_classes

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor | None, weights: Tensor | None = None) -> Tensor:
        """Scalar loss of two maps of equal size against class ids of that size."""
        if target is None:
            target = torch.full_like(student[:, 0], VOID, dtype=torch.int64)
        return variation(student, teacher, target, self.num_classes, weights)
