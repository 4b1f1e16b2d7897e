"""What the networks of mmsegmentation are made of, under its names, so that its files load."""

from torch import Tensor, nn

__all__ = ["ConvNorm", "FcnHead"]


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
