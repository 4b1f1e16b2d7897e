"""Knowledge distillation on logits (KD), pixel by pixel, or image by image for classifiers."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from limbeck.data.sample import void_of

__all__ = ["KnowledgeDistillation"]


def pixelwise_kl(
    student: Float[Tensor, "n c *space"],
    teacher: Float[Tensor, "n c *space"],
    temperature: float,
    valid: Bool[Tensor, "n *space"] | None = None,
) -> Float[Tensor, ""]:
    """tau^2 * mean over valid pixels of KL(softmax(teacher / tau) || softmax(student / tau)); 0 if none is valid."""
    log_s = F.log_softmax(student.float() / temperature, dim=1)
    log_t = F.log_softmax(teacher.float() / temperature, dim=1)
    divergence = F.kl_div(log_s, log_t, reduction="none", log_target=True).sum(1)
    if valid is None:
        return temperature**2 * divergence.mean()
    return temperature**2 * torch.where(valid, divergence, 0.0).sum() / valid.sum().clamp(min=1)


class KnowledgeDistillation(nn.Module):
    """Make the student's class distribution follow the teacher's at every pixel; for logits [n, c], on every image.

    Source: Hinton et al., Distilling the Knowledge in a Neural Network, 2015, section 2 (arXiv:1503.02531); per pixel
    as in Liu et al., Structured Knowledge Distillation, CVPR 2019 (arXiv:1903.04197), eq. 1.

    Args:
        temperature: Softens both distributions; greater than 0.
        mask: ``valid`` leaves void pixels out; ``all`` trusts the teacher there too.

    Raises:
        ValueError: If ``temperature`` is not positive.
    """

    def __init__(self, temperature: float = 1.0, mask: Literal["valid", "all"] = "valid") -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature must be > 0, got {temperature}")
        self.temperature, self.mask = temperature, mask

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor | None) -> Tensor:
        """Scalar loss of two logit maps of equal size, or of logits [n, c]."""
        valid = target != void_of(target) if target is not None and self.mask == "valid" else None
        return pixelwise_kl(student, teacher, self.temperature, valid)
