"""Pair-wise self-similarity distillation (SKD): which parts of an image are alike."""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.losses._means import SMALL, precise
from limbeck.losses._presets import Preset

__all__ = ["PairWise"]


def likenesses(
    maps: Float[Tensor, "n c h w"], nodes: int, pool: Literal["mean", "max"]
) -> Float[Tensor, "n nodes nodes"]:
    """Cosine between any two parts of each image: cells of a grid of at most ``nodes`` by ``nodes``, pooled."""
    size = (min(nodes, maps.shape[2]), min(nodes, maps.shape[3]))
    maps = precise(maps)
    pooled = F.adaptive_avg_pool2d(maps, size) if pool == "mean" else F.adaptive_max_pool2d(maps, size)
    vectors = F.normalize(pooled.flatten(2), dim=1, eps=SMALL)
    return vectors.transpose(1, 2) @ vectors


class PairWise(nn.Module):
    """Make parts of the image alike to the student that are alike to the teacher, in any number of channels.

    Needs no projector: for networks of different kinds. Looks at no labels: void pixels count too. Cost and memory grow
    with the fourth power of ``nodes``: 32 are a million likenesses an image.
    Source: Liu et al., Structured Knowledge Distillation for Semantic Segmentation, CVPR 2019, eqs. 2-3
    (arXiv:1903.04197); the form of ``kl`` as for likenesses between images in Yang et al., Cross-Image Relational
    Knowledge Distillation, CVPR 2022 (arXiv:2204.06986), with tau^2.

    Args:
        nodes: Cells of the grid along an axis, at least 1; a map smaller than that is taken as it is.
        form: ``mse``, the mean squared difference of likenesses; ``kl``, how a softmax over each part's likenesses
            diverges.
        temperature: Of the softmax; greater than 0.
        pool: What a cell of several positions is: their mean, or their largest values, as published.

    Raises:
        ValueError: If ``nodes`` is less than 1 or ``temperature`` not positive.
    """

    any_channels: ClassVar[bool] = True
    maps_only: ClassVar[bool] = True
    presets: ClassVar[Mapping[str, Preset]] = {"paper": Preset(1.0, {"nodes": 2, "pool": "max"})}
    lacks: ClassVar[frozenset[str]] = frozenset({"void"})

    def __init__(
        self,
        nodes: int = 32,
        form: Literal["mse", "kl"] = "mse",
        temperature: float = 0.1,
        pool: Literal["mean", "max"] = "mean",
    ) -> None:
        super().__init__()
        if nodes < 1:
            raise ValueError(f"nodes must be >= 1, got {nodes}")
        if temperature <= 0:
            raise ValueError(f"temperature must be > 0, got {temperature}")
        self.nodes, self.form, self.temperature, self.pool = nodes, form, temperature, pool

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor | None) -> Tensor:
        """Scalar loss of two maps of equal size; the target plays no part."""
        student, teacher = (likenesses(maps, self.nodes, self.pool) for maps in (student, teacher))
        if self.form == "mse":
            return F.mse_loss(student, teacher)
        rows = (F.log_softmax(alike.flatten(0, 1) / self.temperature, dim=1) for alike in (student, teacher))
        log_s, log_t = rows
        return self.temperature**2 * F.kl_div(log_s, log_t, reduction="batchmean", log_target=True)
