"""PSPNet on a dilated ResNet, layer for layer that of mmsegmentation, so that its files load.

Source: Zhao et al., Pyramid Scene Parsing Network, CVPR 2017 (arXiv:1612.01105).
"""

from typing import Any, Literal

from torch import Tensor, nn
from torchvision.models import get_model

from limbeck.graph.network import IMAGENET_MEAN, IMAGENET_STD
from limbeck.models._mmseg import FcnHead, PyramidHead
from limbeck.models._torchvision import library_weights, load_backbone

__all__ = ["pspnet"]

AUX_WEIGHT = 0.4
"""Source: as above, section 4.1."""


class _Backbone(nn.Module):
    """torchvision's ResNet with dilation instead of its last two strides; its stem, or three convolutions of 3x3."""

    def __init__(self, net: Any, stem: str) -> None:
        super().__init__()
        if stem == "deep":
            self.stem = nn.Sequential(*_conv(3, 32, 2), *_conv(32, 32, 1), *_conv(32, 64, 1))
        else:
            self.conv1, self.bn1, self.relu = net.conv1, net.bn1, net.relu
        self.maxpool = net.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = net.layer1, net.layer2, net.layer3, net.layer4
        self.deep = stem == "deep"

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Features of the third and the fourth stage, both at stride 8."""
        begun = self.stem(image) if self.deep else self.relu(self.bn1(self.conv1(image)))
        third = self.layer3(self.layer2(self.layer1(self.maxpool(begun))))
        return third, self.layer4(third)


def _conv(inputs: int, outputs: int, stride: int) -> tuple[nn.Module, ...]:
    conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)


class _Pspnet(nn.Module):
    """Backbone, pyramid head and, in training, an auxiliary head on the third stage."""

    def __init__(self, architecture: dict[str, Any], backbone: _Backbone, num_classes: int, aux: bool) -> None:
        super().__init__()
        self.architecture, self.backbone = architecture, backbone
        self.decode_head = PyramidHead(2048, 512, num_classes)
        self.aux = {"auxiliary_head": AUX_WEIGHT} if aux else {}
        if aux:
            self.auxiliary_head = FcnHead(1024, 256, num_classes)
        self.mean, self.std = IMAGENET_MEAN, IMAGENET_STD

    def forward(self, image: Tensor) -> Tensor:
        """Logits at stride 8; the auxiliary head runs in training mode, for whoever taps it."""
        third, fourth = self.backbone(image)
        if self.training and self.aux:
            self.auxiliary_head(third)
        logits: Tensor = self.decode_head(fourth)
        return logits


def pspnet(
    *,
    num_classes: int,
    depth: Literal[50, 101] = 50,
    stem: Literal["deep", "plain"] = "deep",
    aux: bool = True,
    backbone: Literal["random", "imagenet"] = "random",
) -> nn.Module:
    """PSPNet on ResNet-50 or ResNet-101, 46.7 or 65.7 million parameters, logits at stride 8.

    Taps: ``backbone.layer3`` and ``backbone.layer4`` at stride 8, ``decode_head.bottleneck`` (512 channels). The head
    looks at the whole image at once and normalises one pooled pixel over the batch: it cannot train with one image a
    step.

    Args:
        num_classes: Channels of the logits.
        depth: Layers of the ResNet.
        stem: ``deep`` begins with three small convolutions, as mmsegmentation's ResNetV1c does; ``plain`` with one of
            7x7, as torchvision's does.
        aux: An auxiliary head on the third stage.
        backbone: Where the backbone's weights come from; torchvision's on ImageNet go with ``stem: plain``.

    Raises:
        ValueError: If ImageNet's weights are asked for with the deep stem.
        UserError: If they cannot be downloaded.
    """
    if backbone == "imagenet" and stem == "deep":
        raise ValueError(
            "torchvision's ImageNet weights go with `stem: plain`; for the deep one, give backbone_weights"
        )
    arch = f"resnet{depth}"
    net = get_model(arch, weights=None, replace_stride_with_dilation=[False, True, True])
    architecture = {"kind": "pspnet", "depth": depth, "stem": stem, "aux": aux}
    model = _Pspnet(architecture, _Backbone(net, stem), num_classes, aux)
    if backbone == "imagenet":
        load_backbone(model.backbone, library_weights(arch, "IMAGENET1K_V1"))
    return model
