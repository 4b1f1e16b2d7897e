"""Cross-entropy against the labels."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from limbeck.data.sample import void_of

__all__ = ["CrossEntropy"]
ClassWeights = Literal["inverse_frequency", "median_frequency", "log_frequency"]


def cross_entropy(
    logits: Float[Tensor, "n c *space"], target: Int[Tensor, "n *space"], weights: Tensor | None, smoothing: float
) -> Float[Tensor, ""]:
    """Weighted mean of -log p(label) over the pixels, or images, that are not void; 0 when there is none."""
    void = void_of(target)
    summed = F.cross_entropy(
        logits.float(), target, weights, ignore_index=void, label_smoothing=smoothing, reduction="sum"
    )
    valid = target != void
    total = valid.sum() if weights is None else weights[target[valid]].sum()
    return summed / total.clamp(min=torch.finfo(torch.float32).tiny)


def class_weights(pixels: Sequence[int], kind: ClassWeights) -> Tensor:
    """Weights of mean 1 that raise rare classes; a class without a pixel gets 0.

    ``inverse_frequency``: 1 / share. ``median_frequency``: median share / share, Eigen & Fergus 2015, section 6.3.2.
    ``log_frequency``: 1 / ln(1.02 + share), Paszke et al., ENet, 2016, section 5.2.
    """
    share = torch.tensor(pixels, dtype=torch.float64)
    share = share / share.sum().clamp(min=1)
    seen = share > 0
    # The median of median_frequency cancels in the normalisation.
    raised = 1 / torch.log(1.02 + share) if kind == "log_frequency" else 1 / share.clamp(min=1e-12)
    weights = torch.where(seen, raised, 0.0)
    return (weights / weights.sum().clamp(min=1e-12) * seen.sum()).float()


class CrossEntropy(nn.Module):
    """Cross-entropy of the logits, resized to the target's size, with void left out.

    Args:
        class_weights: Raise rare classes, by the training split's pixels (images, where each has one class); None
            weighs all the same.
        label_smoothing: Share of the label's mass that is spread over all classes.
        class_pixels: Pixels of each class, from the data.
    """

    weights: Tensor | None

    def __init__(
        self,
        class_weights: ClassWeights | None = None,
        label_smoothing: float = 0.0,
        class_pixels: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}")
        if class_weights and class_pixels is None:
            raise ValueError(f"class_weights: {class_weights} needs labelled training data")
        weights = _weights(class_pixels, class_weights) if class_weights and class_pixels is not None else None
        self.register_buffer("weights", weights, persistent=False)
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Scalar loss of logits [n, c, h', w'] against class ids [n, h, w], or of [n, c] against [n]."""
        if logits.ndim == 4:
            logits = F.interpolate(logits.float(), target.shape[-2:], mode="bilinear", align_corners=False)
        return cross_entropy(logits, target, self.weights, self.label_smoothing)


_weights = class_weights
