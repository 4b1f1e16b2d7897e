"""Channel-wise distillation (CWD)."""

from collections.abc import Mapping
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from limbeck.losses._looks import divergence
from limbeck.losses._presets import Preset

__all__ = ["ChannelWise"]


def channel_wise(
    student: Float[Tensor, "n c h w"],
    teacher: Float[Tensor, "n c h w"],
    temperature: float,
    weights: Float[Tensor, "n h w"] | None = None,
) -> Float[Tensor, ""]:
    """tau^2 / (n c) * sum over images and channels of KL between where each channel looks, a softmax over positions."""
    n, c = student.shape[:2]
    student, teacher = (maps.reshape(n * c, 1, *maps.shape[2:]) for maps in (student, teacher))
    each = None if weights is None else weights.repeat_interleave(c, dim=0)
    return temperature**2 * divergence(student, teacher, temperature, each)


class ChannelWise(nn.Module):
    """Make each channel of the student attend to the same positions as the teacher's.

    Blind to a constant added to a channel, so it does not teach class balance: use it beside ``kd`` or the task loss.
    Looks at no labels; of ``edges``, a weight of 0 leaves the band out (body distillation).
    Source: Shu et al., Channel-wise Knowledge Distillation for Dense Prediction, ICCV 2021, eqs. 2-3
    (arXiv:2011.13256).

    Args:
        temperature: Softens both maps; higher looks at more positions. Greater than 0.

    Raises:
        ValueError: If ``temperature`` is not positive.
    """

    maps_only: ClassVar[bool] = True
    presets: ClassVar[Mapping[str, Preset]] = {
        "paper-logits": Preset(3.0, {"temperature": 4.0}),
        "paper-features": Preset(50.0, {"temperature": 4.0}),
        "mmrazor": Preset(5.0, {"temperature": 1.0}),
        "segdistill": Preset(1.0, {"temperature": 1.0}),
    }
    lacks: ClassVar[frozenset[str]] = frozenset({"void"})

    def __init__(self, temperature: float = 4.0) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature must be > 0, got {temperature}")
        self.temperature = temperature

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor | None, weights: Tensor | None = None) -> Tensor:
        """Scalar loss of two maps of equal size and channels; the target plays no part."""
        return channel_wise(student, teacher, self.temperature, weights)
