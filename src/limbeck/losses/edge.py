"""Edge loss: a head of one channel learns where classes meet."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from limbeck.data.sample import VOID
from limbeck.losses._labels import at_target
from limbeck.record import UserError

__all__ = ["Edge"]


def edges(target: Int[Tensor, "n h w"], width: int) -> Bool[Tensor, "n h w"]:
    """Bands of ``width`` pixels, centred where two classes meet; where a class meets void is no edge."""
    drawn = torch.zeros(target.shape, device=target.device)
    for axis in (1, 2):
        after, before = target.narrow(axis, 1, target.shape[axis] - 1), target.narrow(axis, 0, target.shape[axis] - 1)
        drawn.narrow(axis, 1, target.shape[axis] - 1)[(after != before) & (after != VOID) & (before != VOID)] = 1.0
    left = (width - 1) // 2  # marked is the first pixel after the border: an even band lies evenly around the border
    padded = F.pad(drawn[:, None], (left, width // 2, left, width // 2))
    return F.max_pool2d(padded, width, stride=1)[:, 0] > 0


def balanced(
    logits: Float[Tensor, "n h w"], edge: Bool[Tensor, "n h w"], valid: Bool[Tensor, "n h w"]
) -> Float[Tensor, ""]:
    """Mean over valid pixels of binary cross-entropy, edges weighing the share of the others and the others theirs."""
    count = valid.sum().clamp(min=1)
    share = (edge & valid).sum() / count
    weight = torch.where(edge, 1 - share, share)
    entropy = F.binary_cross_entropy_with_logits(logits, edge.float(), weight, reduction="none")
    return torch.where(valid, entropy, 0.0).sum() / count


class Edge(nn.Module):
    """Binary cross-entropy of one-channel logits against the edges of the target, balanced between both sorts.

    Void pixels are left out. For an auxiliary head with ``aux = {"its_path": {"kind": "edge", "weight": 20.0}}``.
    Source: Xu et al., PIDNet, CVPR 2023, section 3.4, l1 (arXiv:2206.02066); balance as in Xie & Tu,
    Holistically-Nested Edge Detection, ICCV 2015, eq. 2 (arXiv:1504.06375).

    Args:
        width: Pixels of the target across an edge; at least 1.

    Raises:
        ValueError: If ``width`` is less than 1.
        UserError: On a call, if the logits have more than one channel.
    """

    lacks: ClassVar[frozenset[str]] = frozenset({"batch_split"})

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"width must be >= 1, got {width}")
        self.width = width

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Scalar loss of logits [n, 1, h', w'], resized to the target [n, h, w]; 0 when all is void or of one class."""
        if logits.ndim != 4 or logits.shape[1] != 1:
            raise UserError(
                f"edge looks at logits [n, 1, h, w], got {list(logits.shape)}: give it to a head of its own."
            )
        return balanced(at_target(logits, target)[:, 0], edges(target, self.width), target != VOID)
