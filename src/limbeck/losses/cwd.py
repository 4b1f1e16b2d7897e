"""Channel-wise distillation (CWD)."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["ChannelWise"]


def channel_wise(
    student: Float[Tensor, "n c *space"], teacher: Float[Tensor, "n c *space"], temperature: float
) -> Float[Tensor, ""]:
    """tau^2 / (n c) * sum over images and channels of KL between where each channel looks, a softmax over positions."""
    n, c = student.shape[:2]
    log_s = F.log_softmax(student.float().flatten(2) / temperature, dim=-1)
    log_t = F.log_softmax(teacher.float().flatten(2) / temperature, dim=-1)
    return temperature**2 * F.kl_div(log_s, log_t, reduction="sum", log_target=True) / (n * c)


class ChannelWise(nn.Module):
    """Make each channel of the student attend to the same positions as the teacher's.

    Blind to a constant added to a channel, so it does not teach class balance: use it beside ``kd`` or the task loss.
    Source: Shu et al., Channel-wise Knowledge Distillation for Dense Prediction, ICCV 2021, eqs. 2-3
    (arXiv:2011.13256).

    Args:
        temperature: Softens both maps; higher looks at more positions. Greater than 0.

    Raises:
        ValueError: If ``temperature`` is not positive.
    """

    def __init__(self, temperature: float = 4.0) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature must be > 0, got {temperature}")
        self.temperature = temperature

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor | None) -> Tensor:
        """Scalar loss of two maps of equal size and channels; the target plays no part."""
        return channel_wise(student, teacher, self.temperature)
