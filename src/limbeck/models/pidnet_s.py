"""PIDNet-S: a branch for detail, one for context and one for boundaries that decides between the two.

Source: Xu et al., PIDNet: A Real-time Semantic Segmentation Network Inspired by PID Controllers, CVPR 2023
(arXiv:2206.02066).
"""

from collections.abc import Mapping
from typing import Any, ClassVar

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

__all__ = ["pidnet_s"]

WIDTH = 32
ENCODER = (
    "stem", "stage1", "stage2", "stage3", "stage4", "stage5", "detail3", "detail4", "detail5", "boundary3",
    "boundary4", "boundary5", "narrow3", "narrow4", "guide3", "guide4", "edge3", "edge4",
)  # fmt: skip
"""All but pyramid, fusion and heads."""

AUX: dict[str, Any] = {"aux_head": 0.4, "aux_boundary": {"kind": "edge", "weight": 20.0}}
"""Weights of the losses l0 and l1 of the paper."""


def pidnet_s(*, num_classes: int, aux: bool = True) -> nn.Module:
    """Convolution, batch norm and ReLU, with three sigmoid gates; 7.6 million parameters, logits at stride 8.

    Taps: ``stage2`` (64 channels, stride 8), ``stage3`` (128, 16), ``stage4`` (256, 32), ``stage5`` (512, 64) and
    ``pyramid`` (128, 64) of the context branch; ``detail3`` and ``detail4`` (64, 8), ``detail5`` (128, 8);
    ``boundary3`` (32, 8), ``boundary4`` (64, 8), ``boundary5`` (128, 8); ``fuse`` (128, 8). One pooled pixel is
    normalised over the batch, so it cannot train with one image a step. The authors' files load.

    Args:
        num_classes: Channels of the logits.
        aux: Two auxiliary heads: classes from the detail branch, and one channel of boundaries, which has the task loss
            ``edge``.
    """
    return Pidnet(num_classes, aux)


