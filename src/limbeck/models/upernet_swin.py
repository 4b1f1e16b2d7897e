"""UPerNet on a Swin Transformer, from transformers: windows that shift, and a pyramid head.

Source: Xiao et al., Unified Perceptual Parsing for Scene Understanding, ECCV 2018 (arXiv:1807.10221); Liu et al., Swin
Transformer, ICCV 2021 (arXiv:2103.14030), sizes from its section 3.3.
"""

from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import Tensor, nn
from transformers import SwinConfig, UperNetConfig, UperNetForSemanticSegmentation

from limbeck.data.weights import Report, load_tensors
from limbeck.graph.network import IMAGENET_MEAN, IMAGENET_STD
from limbeck.models._hub import hub_json, hub_tensors
from limbeck.models._mmseg import BinPool
from limbeck.models._swin_files import OLD_NAMES, UNUSED, from_elsewhere
from limbeck.record import UserError

__all__ = ["upernet_swin"]

Size = Literal["tiny", "small", "base", "large"]
AUX_WEIGHT = 0.4
STAGES = ["stage1", "stage2", "stage3", "stage4"]

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"embed_dim": 96, "depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24], "window_size": 7},
    "small": {"embed_dim": 96, "depths": [2, 2, 18, 2], "num_heads": [3, 6, 12, 24], "window_size": 7},
    "base": {"embed_dim": 128, "depths": [2, 2, 18, 2], "num_heads": [4, 8, 16, 32], "window_size": 12},
    "large": {"embed_dim": 192, "depths": [2, 2, 18, 2], "num_heads": [6, 12, 24, 48], "window_size": 12},
}


class _UpernetSwin(nn.Module):
    """The parts of transformers' network under their own names; the auxiliary head runs in training only."""

    old_names: ClassVar[tuple[tuple[str, str], ...]] = OLD_NAMES
    from_elsewhere = staticmethod(from_elsewhere)
    unused: ClassVar[tuple[str, ...]] = UNUSED

    def __init__(self, size: Size, num_classes: int, window: int | None, aux: bool) -> None:
        super().__init__()
        spec = SIZES[size] | ({"window_size": window} if window else {})
        swin = SwinConfig(**spec, drop_path_rate=0.3, out_features=STAGES)
        net = UperNetForSemanticSegmentation(
            UperNetConfig(backbone_config=swin, num_labels=num_classes, auxiliary_in_channels=4 * spec["embed_dim"])
        )
        # Of the fused attention, exporters lose the memory layout that the view after it was traced with.
        net.set_attn_implementation("eager")
        self.backbone, self.decode_head = net.backbone, net.decode_head
        self.backbone.swin.layernorm = nn.Identity()  # each stage has its own; nothing reads this one
        for block in self.decode_head.psp_modules.blocks:
            block.layers[0] = BinPool(block.layers[0].output_size)
            block.add_module("0", block.layers[0])
        if aux:
            self.auxiliary_head = net.auxiliary_head
        self.aux = {"auxiliary_head": AUX_WEIGHT} if aux else {}
        self.mean, self.std = IMAGENET_MEAN, IMAGENET_STD
        self.architecture = {"kind": "upernet_swin", "size": size, "window": spec["window_size"], "aux": aux}
        self.loaded: Report | None = None

    def forward(self, image: Tensor) -> Tensor:
        """Logits at stride 4; stages pad to whole windows inside and crop again."""
        swin, features = self.backbone.swin, []
        states, (height, width) = swin.embeddings(image)
        for name, stage in zip(STAGES, swin.encoder.layers, strict=True):
            for block in stage.blocks:
                states, _ = block(states, (height, width), always_partition=True)
            normed = self.backbone.hidden_states_norms[name](states)
            features.append(normed.unflatten(1, (height, width)).permute(0, 3, 1, 2).contiguous())
            if stage.downsample is not None:
                states = stage.downsample(states, (height, width))
                height, width = (height + 1) // 2, (width + 1) // 2
        if self.training and self.aux:
            self.auxiliary_head(features)
        logits: Tensor = self.decode_head(features)
        return logits


def upernet_swin(
    *,
    num_classes: int,
    size: Size = "tiny",
    window: Literal[7, 12] | None = None,
    aux: bool = True,
    pretrained: str | None = None,
    root: Path | None = None,
) -> nn.Module:
    """UPerNet on Swin tiny, small, base or large, 59 to 233 million parameters, logits at stride 4, any input size.

    Taps: ``backbone.hidden_states_norms.stage1`` to ``.stage4`` are tokens at strides 4 to 32;
    ``decode_head.bottleneck`` and ``decode_head.fpn_bottleneck`` maps of 512 channels at strides 32 and 4. The head
    normalises one pooled pixel over the batch: it cannot train with one image a step.

    Args:
        num_classes: Channels of the logits.
        size: The variant; a checkpoint must be of the same.
        window: Side of an attention window in patches: 7 for tiny and small, 12 for base and large unless given.
        aux: An auxiliary head on the third stage.
        pretrained: Hub id, or folder with ``config.json`` and ``model.safetensors``. With other classes, the last
            layers start afresh; ``model.loaded`` tells.
        root: Folder that a relative folder is looked up in.

    Raises:
        UserError: If the checkpoint is of another size or family, or cannot be had.
    """
    model = _UpernetSwin(size, num_classes, window, aux)
    if pretrained is not None:
        _check_size(hub_json(pretrained, "config.json", root or Path()), model.architecture, pretrained)
        fresh = ("decode_head.classifier", "auxiliary_head.classifier")
        model.loaded = load_tensors(model, hub_tensors(pretrained, root or Path()), pretrained, fresh=fresh)
    return model


def _check_size(found: dict[str, Any], wanted: dict[str, Any], pretrained: str) -> None:
    """Refuse a checkpoint of another family, size or window before its weights are downloaded."""
    backbone = found.get("backbone_config") or {}
    if found.get("model_type") != "upernet" or backbone.get("model_type") != "swin":
        kinds = f"{found.get('model_type', 'nothing')!r} on {backbone.get('model_type', 'nothing')!r}"
        raise UserError(f"{pretrained}: its config.json describes {kinds}, not 'upernet' on 'swin'.")
    fits = [n for n, spec in SIZES.items() if all(backbone.get(k) == spec[k] for k in ("depths", "embed_dim"))]
    if fits != [wanted["size"]] or backbone.get("window_size", 7) != wanted["window"]:
        hint = f"`size: {fits[0]}`, `window: {backbone.get('window_size', 7)}`" if fits else "none of the four sizes"
        raise UserError(f"{pretrained}: not a Swin {wanted['size']} with windows of {wanted['window']}; it is {hint}.")
