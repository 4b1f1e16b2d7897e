"""Focal loss: cross-entropy that looks away from what is already right."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from limbeck.data.sample import void_of
from limbeck.data.stats import ClassCounts
from limbeck.losses._labels import ClassWeights, at_target, image_weights, of_labels, weights_of

__all__ = ["Focal"]

SMALL = 1e-8
"""Least 1 - p: a power below 1 has no slope at 0."""


def focal(
    logits: Float[Tensor, "n c *space"], target: Int[Tensor, "n *space"], gamma: float, weights: Tensor | None
) -> Float[Tensor, ""]:
    """Mean over the pixels that are not void of -alpha_t (1 - p_t)^gamma log p_t; 0 when there is none."""
    void = void_of(target)
    entropy = F.cross_entropy(logits, target, ignore_index=void, reduction="none")
    missing = (-torch.expm1(-entropy)).clamp(min=SMALL)
    alpha = 1.0 if weights is None else of_labels(weights, target)
    return (alpha * missing**gamma * entropy).sum() / (target != void).sum().clamp(min=1)


class Focal(nn.Module):
    """Cross-entropy weighed by how far from 1 the label's probability is; void is left out.

    Source: Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, eq. 5 (arXiv:1708.02002), with a softmax over
    the classes.

    Args:
        gamma: How far it looks away; 0 is cross-entropy.
        class_weights: The paper's alpha, by the training split's pixels, a number for each class, or ``per_image`` by
            the pixels of each image; None weighs all the same. They scale the loss: it is divided by the number of
            pixels, not by their weights.
        class_counts: How often each class is there, from the data.

    Raises:
        ValueError: If ``gamma`` is negative.
    """

    weights: Tensor | None

    def __init__(
        self,
        gamma: float = 2.0,
        class_weights: ClassWeights | list[float] | None = None,
        class_counts: ClassCounts | None = None,
    ) -> None:
        super().__init__()
        if gamma < 0:
            raise ValueError(f"gamma must be >= 0, got {gamma}")
        self.gamma, self.per_image = gamma, class_weights == "per_image"
        self.register_buffer("weights", weights_of(class_weights, class_counts), persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Scalar loss of logits [n, c, h', w'] against class ids [n, h, w], or of [n, c] against [n]."""
        logits = at_target(logits, target)
        weights = image_weights(target, logits.shape[1]) if self.per_image else self.weights
        return focal(logits, target, self.gamma, weights)
