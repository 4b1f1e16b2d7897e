"""What losses on the labels share: the size they are computed at, and weights of classes."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from limbeck.data.sample import void_of
from limbeck.data.stats import ClassCounts
from limbeck.record import UserError

Frequencies = Literal["inverse_frequency", "median_frequency", "log_frequency"]
"""Weights that follow from how often each class is there in the whole training split."""

ClassWeights = Frequencies | Literal["per_image"]

LEAST_SHARE = 0.025
"""What ``per_image`` adds to the share of every class: SceneSeg's 5120 pixels, as a share of its 320x640 inputs."""


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


def class_weights(counts: ClassCounts, kind: Frequencies) -> Tensor:
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


def image_weights(target: Int[Tensor, "n h w"], num_classes: int) -> Float[Tensor, "n c"]:
    """Weights of the classes in each image by itself, of mean 1; a class that is not in the image gets 0.

    1 / (share of the image's pixels that are not void + ``LEAST_SHARE``): a class of a few pixels weighs at most 41
    times as much as one that fills the image. SceneSeg weighs N / (n_k + 5120) for n_k of N pixels; N cancels in a
    weighted mean. Weights of an image that is void all over are 0.

    Raises:
        UserError: If the targets are no maps: an image of one class has nothing to weigh it against.
    """
    if target.ndim != 3:
        raise UserError("class_weights: per_image is for maps of classes; inverse_frequency would work.")
    valid = target != void_of(target)
    rows = torch.arange(len(target), device=target.device)[:, None, None] * num_classes
    counts = torch.bincount((rows + target)[valid], minlength=len(target) * num_classes).view(-1, num_classes)
    share = counts / counts.sum(1, keepdim=True).clamp(min=1)
    raised = torch.where(counts > 0, 1 / (share + LEAST_SHARE), 0.0)
    return raised / raised.sum(1, keepdim=True).clamp(min=1) * (counts > 0).sum(1, keepdim=True)


def of_labels(weights: Tensor, target: Int[Tensor, "n *space"]) -> Float[Tensor, "n *space"]:
    """The weight of each label, by weights [c] of all images or [n, c] of each; 0 at void."""
    valid = target != void_of(target)
    known = torch.where(valid, target, 0)
    found = weights[known] if weights.ndim == 1 else weights.gather(1, known.flatten(1)).view(known.shape)
    return found * valid


def weights_of(wanted: ClassWeights | list[float] | None, counts: ClassCounts | None) -> Tensor | None:
    """The weights that ``class_weights`` of a loss asks for; None where it asks for none, or for each image's own.

    Raises:
        ValueError: If frequencies are wanted where nothing was counted, or a list does not fit the classes.
    """
    if wanted is None or wanted == "per_image":
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
