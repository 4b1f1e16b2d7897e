"""The KL divergence of softmaxes in few passes over memory: its gradient is known where its value is."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["kl_of_softmaxes"]


def kl_of_softmaxes(
    student: Float[Tensor, "n c *space"],
    teacher: Float[Tensor, "n c *space"],
    temperature: float,
    counts: Float[Tensor, "n *space"],
) -> Float[Tensor, ""]:
    """Sum of counts * KL(softmax(teacher / tau) || softmax(student / tau)), softmaxes over the second dimension.

    No gradient reaches the teacher; that of the student is counts (p_s - p_t) / tau.
    """
    found: Tensor = _Divergence.apply(student, teacher, temperature, counts)
    return found


class _Divergence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, temperature: float, counts: Tensor) -> Tensor:
        log_s, log_t = (_log_softmax(logits, temperature) for logits in (student, teacher))
        theirs = log_t.exp()
        each = log_t.sub_(log_s).mul_(theirs).sum(1)
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(log_s.exp_().sub_(theirs).mul_((counts / temperature).unsqueeze(1)))
        return (torch.where(counts > 0, each, 0.0) * counts).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (known,) = ctx.saved_tensors
        return known * gradient, None, None, None


def _log_softmax(logits: Tensor, temperature: float) -> Tensor:
    return F.log_softmax(logits if temperature == 1 else logits / temperature, dim=1)
