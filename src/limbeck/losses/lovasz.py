"""Lovasz-softmax loss: a smooth stand-in for one minus the IoU."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from limbeck.data.sample import VOID
from limbeck.losses._labels import maps_at_target

__all__ = ["Lovasz"]


def lovasz_extension(errors: Float[Tensor, " p"], truth: Bool[Tensor, " p"]) -> Float[Tensor, ""]:
    """Lovasz extension of the Jaccard loss, for one class that is there: errors weighed by what each costs in IoU.

    What the k-th largest error adds is taken in closed form, 1 / union for a missed pixel and intersection / (union
    (union - 1)) for a wrong one: differences of sums over millions of pixels would be lost in float32.
    """
    order = errors.detach().argsort(descending=True)
    missed = truth[order]
    area = missed.sum()
    intersection = area - missed.cumsum(0)
    union = area + (~missed).cumsum(0)
    weight = torch.where(missed, 1 / union, intersection / (union * (union - 1).clamp(min=1)))
    return errors[order] @ weight


def lovasz_softmax(probabilities: Float[Tensor, "p c"], labels: Int[Tensor, " p"]) -> Float[Tensor, ""]:
    """Mean over the classes that are there of the extension at |truth - probability|; 0 for no pixels."""
    lost = [
        lovasz_extension((labels == label).float().sub(probabilities[:, label]).abs(), labels == label)
        for label in torch.unique(labels)
    ]
    return torch.stack(lost).mean() if lost else probabilities.sum()


class Lovasz(nn.Module):
    """IoU of the classes that are there, made differentiable; void is left out.

    Source: Berman et al., The Lovasz-Softmax loss, CVPR 2018, eqs. 8-11 and algorithm 1 (arXiv:1705.08790).

    Args:
        per_image: IoU of each image, averaged; otherwise of the batch as a whole.
    """

    lacks: ClassVar[frozenset[str]] = frozenset({"batch_split", "compile"})

    def __init__(self, per_image: bool = False) -> None:
        super().__init__()
        self.per_image = per_image

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Scalar loss of logits [n, c, h', w'] against class ids [n, h, w]; 0 when all is void."""
        found = F.softmax(maps_at_target(logits, target, "lovasz"), dim=1).movedim(1, -1)
        valid = target != VOID
        if not self.per_image:
            return lovasz_softmax(found[valid], target[valid])
        lost = [lovasz_softmax(p[v], t[v]) for p, t, v in zip(found, target, valid, strict=True)]
        return torch.stack(lost).sum() / valid.any((1, 2)).sum().clamp(min=1)
