"""Where maps look: divergence between softmaxes over positions, which ``cwd`` and ``cgd`` share."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from limbeck.losses._divergence import kl_of_softmaxes
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
    student, teacher = (precise(maps).flatten(1) for maps in (student, teacher))
    if weights is None:
        return kl_of_softmaxes(student, teacher, temperature, student.new_full((len(student),), 1 / len(student)))
    student, teacher = student / temperature, teacher / temperature
    often = weights.to(student.dtype).flatten(1).repeat(1, student.shape[1] // weights[0].numel())
    seen = often > 0
    some = seen.any(1)
    shift = torch.where(seen, often.log(), torch.where(some[:, None], -torch.inf, 0.0))
    log_s, log_t = (torch.where(seen, F.log_softmax(x + shift, dim=1), 0.0) for x in (student, teacher))
    return (log_t.exp() * (log_t - log_s)).sum() / some.sum().clamp(min=1)
