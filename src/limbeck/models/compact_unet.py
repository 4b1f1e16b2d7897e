"""A small U-Net of convolution, batch norm and ReLU: made to be trained in minutes and to gain from INT8."""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.graph.network import IMAGENET_MEAN, IMAGENET_STD

__all__ = ["compact_unet"]


def compact_unet(num_classes: int, *, width: int = 16, stages: int = 4, blocks: int = 1) -> nn.Module:
    """Strided stages down, additions up; logits at stride 2.

    The encoder-decoder of Ronneberger et al., U-Net, MICCAI 2015 (arXiv:1505.04597), with strided convolutions instead
    of pooling, residual blocks, and sums instead of concatenations. Taps: ``encoder.0`` at stride 2 and on, halving;
    ``decoder.0`` at stride 2 and on.

    Args:
        width: Channels at stride 2; each stage below has twice as many, at most eight times.
        stages: Stages, each at half the resolution of the one before.
        blocks: Residual blocks a stage.

    Raises:
        ValueError: If a number is below 1 (2 for stages).
    """
    if width < 1 or blocks < 0 or stages < 2:
        raise ValueError(f"width >= 1, blocks >= 0 and stages >= 2, got {width}, {blocks} and {stages}")
    return CompactUnet(num_classes, [width * min(8, 2**stage) for stage in range(stages)], blocks)


class CompactUnet(nn.Module):
    """Encoder stages, lateral 1x1 convolutions, decoder stages, classifier."""

    def __init__(self, num_classes: int, channels: list[int], blocks: int) -> None:
        super().__init__()
        self.mean, self.std, self.aux = IMAGENET_MEAN, IMAGENET_STD, dict[str, float]()
        inputs = [3, *channels[:-1]]
        self.encoder = nn.ModuleList(
            nn.Sequential(_conv(into, out, stride=2), *(Residual(out) for _ in range(blocks)))
            for into, out in zip(inputs, channels, strict=True)
        )
        self.lateral = nn.ModuleList(nn.Conv2d(deep, out, 1) for out, deep in pairwise(channels))
        self.decoder = nn.ModuleList(_conv(out, out) for out in channels[:-1])
        self.classifier = nn.Conv2d(channels[0], num_classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Logits [n, classes, h / 2, w / 2]."""
        features = []
        for stage in self.encoder:
            image = stage(image)
            features.append(image)
        deep = features.pop()
        for lateral, decoder, finer in zip(
            reversed(self.lateral), reversed(self.decoder), reversed(features), strict=True
        ):
            deep = F.interpolate(lateral(deep), finer.shape[-2:], mode="bilinear", align_corners=False)
            deep = decoder(deep + finer)
        logits: Tensor = self.classifier(deep)
        return logits


class Residual(nn.Module):
    """Two 3x3 convolutions added to their input: He et al., CVPR 2016 (arXiv:1512.03385)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _conv(channels, channels)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as the input."""
        out: Tensor = self.relu(self.second(self.first(x)) + x)
        return out


def _conv(into: int, out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(into, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True))
