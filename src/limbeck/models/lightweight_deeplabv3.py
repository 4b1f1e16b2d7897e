"""A DeepLabV3 small enough for a phone: a dilated MobileNetV3-Large and one atrous convolution instead of a pyramid."""

from typing import Literal

from torch import nn
from torchvision.models import mobilenet_v3_large
from torchvision.models._utils import IntermediateLayerGetter

from limbeck.models._blocks import Segmenter
from limbeck.models._torchvision import library_weights, load_backbone

__all__ = ["lightweight_deeplabv3"]


def lightweight_deeplabv3(
    *, num_classes: int, backbone: Literal["random", "imagenet", "coco_voc"] = "random"
) -> nn.Module:
    """MobileNetV3-Large with a head of two convolutions; 3.8 million parameters, logits at stride 16.

    Taps: ``backbone.16`` (960 channels) is what the head sees, ``classifier.5`` (256) what its last layer sees.

    Args:
        num_classes: Channels of the logits.
        backbone: Where the backbone's weights come from; ``coco_voc`` are those of torchvision's whole DeepLabV3, which
            has already learnt to segment.

    Raises:
        UserError: If the backbone's weights cannot be downloaded.
    """
    layers = mobilenet_v3_large(weights=None, dilated=True).features
    seen = IntermediateLayerGetter(layers, return_layers={"16": "out"})
    model = Segmenter({"kind": "lightweight_deeplabv3"}, seen, _head(layers[-1].out_channels, num_classes))
    if backbone == "imagenet":
        load_backbone(model.backbone, library_weights("mobilenet_v3_large", "IMAGENET1K_V1"))
    elif backbone == "coco_voc":
        load_backbone(model.backbone, library_weights("deeplabv3_mobilenet_v3_large", "COCO_WITH_VOC_LABELS_V1"))
    return model


def _head(channels: int, num_classes: int) -> nn.Sequential:
    head = nn.Sequential(
        nn.Conv2d(channels, 256, 1, bias=False),
        nn.BatchNorm2d(256),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=6, dilation=6, bias=False),
        nn.BatchNorm2d(256),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Conv2d(256, num_classes, 1),
    )
    for layer in head:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return head
