"""What the networks of mmsegmentation are made of, under its names, so that its files load."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["BinPool", "ConvNorm", "FcnHead", "PyramidHead"]


BINS = (1, 2, 3, 6)
"""Parts a side of the pyramid's levels."""


class ConvNorm(nn.Module):
    """Convolution, batch norm and ReLU; the resolution stays."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Features [n, outputs, h, w]."""
        found: Tensor = self.relu(self.bn(self.conv(x)))
        return found


class FcnHead(nn.Module):
    """A 3x3 convolution and a classifier: the auxiliary head of PSPNet and UPerNet.

    Source: Zhao et al., Pyramid Scene Parsing Network, CVPR 2017 (arXiv:1612.01105), section 3.3.
    """

    def __init__(self, inputs: int, channels: int, num_classes: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(ConvNorm(inputs, channels, 3))
        self.dropout = nn.Dropout2d(0.1)
        self.conv_seg = nn.Conv2d(channels, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits at the resolution of the features."""
        logits: Tensor = self.conv_seg(self.dropout(self.convs(x)))
        return logits


class BinPool(nn.Module):
    """Means over ``bins`` x ``bins`` parts of the whole, as ``nn.AdaptiveAvgPool2d`` has them, in exportable steps.

    Parts are equal where the size divides by ``bins``, and overlap by a row or a column where it does not.
    """

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.bins = bins

    def forward(self, x: Tensor) -> Tensor:
        """Means [n, c, bins, bins]."""
        height, width = x.shape[-2:]
        if self.bins == 1:
            return x.mean((-2, -1), keepdim=True)
        if isinstance(height, int) and isinstance(width, int) and not (height % self.bins or width % self.bins):
            return F.avg_pool2d(x, (height // self.bins, width // self.bins))
        tall = _shares(self.bins, height, x) @ x
        return tall @ _shares(self.bins, width, x).mT


def _shares(bins: int, side: int, like: Tensor) -> Tensor:
    """What each pixel of a side counts in each part, [bins, side]; slices would not do where sizes are free."""
    part = torch.arange(bins, device=like.device)[:, None]
    pixel = torch.arange(side, device=like.device)
    inside = (pixel >= part * side // bins) & (pixel < ((part + 1) * side + bins - 1) // bins)
    counts = inside.to(like.dtype)
    return counts / counts.sum(1, keepdim=True)


class PyramidHead(nn.Module):
    """Pyramid pooling: the features beside their means over coarser and coarser parts, through a 3x3 convolution.

    Source: Zhao et al., Pyramid Scene Parsing Network, CVPR 2017 (arXiv:1612.01105), section 3.2.
    """

    def __init__(self, inputs: int, channels: int, num_classes: int) -> None:
        super().__init__()
        self.psp_modules = nn.ModuleList(nn.Sequential(BinPool(bins), ConvNorm(inputs, channels)) for bins in BINS)
        self.bottleneck = ConvNorm(inputs + len(BINS) * channels, channels, 3)
        self.dropout = nn.Dropout2d(0.1)
        self.conv_seg = nn.Conv2d(channels, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits at the resolution of the features."""
        size = x.shape[-2:]
        means = [F.interpolate(pool(x), size, mode="bilinear", align_corners=False) for pool in self.psp_modules]
        logits: Tensor = self.conv_seg(self.dropout(self.bottleneck(torch.cat([x, *means], 1))))
        return logits
