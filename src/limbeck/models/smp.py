"""Encoders and decoders of segmentation_models_pytorch, with its keys, for images of any size."""

import inspect
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.graph.network import IMAGENET_MEAN, IMAGENET_STD
from limbeck.place import nearest
from limbeck.record import UserError

__all__ = ["smp_segmenter"]

ARCHITECTURES: dict[str, type[nn.Module]] = smp.MODEL_ARCHITECTURES_MAPPING
OURS = ("self", "encoder_name", "encoder_weights", "in_channels", "classes", "activation", "aux_params", "kwargs")
"""Arguments of an smp architecture that are set here or make no sense in a segmentation network with logits."""


class _Padded(nn.Module):
    """The three parts of an smp network; pads the image to what they divide by and crops the logits again."""

    def __init__(self, architecture: dict[str, Any], net: Any, upsample: bool) -> None:
        super().__init__()
        self.architecture = architecture
        self.encoder, self.decoder, self.segmentation_head = net.encoder, net.decoder, net.segmentation_head
        if not upsample and isinstance(net.segmentation_head, nn.Sequential):
            self.segmentation_head[1] = nn.Identity()
        least = 32 if isinstance(net, smp.DPT) else 1  # DPT makes maps down to stride 32, whatever its encoder says
        self.multiple = max(int(net.encoder.output_stride), least) if net.requires_divisible_input_shape else 1
        self.aux: dict[str, float] = {}
        self.mean, self.std = IMAGENET_MEAN, IMAGENET_STD

    def forward(self, image: Tensor) -> Tensor:
        """Logits at the decoder's stride, or at the image's size."""
        height, width = image.shape[-2:]
        below, right = -height % self.multiple, -width % self.multiple
        padded = F.pad(image, (0, right, 0, below)) if below or right else image
        features = self.encoder(padded)
        decoded = self.decoder(*features) if isinstance(features, tuple) else self.decoder(features)
        logits: Tensor = self.segmentation_head(decoded)
        if not (below or right):
            return logits
        stride = (height + below) // logits.shape[-2]
        return logits[..., : -(-height // stride), : -(-width // stride)]


def smp_segmenter(
    *,
    num_classes: int,
    arch: str = "unet",
    encoder: str = "resnet18",
    encoder_weights: str | None = None,
    options: dict[str, Any] | None = None,
    upsample: bool = False,
) -> nn.Module:
    """U-Net, FPN, PSPNet, DeepLabV3+, UPerNet and others of segmentation_models_pytorch, on any of its encoders.

    Taps: ``encoder.layer4`` and the like, as the encoder names them, and ``decoder``. U-Nets, LinkNet, MAnet and DPT
    have logits at the image's size. The library's last resize aligns corners, the one that makes masks here does not:
    ``upsample`` keeps the masks of a checkpoint that was trained elsewhere exactly.

    Args:
        num_classes: Channels of the logits.
        arch: Name of the architecture, in any case.
        encoder: Name of the encoder; ``tu-NAME`` takes one of timm.
        encoder_weights: Name of the encoder's pretrained weights, such as ``imagenet``; they decide on mean and
            standard deviation too, which are ImageNet's without them.
        options: Further arguments of the architecture, such as ``decoder_channels``.
        upsample: Keep the architecture's own resize to the size of the image instead of its native stride.

    Raises:
        UserError: If a name is unknown, the parts do not go together, or weights cannot be downloaded.
    """
    _check_names(arch.lower(), encoder, options or {})
    try:
        net = smp.create_model(
            arch, encoder_name=encoder, encoder_weights=encoder_weights, classes=num_classes, **(options or {})
        )
        architecture = {"arch": arch, "encoder": encoder, "options": options, "upsample": upsample}
        model = _Padded({"kind": "smp", **architecture}, net, upsample)
        if encoder_weights is not None:
            images = smp.encoders.get_preprocessing_params(encoder, encoder_weights)
            model.mean, model.std = tuple(images["mean"]), tuple(images["std"])
    except OSError as error:
        raise UserError(
            f"model smp: weights {encoder_weights!r} of {encoder} could not be downloaded ({error}). Fill the Hugging "
            "Face cache where there is a network, or leave out `encoder_weights`."
        ) from error
    except (KeyError, TypeError, ValueError, AssertionError) as error:
        raise UserError(
            f"model smp: {arch} with {encoder} does not go: {error.args[0] if error.args else error}"
        ) from error
    return model


def _check_names(arch: str, encoder: str, options: dict[str, Any]) -> None:
    if arch not in ARCHITECTURES:
        known = sorted(ARCHITECTURES)
        raise UserError(f"model smp: no architecture {arch!r}.{nearest(arch, known)} Known: {', '.join(known)}.")
    of_timm = encoder.startswith("tu-")
    if of_timm and not timm.is_model(encoder.removeprefix("tu-")):
        near = nearest(encoder.removeprefix("tu-"), timm.list_models())
        raise UserError(f"model smp: timm has no encoder {encoder.removeprefix('tu-')!r}.{near}")
    names = smp.encoders.get_encoder_names()
    if not of_timm and encoder not in names:
        raise UserError(f"model smp: no encoder {encoder!r}.{nearest(encoder, names)} Or `tu-NAME` for one of timm.")
    _check_options(arch, options, open_ended=of_timm)


def _check_options(arch: str, options: dict[str, Any], open_ended: bool) -> None:
    """Refuse misspelt options; what is left over goes to the encoder, and only those of timm take arguments."""
    known = [name for name in inspect.signature(ARCHITECTURES[arch].__init__).parameters if name not in OURS]
    wrong = [name for name in options if name in OURS or (name not in known and not open_ended)]
    if wrong:
        raise UserError(
            f"model smp: {arch} has no option {wrong[0]!r} here.{nearest(wrong[0], known)} Known: {', '.join(known)}."
        )
