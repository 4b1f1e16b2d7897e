"""DDRNet-23-slim: a fine and a coarse branch that exchange features, for real-time segmentation.

Source: Hong et al., Deep Dual-resolution Networks for Real-time and Accurate Semantic Segmentation of Road Scenes, 2021
(arXiv:2101.06085).
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.graph.network import IMAGENET_MEAN, IMAGENET_STD
from limbeck.models._branches import (
    Basic,
    Bottleneck,
    Head,
    conv_norm,
    initialise,
    norm_conv,
    pools,
    resized,
    stage,
    stem,
)

__all__ = ["ddrnet23_slim"]

WIDTH = 32
ENCODER = (
    "stem", "stage1", "stage2", "low3", "low4", "low5", "high3", "high4", "high5", "down3", "down4", "up3", "up4",
)  # fmt: skip
"""What the authors train on ImageNet first: all but pyramid and heads."""

AUX_WEIGHT = 0.4
"""Of the auxiliary head's loss, as in the paper."""


def ddrnet23_slim(*, num_classes: int, aux: bool = True) -> nn.Module:
    """Convolution, batch norm and ReLU throughout; 5.7 million parameters, logits at stride 8.

    Taps: ``stage2`` (64 channels, stride 8), ``high3`` and ``high4`` (64, stride 8), ``high5`` (128, stride 8),
    ``low3`` (128, stride 16), ``low4`` (256, stride 32), ``low5`` (512, stride 64), ``pyramid`` (128, stride 64).
    One pooled pixel is normalised over the batch, so it cannot train with one image a step. The authors' files load.

    Args:
        num_classes: Channels of the logits.
        aux: An auxiliary head on the fine branch, behind its first exchange with the coarse one.
    """
    return Ddrnet(num_classes, aux)


class Ddrnet(nn.Module):
    """The two branches under the names of their resolution."""

    old_names: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"^conv1\.", "stem."),
        (r"^layer([12])\.", r"stage\1."),
        (r"^layer([345])\.", r"low\1."),
        (r"^layer([345])_\.", r"high\1."),
        (r"^compression([34])\.", r"up\1."),
        (r"^spp\.scale0\.", "pyramid.whole."),
        (r"^spp\.scale1\.", "pyramid.pools.0."),
        (r"^spp\.scale2\.", "pyramid.pools.1."),
        (r"^spp\.scale3\.", "pyramid.pools.2."),
        (r"^spp\.scale4\.", "pyramid.pools.3."),
        (r"^spp\.process1\.", "pyramid.refine.0."),
        (r"^spp\.process2\.", "pyramid.refine.1."),
        (r"^spp\.process3\.", "pyramid.refine.2."),
        (r"^spp\.process4\.", "pyramid.refine.3."),
        (r"^spp\.compression\.", "pyramid.mix."),
        (r"^spp\.shortcut\.", "pyramid.shortcut."),
        (r"^seghead_extra\.", "aux_head."),
        (r"^final_layer\.", "head."),
    )
    """Names in the authors' files, as regular expressions, and ours."""

    def __init__(self, num_classes: int, aux: bool) -> None:
        super().__init__()
        w = WIDTH
        self.stem = stem(w)
        self.stage1, self.stage2 = stage(Basic, w, w, 2), stage(Basic, w, 2 * w, 2, 2)
        self.low3, self.low4 = stage(Basic, 2 * w, 4 * w, 2, 2), stage(Basic, 4 * w, 8 * w, 2, 2)
        self.low5 = stage(Bottleneck, 8 * w, 8 * w, stride=2)
        self.high3, self.high4 = stage(Basic, 2 * w, 2 * w, 2), stage(Basic, 2 * w, 2 * w, 2)
        self.high5 = stage(Bottleneck, 2 * w, 2 * w)
        self.up3, self.up4 = conv_norm(4 * w, 2 * w, 1), conv_norm(8 * w, 2 * w, 1)
        self.down3 = conv_norm(2 * w, 4 * w, 3, 2)
        self.down4 = nn.Sequential(
            *conv_norm(2 * w, 4 * w, 3, 2), nn.ReLU(inplace=True), *conv_norm(4 * w, 8 * w, 3, 2)
        )
        self.pyramid = DeepPyramid(16 * w, 128, 4 * w)
        self.head = Head(4 * w, 64, num_classes)
        self.aux = {"aux_head": AUX_WEIGHT} if aux else {}
        if aux:
            self.aux_head = Head(2 * w, 64, num_classes)
        self.architecture = {"kind": "ddrnet23_slim", "aux": aux}
        self.encoder_path = ENCODER
        self.mean, self.std = IMAGENET_MEAN, IMAGENET_STD
        initialise(self)

    def forward(self, image: Tensor) -> Tensor:
        """Logits [n, classes, h / 8, w / 8]; the auxiliary head runs in training mode, for whoever taps it."""
        x = F.relu(self.stage2(F.relu(self.stage1(self.stem(image)))))
        low, high = self._exchange(self.low3(x), self.high3(x), self.down3, self.up3)
        if self.training and self.aux:
            self.aux_head(high)
        low, high = self._exchange(self.low4(F.relu(low)), self.high4(F.relu(high)), self.down4, self.up4)
        high = self.high5(F.relu(high))
        logits: Tensor = self.head(high + resized(self.pyramid(self.low5(F.relu(low))), high))
        return logits

    @staticmethod
    def _exchange(low: Tensor, high: Tensor, down: nn.Module, up: nn.Module) -> tuple[Tensor, Tensor]:
        """Bilateral fusion, equation 1: each branch plus what the other has to say."""
        return low + down(F.relu(high)), high + resized(up(F.relu(low)), high)


class DeepPyramid(nn.Module):
    """Deep aggregation pyramid pooling (DAPPM), equation 2: each scale is refined together with the finer ones."""

    def __init__(self, into: int, width: int, out: int) -> None:
        super().__init__()
        self.whole, self.pools = norm_conv(into, width), pools(into, width)
        self.refine = nn.ModuleList(norm_conv(width, width, 3) for _ in self.pools)
        self.mix, self.shortcut = norm_conv(5 * width, out), norm_conv(into, out)

    def forward(self, x: Tensor) -> Tensor:
        """[n, out, h, w]."""
        scales = [self.whole(x)]
        for pool, refine in zip(self.pools, self.refine, strict=True):
            scales.append(refine(resized(pool(x), x) + scales[-1]))
        total: Tensor = self.mix(torch.cat(scales, 1)) + self.shortcut(x)
        return total
