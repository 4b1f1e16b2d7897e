"""What networks of parallel branches share: residual blocks, pre-activated convolutions, pools of many sizes, heads.

Indices inside sequences are those of the authors' files, so that only the outer names need a translation.
"""

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "Basic",
    "Bottleneck",
    "Head",
    "conv_norm",
    "initialise",
    "norm_conv",
    "pools",
    "resized",
    "stage",
    "stem",
]


def conv_norm(into: int, out: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution and batch norm; the reader rectifies."""
    return nn.Sequential(nn.Conv2d(into, out, size, stride, size // 2, bias=False), nn.BatchNorm2d(out))


def norm_conv(into: int, out: int, size: int = 1, groups: int = 1) -> nn.Sequential:
    """Batch norm, ReLU and convolution, in this order."""
    return nn.Sequential(
        nn.BatchNorm2d(into),
        nn.ReLU(inplace=True),
        nn.Conv2d(into, out, size, padding=size // 2, groups=groups, bias=False),
    )


def stem(width: int) -> nn.Sequential:
    """Two strided convolutions, from the image to stride 4."""
    first, second = (nn.Conv2d(into, width, 3, 2, 1) for into in (3, width))
    relu = nn.ReLU(inplace=True)
    return nn.Sequential(first, nn.BatchNorm2d(width), relu, second, nn.BatchNorm2d(width), relu)


class Basic(nn.Module):
    """Two 3x3 convolutions added to their input: He et al., CVPR 2016 (arXiv:1512.03385), figure 5, left."""

    expansion = 1

    def __init__(self, into: int, width: int, stride: int, last: bool) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv_norm(into, width, 3, stride)
        self.conv2, self.bn2 = conv_norm(width, width)
        self.downsample = conv_norm(into, width, 1, stride) if stride > 1 or into != width else None
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        """The sum [n, width, h / stride, w / stride]; rectified, but for the last block of a stage."""
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        total: Tensor = self.bn2(self.conv2(out)) + (x if self.downsample is None else self.downsample(x))
        return total if self.last else F.relu(total)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution added to their input, twice as wide: He et al., figure 5, right."""

    expansion = 2

    def __init__(self, into: int, width: int, stride: int, last: bool) -> None:
        super().__init__()
        out = self.expansion * width
        self.conv1, self.bn1 = conv_norm(into, width, 1)
        self.conv2, self.bn2 = conv_norm(width, width, 3, stride)
        self.conv3, self.bn3 = conv_norm(width, out, 1)
        self.downsample = conv_norm(into, out, 1, stride) if stride > 1 or into != out else None

    def forward(self, x: Tensor) -> Tensor:
        """The sum [n, 2 width, h / stride, w / stride]; never rectified."""
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        total: Tensor = self.bn3(self.conv3(out)) + (x if self.downsample is None else self.downsample(x))
        return total


def stage(block: type[Basic | Bottleneck], into: int, width: int, blocks: int = 1, stride: int = 1) -> nn.Sequential:
    """Blocks of one width, the first with the stride; the sum of the last is not rectified."""
    inputs = [into, *[block.expansion * width] * (blocks - 1)]
    strides = [stride, *[1] * (blocks - 1)]
    return nn.Sequential(
        *(block(inputs[index], width, strides[index], last=index == blocks - 1) for index in range(blocks))
    )


def pools(into: int, out: int) -> nn.ModuleList:
    """Averages over windows of 5, 9 and 17 pixels and over all of them, each with a pre-activated convolution.

    Zeros around the image count in the averages, so windows may be larger than the image.
    """
    averages = [nn.AvgPool2d(size, size // 2, size // 2) for size in (5, 9, 17)]
    return nn.ModuleList(
        nn.Sequential(average, *norm_conv(into, out)) for average in [*averages, nn.AdaptiveAvgPool2d(1)]
    )


class Head(nn.Module):
    """Pre-activated 3x3 convolution and the classifier."""

    def __init__(self, into: int, width: int, out: int) -> None:
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm2d(into), nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(into, width, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(width, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the size of ``x``."""
        x = self.conv1(F.relu(self.bn1(x), inplace=True))
        logits: Tensor = self.conv2(F.relu(self.bn2(x), inplace=True))
        return logits


def resized(x: Tensor, like: Tensor) -> Tensor:
    """``x`` at the height and width of ``like``, bilinear."""
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)


def initialise(model: nn.Module) -> None:
    """He's initialisation by fan-out: He et al., Delving Deep into Rectifiers, ICCV 2015 (arXiv:1502.01852)."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
