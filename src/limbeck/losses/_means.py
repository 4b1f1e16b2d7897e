"""What losses against a teacher share: their precision, and means over the positions that count."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from limbeck.data.sample import void_of

SMALL = 1e-6
"""Least spread that is told from none; far above what float32 rounds probabilities by."""


def precise(tensor: Tensor) -> Tensor:
    """In float32 at least: squares and exponents of 16-bit numbers overflow, and their small ones are 0."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def standardised(logits: Float[Tensor, "n c *space"]) -> Float[Tensor, "n c *space"]:
    """Logits of each position with mean 0 and standard deviation 1 over the classes: their order without their scale.

    Source: Sun et al., Logit Standardization in Knowledge Distillation, CVPR 2024 (arXiv:2403.01427); the spread is
    that of a sample, as in the authors' code.
    """
    logits = precise(logits)
    return (logits - logits.mean(1, keepdim=True)) / (logits.std(1, keepdim=True) + 1e-7)


def valid_in(target: Tensor | None) -> Bool[Tensor, "n *space"] | None:
    """Where the target is not void; None, for everywhere, without a target."""
    return None if target is None else target != void_of(target)


def shares(
    like: Float[Tensor, "n *space"],
    valid: Bool[Tensor, "n *space"] | None = None,
    weights: Float[Tensor, "n *space"] | None = None,
) -> Float[Tensor, "n *space"]:
    """What each position counts in a mean over all images: 0 where it is not valid, 1 in all unless all are 0."""
    found = torch.ones_like(like) if weights is None else weights.to(like.dtype)
    found = found if valid is None else torch.where(valid, found, 0.0)
    return found / found.sum().clamp(min=torch.finfo(like.dtype).tiny)


def mean_over(
    values: Float[Tensor, "n *space"],
    valid: Bool[Tensor, "n *space"] | None = None,
    weights: Float[Tensor, "n *space"] | None = None,
) -> Float[Tensor, ""]:
    """Mean over the valid positions by their weights; 0, with a gradient path, where there is none.

    A value that does not count may be infinite.
    """
    if valid is None and weights is None:
        return values.mean()
    counts = shares(values, valid, weights)
    return (torch.where(counts > 0, values, 0.0) * counts).sum()
