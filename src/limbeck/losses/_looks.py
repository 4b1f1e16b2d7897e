"""Where maps look: divergence between softmaxes over positions, which ``cwd`` and ``cgd`` share."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from limbeck.losses._means import precise


def divergence(
    student: Float[Tensor, "n c h w"],
    teacher: Float[Tensor, "n c h w"],
    temperature: float,
    weights: Float[Tensor, "n h w"] | None = None,
) -> Float[Tensor, ""]:
    """KL between the softmaxes of both over all channels and positions of an image, averaged over the images.

    A position of weight w counts as w positions, one of 0 as none; images without any are left out.
    """
    student, teacher = (precise(maps).flatten(1) / temperature for maps in (student, teacher))
    if weights is None:
        log_s, log_t = F.log_softmax(student, dim=1), F.log_softmax(teacher, dim=1)
        return F.kl_div(log_s, log_t, reduction="batchmean", log_target=True)
    often = weights.to(student.dtype).flatten(1).repeat(1, student.shape[1] // weights[0].numel())
    seen = often > 0
    some = seen.any(1)
    shift = torch.where(seen, often.log(), torch.where(some[:, None], -torch.inf, 0.0))
    log_s, log_t = (torch.where(seen, F.log_softmax(x + shift, dim=1), 0.0) for x in (student, teacher))
    return (log_t.exp() * (log_t - log_s)).sum() / some.sum().clamp(min=1)
