"""Boundary loss: one minus the F1 score of where classes end."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from limbeck.data.sample import VOID
from limbeck.losses._labels import maps_at_target

__all__ = ["Boundary"]

SMALL = 1e-7


def spread(maps: Float[Tensor, "n c h w"], window: int) -> Float[Tensor, "n c h w"]:
    """Largest value in a square window around each pixel; first of its columns, then of its rows, which is faster."""
    columns = F.max_pool2d(maps, (window, 1), stride=1, padding=(window // 2, 0))
    return F.max_pool2d(columns, (1, window), stride=1, padding=(0, window // 2))


def borders(maps: Float[Tensor, "n c h w"], valid: Bool[Tensor, "n 1 h w"], width: int) -> Float[Tensor, "n c h w"]:
    """Inner borders of each class's map: what is in it while something near is not; none next to void."""
    outside = torch.where(valid, 1 - maps, 0.0)
    return torch.where(valid, spread(outside, width) - outside, 0.0)


def boundary(
    logits: Float[Tensor, "n c h w"], target: Int[Tensor, "n h w"], width: int, tolerance: int
) -> Float[Tensor, ""]:
    """Mean of 1 - F1 over all borders in the truth, of each class and image; 0 when there is none."""
    valid = (target != VOID)[:, None]
    truth = F.one_hot(torch.where(valid[:, 0], target, 0), logits.shape[1]).movedim(-1, 1).float()
    found = borders(F.softmax(logits, dim=1), valid, width)
    truth = borders(truth, valid, width)
    precision = ((found * spread(truth, tolerance)).sum((2, 3)) + SMALL) / (found.sum((2, 3)) + SMALL)
    length = truth.sum((2, 3))
    recall = ((truth * spread(found, tolerance)).sum((2, 3)) + SMALL) / (length + SMALL)
    score = 2 * precision * recall / (precision + recall)
    there = length > 0
    return torch.where(there, 1 - score, 0.0).sum() / there.sum().clamp(min=1)


class Boundary(nn.Module):
    """Agreement of predicted and true borders within a few pixels; void is left out.

    Blind to all that is far from a border: use it beside ``cross_entropy``. Takes memory for six maps of the target's
    size and the logits' channels.
    Source: Bokhovkin & Burnaev, Boundary Loss for Remote Sensing Imagery Semantic Segmentation, ISNN 2019, eqs. 3-8
    (arXiv:1905.07852).

    Args:
        width: Window that finds borders, the paper's theta 0; odd, at least 3 pixels of the target.
        tolerance: Window within which two borders meet, the paper's theta; odd, at least 1.

    Raises:
        ValueError: If a window is even or too small.
    """

    def __init__(self, width: int = 3, tolerance: int = 5) -> None:
        super().__init__()
        if width < 3 or width % 2 == 0:
            raise ValueError(f"width must be odd and >= 3, got {width}")
        if tolerance < 1 or tolerance % 2 == 0:
            raise ValueError(f"tolerance must be odd and >= 1, got {tolerance}")
        self.width, self.tolerance = width, tolerance

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Scalar loss of logits [n, c, h', w'] against class ids [n, h, w]."""
        return boundary(maps_at_target(logits, target, "boundary"), target, self.width, self.tolerance)
