"""Classifiers of torchvision, with its keys, so that its checkpoints load."""

from collections.abc import Sequence
from typing import Any

import torch
import torchvision
from torch import nn
from torchvision.models import get_model, get_model_weights, list_models

from limbeck.data.weights import load_tensors
from limbeck.graph.network import IMAGENET_MEAN, IMAGENET_STD
from limbeck.models._torchvision import library_weights
from limbeck.place import nearest
from limbeck.record import UserError

__all__ = ["torchvision_classifier"]

TASK = "classification"

WITH_AUX = ("googlenet", "inception_v3")
"""Their second and third classifier serve training from scratch alone and are left out. Published weights want images
scaled to -1..1, whatever the library's transforms say: it changes them once more inside the network."""

OLD_NAMES = ((r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)", r"\1\2"),)
"""What the published weights of DenseNets call their layers."""


def torchvision_classifier(*, num_classes: int, arch: str = "resnet18", pretrained: str | None = None) -> nn.Module:
    """ResNet, EfficientNet, MobileNet, RegNet, ConvNeXt, ViT, Swin and all other classifiers of torchvision: [n, c].

    ViT and MaxViT take images of 224x224 alone. Taps: the library's own names, such as ``layer4`` or ``features.12``.

    Args:
        num_classes: Length of the logits.
        arch: The library's name.
        pretrained: A name of torchvision's weights, such as ``DEFAULT`` or ``IMAGENET1K_V1``; they decide on mean and
            standard deviation too. With other classes than their 1000 the last layer starts afresh; ``model.loaded``
            tells.

    Raises:
        UserError: If there is no such architecture, there are no such weights, or they cannot be downloaded.
    """
    known = list_models(module=torchvision.models)
    if arch not in known:
        raise UserError(f"model torchvision_classifier: no classifier {arch!r}.{nearest(arch, known)}")
    model: Any = _plain(arch, num_classes)
    model.architecture = {"kind": "torchvision_classifier", "arch": arch}
    model.aux, model.loaded, model.old_names = {}, None, OLD_NAMES
    model.mean, model.std = IMAGENET_MEAN, IMAGENET_STD
    *_, (head, _) = model.named_children()
    model.encoder_path = tuple(dict.fromkeys(n for n in (k.partition(".")[0] for k in model.state_dict()) if n != head))
    if pretrained is not None:
        state = {n: v for n, v in library_weights(arch, pretrained).items() if not n.lower().startswith("aux")}
        model.loaded = load_tensors(model, state, f"torchvision {arch} {pretrained}", fresh=_last(arch))
        images = get_model_weights(arch)[pretrained].transforms()
        own = tuple(images.mean), tuple(images.std)
        model.mean, model.std = own if arch not in WITH_AUX else ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    built: nn.Module = model
    return built


def _plain(arch: str, num_classes: int) -> Any:
    single = {"aux_logits": False, "init_weights": True} if arch in WITH_AUX else {}
    return get_model(arch, weights=None, num_classes=num_classes, **single)


def _last(arch: str) -> Sequence[str]:
    """Names of the tensors that depend on the number of classes."""
    with torch.device("meta"):
        one, other = _plain(arch, 3).state_dict(), _plain(arch, 4).state_dict()
    return [name for name, value in one.items() if value.shape != other[name].shape]
