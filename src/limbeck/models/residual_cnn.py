"""A plain residual classifier of any depth, with a head of fully connected layers."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.graph.network import IMAGENET_MEAN, IMAGENET_STD
from limbeck.record import UserError

__all__ = ["residual_cnn"]

TASK = "classification"


class _Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where the shape changes.

    Source: He et al., Deep Residual Learning for Image Recognition, CVPR 2016, fig. 2 and eq. 2 (arXiv:1512.03385).
    """

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """Features at the block's stride."""
        found = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(found)) + self.shortcut(x))


class _Head(nn.Module):
    """Linear, batch norm, ReLU and dropout for each hidden layer, and a last linear layer."""

    def __init__(self, channels: int, hidden: Sequence[int], num_classes: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential()
        for width in hidden:
            self.layers.extend([nn.Linear(channels, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout)])
            channels = width
        self.layers.append(nn.Linear(channels, num_classes))

    def forward(self, features: Tensor) -> Tensor:
        """Logits [n, c] of features [n, c'].

        Raises:
            UserError: If a batch norm learns from a single image: it would have no variance.
        """
        learns = any(isinstance(part, nn.BatchNorm1d) and part.training for part in self.layers)
        if learns and features.shape[0] == 1:
            raise UserError(
                "model residual_cnn: its head normalises over the batch, so a step needs at least two images; raise "
                "data.batch (or train.batch), or set `hidden: []`."
            )
        logits: Tensor = self.layers(features)
        return logits


class _ResidualCnn(nn.Module):
    def __init__(
        self, architecture: dict[str, Any], widths: Sequence[int], strides: Sequence[int], stem: int, head: _Head
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.stem = nn.Sequential(nn.Conv2d(3, stem, 3, 1, 1, bias=False), nn.BatchNorm2d(stem), nn.ReLU())
        below = [stem, *widths]
        self.blocks = nn.Sequential(*(_Block(c, w, s) for c, w, s in zip(below, widths, strides, strict=False)))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = head
        self.aux: dict[str, float] = {}
        self.encoder_path = ("stem", "blocks") if widths else ("stem",)
        self.mean, self.std = IMAGENET_MEAN, IMAGENET_STD

    def forward(self, image: Tensor) -> Tensor:
        """Logits [n, c] of images of any size."""
        logits: Tensor = self.head(self.pool(self.blocks(self.stem(image))).flatten(1))
        return logits


def residual_cnn(
    *,
    num_classes: int,
    blocks: int = 8,
    width: int = 16,
    widths: list[int] | None = None,
    strides: list[int] | None = None,
    hidden: list[int] | None = None,
    dropout: float = 0.5,
) -> nn.Module:
    """A stem at full size, residual blocks, global average pooling, fully connected layers: logits [n, c].

    By default the first block keeps the stem's width and every second one doubles it and halves the size, so 4, 6, 8,
    10 and 12 blocks end with 64, 128, 256, 512 and 1024 channels; for 6 classes they have 98,294, 408,854, 1,648,470,
    6,601,686 and 26,534,358 parameters. Taps: ``stem``, ``blocks.0`` and on, ``pool``, ``head.layers.0`` and on.

    Args:
        num_classes: Length of the logits.
        blocks: Number of residual blocks; any.
        width: Channels of the stem.
        widths: Channels of each block; doubled by every second one if None.
        strides: Stride of each block; 2 wherever the default widths double, else 1, if None.
        hidden: Widths of the fully connected layers before the last one; none for ``[]``. If None, one of half the
            channels, and from 12 blocks on a second one of half of that.
        dropout: Share of the hidden units that training leaves out.

    Raises:
        ValueError: If a number is too small, or ``widths`` or ``strides`` do not have one entry a block.
    """
    if blocks < 0:
        raise ValueError(f"blocks must be at least 0, got {blocks}")
    widths = [width * 2 ** ((index + 1) // 2) for index in range(blocks)] if widths is None else widths
    strides = [1 + index % 2 for index in range(blocks)] if strides is None else strides
    for name, values in (("widths", widths), ("strides", strides)):
        if len(values) != blocks:
            raise ValueError(f"{name} has {len(values)} entries for {blocks} blocks")
    last = widths[-1] if widths else width
    if hidden is None:
        hidden = [last // 2, last // 4] if blocks >= 12 else [last // 2]
    if min([width, *widths, *strides, *hidden]) < 1 or not 0 <= dropout < 1:
        raise ValueError("width, widths, strides and hidden must be at least 1, dropout at least 0 and below 1")
    own = {"blocks": blocks, "width": width, "widths": widths, "strides": strides, "hidden": hidden, "dropout": dropout}
    head = _Head(last, hidden, num_classes, dropout)
    return _ResidualCnn({"kind": "residual_cnn", **own}, widths, strides, width, head)
