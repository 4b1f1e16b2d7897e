"""What losses on the labels share: the size they are computed at, and weights of classes."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.data.stats import ClassCounts
from limbeck.record import UserError

ClassWeights = Literal["inverse_frequency", "median_frequency", "log_frequency"]


def at_target(logits: Tensor, target: Tensor) -> Tensor:
    """Logits in float32 at the target's size; those of whole images, [n, c] against [n], as they are."""
    if logits.ndim == 2:
        return logits.float()
    return F.interpolate(logits.float(), target.shape[-2:], mode="bilinear", align_corners=False)


def maps_at_target(logits: Tensor, target: Tensor, kind: str) -> Tensor:
    """Likewise, for a loss that means something for maps alone.

    Raises:
        UserError: If the logits are not maps.
    """
    if logits.ndim != 4:
        raise UserError(f"{kind} is a loss of maps [n, c, h, w], got logits {list(logits.shape)}; try cross_entropy.")
    return at_target(logits, target)


def class_weights(counts: ClassCounts, kind: ClassWeights) -> Tensor:
    """Weights of mean 1 that raise rare classes; a class without a pixel gets 0.

    ``inverse_frequency``: 1 / share of all pixels. ``median_frequency``: median / share, of the pixels of those images
    that the class is in, Eigen & Fergus 2015, section 6.3.2. ``log_frequency``: 1 / ln(1.02 + share of all pixels),
    Paszke et al., ENet, 2016, section 5.2.
    """
    pixels, areas = torch.tensor(counts.pixels, dtype=torch.float64), torch.tensor(counts.areas, dtype=torch.float64)
    share = pixels / (areas if kind == "median_frequency" else pixels.sum()).clamp(min=1)
    seen = share > 0
    # The median of median_frequency cancels in the normalisation.
    raised = 1 / torch.log(1.02 + share) if kind == "log_frequency" else 1 / share.clamp(min=1e-12)
    weights = torch.where(seen, raised, 0.0)
    return (weights / weights.sum().clamp(min=1e-12) * seen.sum()).float()


def weights_of(wanted: ClassWeights | list[float] | None, counts: ClassCounts | None) -> Tensor | None:
    """The weights that ``class_weights`` of a loss asks for.

    Raises:
        ValueError: If frequencies are wanted where nothing was counted, or a list does not fit the classes.
    """
    if wanted is None:
        return None
    if isinstance(wanted, str):
        if counts is None:
            raise ValueError(f"class_weights: {wanted} needs labelled training data")
        return class_weights(counts, wanted)
    if counts is not None and len(wanted) != len(counts.pixels):
        raise ValueError(f"class_weights has {len(wanted)} numbers, but there are {len(counts.pixels)} classes")
    if min(wanted, default=0) < 0 or not sum(wanted):
        raise ValueError(f"class_weights must not be negative, nor all 0, got {wanted}")
    return torch.tensor(wanted, dtype=torch.float32)
