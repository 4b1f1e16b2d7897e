"""Cross-entropy against the labels."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from limbeck.data.sample import void_of
from limbeck.data.stats import ClassCounts
from limbeck.losses._labels import ClassWeights, at_target, image_weights, weights_of

__all__ = ["CrossEntropy"]


def cross_entropy(
    logits: Float[Tensor, "n c *space"], target: Int[Tensor, "n *space"], weights: Tensor | None, smoothing: float
) -> Float[Tensor, ""]:
    """Weighted mean of -log p(label) over the pixels, or images, that are not void; 0 when there is none."""
    void = void_of(target)
    summed = F.cross_entropy(
        logits.float(), target, weights, ignore_index=void, label_smoothing=smoothing, reduction="sum"
    )
    valid = target != void
    total = valid.sum() if weights is None else _weight_of(torch.where(valid, target, len(weights)), weights)
    return summed / total.clamp(min=torch.finfo(torch.float32).tiny)


def _weight_of(target: Int[Tensor, "n *space"], weights: Tensor) -> Tensor:
    """Sum of the labels' weights, by counting them; a label behind the last class counts nothing."""
    counts = torch.bincount(target.flatten(), minlength=len(weights) + 1)[: len(weights)]
    return (counts.to(weights.dtype) * weights).sum()


def of_each_image(
    logits: Float[Tensor, "n c h w"], target: Int[Tensor, "n h w"], smoothing: float
) -> Float[Tensor, ""]:
    """Mean over the images of their cross-entropies under their own weights; void images do not count, 0 when all are.

    SceneSeg's loss, which takes its images one by one.
    """
    weighed = zip(logits, target, image_weights(target, logits.shape[1]), strict=True)
    losses = [cross_entropy(one[None], labels[None], own, smoothing) for one, labels, own in weighed]
    labelled = (target != void_of(target)).flatten(1).any(1).sum()
    return torch.stack(losses).sum() / labelled.clamp(min=1)


class CrossEntropy(nn.Module):
    """Cross-entropy of the logits, resized to the target's size, with void left out.

    Args:
        class_weights: Raise rare classes, by the training split's pixels (images, where each has one class), or give a
            number for each; ``per_image`` raises what is rare in each image; None weighs all the same.
        label_smoothing: Share of the label's mass that is spread over all classes.
        class_counts: How often each class is there, from the data.
    """

    weights: Tensor | None

    def __init__(
        self,
        class_weights: ClassWeights | list[float] | None = None,
        label_smoothing: float = 0.0,
        class_counts: ClassCounts | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}")
        self.register_buffer("weights", weights_of(class_weights, class_counts), persistent=False)
        self.label_smoothing = label_smoothing
        self.per_image = class_weights == "per_image"

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Scalar loss of logits [n, c, h', w'] against class ids [n, h, w], or of [n, c] against [n]."""
        logits = at_target(logits, target)
        if self.per_image:
            return of_each_image(logits, target, self.label_smoothing)
        return cross_entropy(logits, target, self.weights, self.label_smoothing)