class Pidnet(nn.Module):
    """The three branches under the names of what they look for."""

    old_names: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"^conv1\.", "stem."),
        (r"^layer([1-5])\.", r"stage\1."),
        (r"^layer([345])_\.", r"detail\1."),
        (r"^layer3_d\.", "boundary3.0."),
        (r"^layer([45])_d\.", r"boundary\1."),
        (r"^compression([34])\.", r"narrow\1."),
        (r"^pag([34])\.f_x\.", r"guide\1.detail."),
        (r"^pag([34])\.f_y\.", r"guide\1.context."),
        (r"^diff([34])\.", r"edge\1."),
        (r"^spp\.scale0\.", "pyramid.whole."),
        (r"^spp\.scale1\.", "pyramid.pools.0."),
        (r"^spp\.scale2\.", "pyramid.pools.1."),
        (r"^spp\.scale3\.", "pyramid.pools.2."),
        (r"^spp\.scale4\.", "pyramid.pools.3."),
        (r"^spp\.scale_process\.", "pyramid.refine."),
        (r"^spp\.compression\.", "pyramid.mix."),
        (r"^spp\.shortcut\.", "pyramid.shortcut."),
        (r"^dfm\.conv_p\.", "fuse.detail."),
        (r"^dfm\.conv_i\.", "fuse.context."),
        (r"^seghead_p\.", "aux_head."),
        (r"^seghead_d\.", "aux_boundary."),
        (r"^final_layer\.", "head."),
    )
    """Names in the authors' files, as regular expressions, and ours."""

    def __init__(self, num_classes: int, aux: bool) -> None:
        super().__init__()
        w = WIDTH
        self.stem = stem(w)
        self.stage1, self.stage2 = stage(Basic, w, w, 2), stage(Basic, w, 2 * w, 2, 2)
        self.stage3, self.stage4 = stage(Basic, 2 * w, 4 * w, 3, 2), stage(Basic, 4 * w, 8 * w, 3, 2)
        self.stage5 = stage(Bottleneck, 8 * w, 8 * w, 2, 2)
        self.detail3, self.detail4 = stage(Basic, 2 * w, 2 * w, 2), stage(Basic, 2 * w, 2 * w, 2)
        self.detail5 = stage(Bottleneck, 2 * w, 2 * w)
        self.boundary3, self.boundary4 = stage(Basic, 2 * w, w), stage(Bottleneck, w, w)
        self.boundary5 = stage(Bottleneck, 2 * w, 2 * w)
        self.narrow3, self.narrow4 = conv_norm(4 * w, 2 * w, 1), conv_norm(8 * w, 2 * w, 1)
        self.guide3, self.guide4 = Guide(2 * w, w), Guide(2 * w, w)
        self.edge3, self.edge4 = conv_norm(4 * w, w), conv_norm(8 * w, 2 * w)
        self.pyramid = ParallelPyramid(16 * w, 96, 4 * w)
        self.fuse = Fuse(4 * w)
        self.head = Head(4 * w, 128, num_classes)
        self.aux: Mapping[str, Any] = dict(AUX) if aux else {}
        if aux:
            self.aux_head, self.aux_boundary = Head(2 * w, 128, num_classes), Head(2 * w, w, 1)
        self.architecture = {"kind": "pidnet_s", "aux": aux}
        self.encoder_path = ENCODER
        self.mean, self.std = IMAGENET_MEAN, IMAGENET_STD
        initialise(self)

    def forward(self, image: Tensor) -> Tensor:
        """Logits [n, classes, h / 8, w / 8]; the auxiliary heads run in training mode, for whoever taps them."""
        x = F.relu(self.stage2(F.relu(self.stage1(self.stem(image)))))
        detail, boundary = self.detail3(x), self.boundary3(x)
        x = F.relu(self.stage3(x))
        detail = self.guide3(detail, self.narrow3(x))
        boundary = boundary + resized(self.edge3(x), boundary)
        if self.training and self.aux:
            self.aux_head(detail)
        x = F.relu(self.stage4(x))
        detail = self.guide4(self.detail4(F.relu(detail)), self.narrow4(x))
        boundary = self.boundary4(F.relu(boundary))
        boundary = boundary + resized(self.edge4(x), boundary)
        if self.training and self.aux:
            self.aux_boundary(boundary)
        detail, boundary = self.detail5(F.relu(detail)), self.boundary5(F.relu(boundary))
        context = resized(self.pyramid(self.stage5(x)), detail)
        logits: Tensor = self.head(self.fuse(detail, context, boundary))
        return logits


class Guide(nn.Module):
    """Pixel-attention guidance (Pag): context where it agrees with the detail, else the detail."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.detail, self.context = conv_norm(channels, width, 1), conv_norm(channels, width, 1)

    def forward(self, detail: Tensor, context: Tensor) -> Tensor:
        """[n, channels, h, w] of the detail."""
        similar = self.detail(detail) * resized(self.context(context), detail)
        trust = torch.sigmoid(similar.sum(1, keepdim=True))
        return (1 - trust) * detail + trust * resized(context, detail)


class Fuse(nn.Module):
    """Light boundary-attention guidance (Light-Bag): detail at boundaries, context between them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.detail, self.context = conv_norm(channels, channels, 1), conv_norm(channels, channels, 1)

    def forward(self, detail: Tensor, context: Tensor, boundary: Tensor) -> Tensor:
        """Three maps of one shape, one map of that shape."""
        edge = torch.sigmoid(boundary)
        total: Tensor = self.detail(detail + (1 - edge) * context) + self.context(context + edge * detail)
        return total


class ParallelPyramid(nn.Module):
    """Parallel aggregation pyramid pooling (PAPPM): all scales are refined at once, a group each."""

    def __init__(self, into: int, width: int, out: int) -> None:
        super().__init__()
        self.whole, self.pools = norm_conv(into, width), pools(into, width)
        self.refine = norm_conv(4 * width, 4 * width, 3, groups=4)
        self.mix, self.shortcut = norm_conv(5 * width, out), norm_conv(into, out)

    def forward(self, x: Tensor) -> Tensor:
        """[n, out, h, w]."""
        whole = self.whole(x)
        scales = torch.cat([resized(pool(x), x) + whole for pool in self.pools], 1)
        total: Tensor = self.mix(torch.cat([whole, self.refine(scales)], 1)) + self.shortcut(x)
        return total
