"""Knowledge distillation on logits (KD), pixel by pixel, or image by image for classifiers."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from jaxtyping import Bool, Float
from torch import Tensor, nn

from limbeck.losses._divergence import kl_of_softmaxes
from limbeck.losses._means import precise, shares, standardised, valid_in
from limbeck.losses._presets import Preset

__all__ = ["KnowledgeDistillation"]


def pixelwise_kl(
    student: Float[Tensor, "n c *space"],
    teacher: Float[Tensor, "n c *space"],
    temperature: float,
    valid: Bool[Tensor, "n *space"] | None = None,
    weights: Float[Tensor, "n *space"] | None = None,
) -> Float[Tensor, ""]:
    """tau^2 * mean over valid pixels of KL(softmax(teacher / tau) || softmax(student / tau)); 0 if none is valid."""
    student, teacher = precise(student), precise(teacher)
    counts = shares(student[:, 0], valid, weights)
    return temperature**2 * kl_of_softmaxes(student, teacher, temperature, counts)


class KnowledgeDistillation(nn.Module):
    """Make the student's class distribution follow the teacher's at every pixel; for logits [n, c], on every image.

    Source: Hinton et al., Distilling the Knowledge in a Neural Network, 2015, section 2 (arXiv:1503.02531); per pixel
    as in Liu et al., Structured Knowledge Distillation, CVPR 2019 (arXiv:1903.04197), eq. 1.

    Args:
        temperature: Softens both distributions; greater than 0.
        mask: ``valid`` leaves void pixels out; ``all`` trusts the teacher there too.
        standardise: Divide the logits of every pixel by their spread over the classes first, so that the student need
            not match the teacher's scale (Sun et al., CVPR 2024).

    Raises:
        ValueError: If ``temperature`` is not positive.
    """

    presets: ClassVar[Mapping[str, Preset]] = {
        "cirkd": Preset(1.0, {"temperature": 1.0, "mask": "all"}),
        "mmrazor": Preset(1.0, {"temperature": 1.0, "mask": "all"}, sums="positions"),
        "mdistiller": Preset(0.9, {"temperature": 4.0, "mask": "all"}),
        "segdistill": Preset(1.0, {"temperature": 1.0, "mask": "all"}),
        "logit-standardisation": Preset(9.0, {"temperature": 2.0, "standardise": True}),
    }

    def __init__(
        self, temperature: float = 1.0, mask: Literal["valid", "all"] = "valid", standardise: bool = False
    ) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature must be > 0, got {temperature}")
        self.temperature, self.mask = temperature, mask
        self.ready = standardised if standardise else precise
        self.takes_rest = not standardise

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor | None, weights: Tensor | None = None) -> Tensor:
        """Scalar loss of two logit maps of equal size, or of logits [n, c]."""
        valid = valid_in(target) if self.mask == "valid" else None
        return pixelwise_kl(self.ready(student), self.ready(teacher), self.temperature, valid, weights)
