"""SceneSeg: EfficientNet-B0 with a context block and a wide decoder, for the road scenes of Autoware.

Source: github.com/autowarefoundation/autoware.privately-owned-vehicles, Models/model_components/scene_*.py; there is no
paper. Widths, the order of the layers and the names of the tensors in its files are from there.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import efficientnet_b0

from limbeck.graph.network import IMAGENET_MEAN, IMAGENET_STD
from limbeck.models._torchvision import library_weights, load_backbone

__all__ = ["sceneseg"]

Kernels = Literal["float", "integer"]
SEEN = (0, 2, 3, 4, 8)
"""Layers of the backbone that the decoder reads: strides 2, 4, 8, 16 and 32."""

GRID = (10, 20)
"""The context map: stride 32 of a 320x640 image."""

PLACES = ("neck.0", "neck.1", "neck.2", "head.0", "head.1")
"""Where the steps of the decoder are here; the authors number its layers through."""


def sceneseg(
    *, num_classes: int, backbone: Literal["random", "imagenet"] = "random", kernels: Kernels = "float"
) -> nn.Module:
    """SceneSeg as published, 48.4 million parameters at 3 classes, for images of any size; logits at stride 1.

    Taps: ``backbone.0``, ``.2``, ``.3``, ``.4`` and ``.8`` (32, 24, 40, 80, 1280 channels at strides 2 to 32),
    ``context`` (1280, stride 32), ``neck.0`` to ``.2`` (768, 512, 256 at strides 16, 8, 4), ``head.0`` (128, stride 2)
    and ``head.1`` (64, stride 1). The authors' files load; with ``kernels: integer`` all but the upsampling does, with
    ``partial: true``.

    Args:
        num_classes: Channels of the logits.
        backbone: Where the backbone's weights come from.
        kernels: ``float`` is the original, whose GELUs and transposed convolutions have no integer kernels in ONNX
            Runtime. ``integer`` rectifies instead, and upsamples by a 1x1 convolution and bilinear resizing: 40.6
            million parameters.

    Raises:
        UserError: If the backbone's weights cannot be downloaded.
    """
    model = SceneSeg(num_classes, kernels)
    if backbone == "imagenet":
        load_backbone(model.backbone, library_weights("efficientnet_b0", "IMAGENET1K_V1"))
    return model


class SceneSeg(nn.Module):
    """Backbone, context, neck and head."""

    old_names: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"^Backbone\.encoder\.", "backbone."),
        (r"^SceneContext\.context_layer_(\d)\.", r"context.layer\1."),
        *((rf"^Scene\w+\.(upsample|skip_link)_layer_{i}\.", rf"{place}.\1.") for i, place in enumerate(PLACES)),
        *((rf"^Scene\w+\.decode_layer_{2 * i}\.", f"{place}.decode0.") for i, place in enumerate(PLACES)),
        *((rf"^Scene\w+\.decode_layer_{2 * i + 1}\.", f"{place}.decode1.") for i, place in enumerate(PLACES)),
        (r"^SceneSegHead\.decode_layer_10\.", "head.2."),
    )
    """Names in the authors' files, as regular expressions, and ours."""

    def __init__(self, num_classes: int, kernels: Kernels) -> None:
        super().__init__()
        self.backbone = efficientnet_b0(weights=None).features
        self.context = Context(1280, kernels)
        self.neck = nn.ModuleList([
            Up(1280, 80, 768, 768, kernels), Up(768, 40, 512, 512, kernels), Up(512, 24, 512, 256, kernels),
        ])  # fmt: skip
        self.head = nn.ModuleList([
            Up(256, 32, 256, 128, kernels), Up(128, None, 128, 64, kernels), nn.Conv2d(64, num_classes, 3, padding=1),
        ])  # fmt: skip
        self.aux: dict[str, float] = {}
        self.architecture = {"kind": "sceneseg", "kernels": kernels}
        self.mean, self.std = IMAGENET_MEAN, IMAGENET_STD
        if kernels == "integer":
            _initialise([self.context, self.neck, self.head])

    def forward(self, image: Tensor) -> Tensor:
        """Logits [n, classes, h, w]."""
        features, x = [image], image
        for index, layer in enumerate(self.backbone):
            x = layer(x)
            if index in SEEN:
                features.append(x)
        x = self.context(features.pop())
        first, second, last = self.head
        for up in [*self.neck, first]:
            x = up(x, features.pop())
        logits: Tensor = last(second(x, image))
        return logits


