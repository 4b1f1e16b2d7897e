"""Cross-entropy of the hardest pixels alone (OHEM)."""

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from limbeck.data.sample import VOID
from limbeck.data.stats import ClassCounts
from limbeck.losses._labels import ClassWeights, image_weights, maps_at_target, of_labels, weights_of

__all__ = ["HardExamples"]


def hard(confidence: Float[Tensor, " p"], threshold: float, at_least: int) -> Bool[Tensor, " p"]:
    """Which pixels are predicted below the threshold; the ``at_least`` least confident ones in any case."""
    wanted = min(at_least, len(confidence))
    bound = confidence.kthvalue(wanted).values if wanted else confidence.new_zeros(())
    return (confidence < threshold) | (confidence <= bound)


def hard_cross_entropy(
    logits: Float[Tensor, "n c h w"],
    target: Int[Tensor, "n h w"],
    threshold: float,
    min_kept: float,
    weights: Tensor | None,
) -> Float[Tensor, ""]:
    """Weighted mean of -log p(label) over the hard pixels of the batch; 0 when all is void."""
    valid = target != VOID
    entropy = F.cross_entropy(logits, target, ignore_index=VOID, reduction="none")[valid]
    at_least = math.ceil(min_kept * len(entropy)) if min_kept <= 1 else int(min_kept)
    kept = hard(torch.exp(-entropy.detach()), threshold, at_least)
    weight = kept.float() if weights is None else kept * of_labels(weights, target)[valid]
    return (weight * entropy).sum() / weight.sum().clamp(min=torch.finfo(torch.float32).tiny)


class HardExamples(nn.Module):
    """Cross-entropy over the pixels whose label has a probability below the threshold; void is left out.

    Source: Shrivastava et al., Training Region-based Object Detectors with Online Hard Example Mining, CVPR 2016
    (arXiv:1604.03540); by a threshold and a least number, over all of a batch, as for PIDNet (arXiv:2206.02066).

    Args:
        threshold: Pixels are hard where their label's probability is below this; in (0, 1].
        min_kept: So much is kept where fewer are hard: up to 1 a share of the batch's valid pixels, above 1 a number.
        class_weights: As of ``cross_entropy``.
        class_counts: How often each class is there, from the data.

    Raises:
        ValueError: If ``threshold`` is not in (0, 1], or ``min_kept`` is negative.
    """

    lacks: ClassVar[frozenset[str]] = frozenset({"batch_split", "compile"})
    weights: Tensor | None

    def __init__(
        self,
        threshold: float = 0.7,
        min_kept: float = 0.1,
        class_weights: ClassWeights | list[float] | None = None,
        class_counts: ClassCounts | None = None,
    ) -> None:
        super().__init__()
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold must be in (0, 1], got {threshold}")
        if min_kept < 0:
            raise ValueError(f"min_kept must be >= 0, got {min_kept}")
        self.threshold, self.min_kept = threshold, min_kept
        self.per_image = class_weights == "per_image"
        self.register_buffer("weights", weights_of(class_weights, class_counts), persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Scalar loss of logits [n, c, h', w'] against class ids [n, h, w]."""
        logits = maps_at_target(logits, target, "ohem")
        weights = image_weights(target, logits.shape[1]) if self.per_image else self.weights
        return hard_cross_entropy(logits, target, self.threshold, self.min_kept, weights)
