"""What several teachers say together: one tensor out of theirs, after each was computed or read from a cache."""

from collections.abc import Sequence
from math import prod
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from limbeck.data.sample import VOID, void_of
from limbeck.place import Place
from limbeck.record import UserError

__all__ = ["Combine", "combined", "combined_shape", "confidence"]

Combine = Literal["mean", "confidence"]


def combined(outputs: Sequence[Tensor], target: Tensor | None, how: Combine, *, logits: bool) -> Tensor:
    """One teacher's tensor as it is; of several their mean in float32, at the coarsest of their grids.

    The mean of logits is the logarithm of the mean of their probabilities, so its softmax is what the teachers say on
    average. With ``confidence`` each teacher counts for as much as it is right; see :func:`confidence`.

    Args:
        outputs: Maps [n, c, h, w] or vectors [n, c], one a teacher, of the same channels.
        target: Classes [n, h, w], at any size, or [n]; void where nobody knows.
        how: Of features only ``mean``.
        logits: Whether these are logits.
    """
    if len(outputs) == 1:
        return outputs[0]
    several = _on_one_grid([output.float() for output in outputs])
    if not logits:
        return torch.stack(several).mean(0)
    said = torch.stack([output.log_softmax(1) for output in several])
    if how == "mean" or target is None:
        return said.logsumexp(0) - torch.log(said.new_tensor(len(several)))
    weights = confidence(said, _sized(target, said))
    return (said + weights.unsqueeze(2).log()).logsumexp(0)


def confidence(said: Float[Tensor, "k n c ..."], target: Int[Tensor, "n ..."]) -> Float[Tensor, "k n ..."]:
    """How much each of k teachers counts at each place: the more, the smaller its cross-entropy L against the label.

    w_k = (1 - exp(L_k) / sum_j exp(L_j)) / (K - 1); they add up to 1, and are equal where the label is void. The loss
    against the teachers' weighted mean has the gradients of the weighted mean of the losses against each at
    temperature 1.

    Source: Zhang et al., Confidence-Aware Multi-Teacher Knowledge Distillation, ICASSP 2022, section 3.1
    (arXiv:2201.00007), there for each image.

    Args:
        said: Logarithms of probabilities.
        target: Classes at the same size.
    """
    known = target != void_of(target)
    index = torch.where(known, target, torch.zeros_like(target)).unsqueeze(1)
    wrong = torch.stack([-one.gather(1, index).squeeze(1) for one in said])
    weights = (1 - wrong.softmax(0)) / (len(said) - 1)
    return torch.where(known, weights, torch.full_like(weights, 1 / len(said)))


def combined_shape(shapes: Sequence[tuple[int, ...]], where: Place) -> torch.Size:
    """Shape of what teachers say together.

    Raises:
        UserError: If their channels differ, or only some of them give maps.
    """
    if len({(len(shape), *shape[:2]) for shape in shapes}) > 1:
        shown = ", ".join(str(list(shape)) for shape in shapes)
        raise UserError(f"{where}: the teachers give {shown}, which have no mean; name one of them: `a -> name:b`.")
    return torch.Size(min(shapes, key=lambda shape: prod(tuple(shape)[2:])))


def _on_one_grid(outputs: Sequence[Tensor]) -> list[Tensor]:
    size = min((output.shape[2:] for output in outputs), key=lambda shape: shape.numel())
    return [
        output if output.shape[2:] == size else F.interpolate(output, size, mode="bilinear", align_corners=False)
        for output in outputs
    ]


def _sized(target: Tensor, said: Tensor) -> Tensor:
    """The target at the size of the logits [k, n, c, ...]; void where it is an image's class and they are maps."""
    size = said.shape[3:]
    if target.ndim - 1 != len(size):
        return target.new_full((target.shape[0], *size), VOID)  # a map of unknown classes
    if target.shape[1:] == size:
        return target
    return F.interpolate(target[:, None].float(), size, mode="nearest-exact")[:, 0].long()