class Context(nn.Module):
    """What is in the image as a whole, drawn as a small map that weighs the deepest features."""

    def __init__(self, channels: int, kernels: Kernels) -> None:
        super().__init__()
        widths = (1, 128, 256, 512, channels)
        self.layer0, self.layer1, self.layer2 = nn.Linear(channels, 800), nn.Linear(800, 800), nn.Linear(800, 200)
        self.layer3, self.layer4, self.layer5, self.layer6 = (
            nn.Conv2d(into, out, 3, padding=1) for into, out in pairwise(widths)
        )
        self.dropout, self.activation = nn.Dropout(0.25), _activation(kernels)

    def forward(self, deep: Tensor) -> Tensor:
        """[n, channels, h, w] as given. The map is drawn for 320x640 images; at other sizes it is stretched."""
        x = deep.mean([2, 3])
        for linear in (self.layer0, self.layer1):
            x = self.activation(self.dropout(linear(x)))
        x = torch.sigmoid(self.dropout(self.layer2(x))).reshape(-1, 1, *GRID)
        x = F.interpolate(x, deep.shape[-2:], mode="bilinear", align_corners=False)
        for conv in (self.layer3, self.layer4, self.layer5, self.layer6):
            x = self.activation(conv(x))
        return x * deep + deep


class Up(nn.Module):
    """Twice the resolution, plus finer features, and two convolutions.

    Args:
        into: Channels of the coarse features.
        finer: Channels of the finer ones; None adds nothing and takes only their size.
        width: Channels of the first convolution.
        out: Channels of the second.
        kernels: See :func:`sceneseg`.
    """

    def __init__(self, into: int, finer: int | None, width: int, out: int, kernels: Kernels) -> None:
        super().__init__()
        self.upsample = nn.ConvTranspose2d(into, into, 2, 2) if kernels == "float" else nn.Conv2d(into, into, 1)
        self.skip_link = None if finer is None else nn.Conv2d(finer, into, 1)
        self.decode0, self.decode1 = nn.Conv2d(into, width, 3, padding=1), nn.Conv2d(width, out, 3, padding=1)
        self.activation = _activation(kernels)

    def forward(self, x: Tensor, finer: Tensor) -> Tensor:
        """[n, out, h, w] at the size of ``finer``."""
        x = _fitted(self.upsample(x), finer.shape[-2:])
        if self.skip_link is not None:
            x = x + self.skip_link(finer)
        found: Tensor = self.activation(self.decode1(self.activation(self.decode0(x))))
        return found


def _fitted(x: Tensor, size: Sequence[int]) -> Tensor:
    """``x`` at ``size``: stretched if it is smaller, without its last row or column if it is larger."""
    if x.shape[-2] < size[0] or x.shape[-1] < size[1]:
        return F.interpolate(x, size, mode="bilinear", align_corners=False)
    return x if x.shape[-2:] == size else x[..., : size[0], : size[1]]


def _activation(kernels: Kernels) -> nn.Module:
    return nn.GELU() if kernels == "float" else nn.ReLU()


def _initialise(parts: Sequence[nn.Module]) -> None:
    """He et al., Delving Deep into Rectifiers, ICCV 2015 (arXiv:1502.01852): no batch norm corrects the scale here."""
    for part in parts:
        for values in part.parameters():
            if values.dim() > 1:
                nn.init.kaiming_normal_(values, nonlinearity="relu")
            else:
                nn.init.zeros_(values)
