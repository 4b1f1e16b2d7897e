"""Segmentation networks of torchvision, with its keys, so that its checkpoints load."""

from typing import Literal

from torch import nn
from torchvision.models import get_model, mobilenet_v3_small
from torchvision.models.segmentation.deeplabv3 import _deeplabv3_mobilenetv3
from torchvision.models.segmentation.lraspp import _lraspp_mobilenetv3

from limbeck.data.weights import load_tensors
from limbeck.models._blocks import Segmenter
from limbeck.models._torchvision import library_weights, load_backbone
from limbeck.record import UserError

__all__ = ["torchvision_segmenter"]

Arch = Literal[
    "fcn_resnet50",
    "fcn_resnet101",
    "deeplabv3_resnet50",
    "deeplabv3_resnet101",
    "deeplabv3_mobilenet_v3_large",
    "deeplabv3_mobilenet_v3_small",
    "lraspp_mobilenet_v3_large",
    "lraspp_mobilenet_v3_small",
]

LAST_LAYERS = ("classifier.4", "classifier.low_classifier", "classifier.high_classifier", "aux_classifier.4")
"""What depends on the number of classes, over all architectures."""


def torchvision_segmenter(
    *,
    num_classes: int,
    arch: Arch = "deeplabv3_mobilenet_v3_large",
    aux: bool | None = None,
    backbone: Literal["random", "imagenet"] = "random",
    pretrained: str | None = None,
) -> nn.Module:
    """FCN, DeepLabV3 or LR-ASPP on a ResNet or a MobileNetV3, as torchvision builds them.

    Logits have stride 8; DeepLabV3 on a MobileNetV3 has 16. DeepLabV3 and LR-ASPP look at the whole image at once:
    DeepLabV3 normalises one pooled pixel over the batch, so it cannot train with one image a step.
    Taps: ``backbone.layer1`` to ``.layer4`` of a ResNet, ``backbone.0`` to ``.16`` (small: ``.12``) of a MobileNetV3.

    Args:
        num_classes: Channels of the logits.
        arch: The two small ones are put together from torchvision's parts; it has no weights for them.
        aux: An auxiliary head on the last layer but one; where it exists unless told otherwise. LR-ASPP has none.
        backbone: Where the backbone's weights come from.
        pretrained: A name of torchvision's weights for the whole network, such as ``DEFAULT``. With other classes than
            their 21, the last layers start afresh; ``model.loaded`` tells.

    Raises:
        UserError: If there is no such head, there are no such weights, or they cannot be downloaded.
    """
    if aux and arch.startswith("lraspp"):
        raise UserError(f"model torchvision: {arch} has no auxiliary head; leave out `aux`.")
    model = _assembled(arch, num_classes, aux=not arch.startswith("lraspp") if aux is None else aux)
    if pretrained is not None:
        state = library_weights(arch, pretrained)
        model.loaded = load_tensors(model, state, f"torchvision {arch} {pretrained}", fresh=LAST_LAYERS)
    elif backbone == "imagenet":
        load_backbone(model.backbone, library_weights(arch.partition("_")[2], "IMAGENET1K_V1"))
    return model


def _assembled(arch: Arch, num_classes: int, aux: bool) -> Segmenter:
    if arch == "deeplabv3_mobilenet_v3_small":
        net = _deeplabv3_mobilenetv3(mobilenet_v3_small(weights=None, dilated=True), num_classes, aux)
    elif arch == "lraspp_mobilenet_v3_small":
        net = _lraspp_mobilenetv3(mobilenet_v3_small(weights=None, dilated=True), num_classes)
    else:
        net = get_model(arch, weights=None, weights_backbone=None, num_classes=num_classes, aux_loss=aux)
    architecture = {"kind": "torchvision", "arch": arch, "aux": aux}
    return Segmenter(architecture, net.backbone, net.classifier, net.aux_classifier if aux else None)
