"""SegFormer from transformers: a hierarchical transformer and a decoder of linear layers.

Source: Xie et al., SegFormer: Simple and Efficient Design for Semantic Segmentation with Transformers, NeurIPS 2021
(arXiv:2105.15203); sizes from its tables 6 and 7.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import Tensor, nn
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from limbeck.data.weights import Report, load_tensors
from limbeck.graph.network import IMAGENET_MEAN, IMAGENET_STD
from limbeck.models._hub import hub_json, hub_tensors
from limbeck.models._segformer_mmseg import MmsegHead, from_elsewhere, mmseg_norms
from limbeck.record import UserError

__all__ = ["segformer"]

Size = Literal["b0", "b1", "b2", "b3", "b4", "b5"]
Head = Literal["paper", "mmseg"]

WIDE = [64, 128, 320, 512]
SIZES: dict[str, dict[str, Any]] = {
    "b0": {"depths": [2, 2, 2, 2], "hidden_sizes": [32, 64, 160, 256], "decoder_hidden_size": 256},
    "b1": {"depths": [2, 2, 2, 2], "hidden_sizes": WIDE, "decoder_hidden_size": 256},
    "b2": {"depths": [3, 4, 6, 3], "hidden_sizes": WIDE, "decoder_hidden_size": 768},
    "b3": {"depths": [3, 4, 18, 3], "hidden_sizes": WIDE, "decoder_hidden_size": 768},
    "b4": {"depths": [3, 8, 27, 3], "hidden_sizes": WIDE, "decoder_hidden_size": 768},
    "b5": {"depths": [3, 6, 40, 3], "hidden_sizes": WIDE, "decoder_hidden_size": 768},
}
SAME = ("num_attention_heads", "sr_ratios", "patch_sizes", "strides", "mlp_ratios", "hidden_act", "num_channels")
"""What all sizes share; a checkpoint that differs is none of them."""


class _Segformer(nn.Module):
    """The two halves of transformers' model under their own names."""

    old_names: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"^(?:segformer\.)?encoder\.patch_embeddings\.(\d+)\.", r"segformer.stages.\1.patch_embeddings."),
        (r"^(?:segformer\.)?encoder\.block\.(\d+)\.", r"segformer.stages.\1.blocks."),
        (r"^(?:segformer\.)?encoder\.layer_norm\.(\d+)\.", r"segformer.stages.\1.layer_norm."),
        (r"\.attention\.self\.query\.", ".attention.q_proj."),
        (r"\.attention\.self\.key\.", ".attention.k_proj."),
        (r"\.attention\.self\.value\.", ".attention.v_proj."),
        (r"\.attention\.self\.sr\.", ".attention.sequence_reduction.sequence_reduction."),
        (r"\.attention\.self\.layer_norm\.", ".attention.sequence_reduction.layer_norm."),
        (r"\.attention\.output\.dense\.", ".attention.o_proj."),
        (r"\.mlp\.dense(\d)\.", r".mlp.fc\1."),
        (r"\.layer_norm_1\.", ".layernorm_before."),
        (r"\.layer_norm_2\.", ".layernorm_after."),
        (r"^decode_head\.linear_c\.", "decode_head.linear_projections."),
    )
    """Names that files on the hub use, as regular expressions, and those of the library today."""

    from_elsewhere = staticmethod(from_elsewhere)

    def __init__(self, size: Size, num_classes: int, head: Head) -> None:
        super().__init__()
        net = SegformerForSemanticSegmentation(SegformerConfig(num_labels=num_classes, **SIZES[size]))
        self.segformer, self.decode_head = net.segformer, net.decode_head
        if head == "mmseg":
            mmseg_norms(self.segformer)
            self.decode_head = MmsegHead(SIZES[size]["hidden_sizes"], num_classes)
        self.aux: dict[str, float] = {}
        self.mean, self.std = IMAGENET_MEAN, IMAGENET_STD
        self.architecture = {"kind": "segformer", "size": size} | ({} if head == "paper" else {"head": head})
        self.loaded: Report | None = None

    def advice(self, names: Collection[str]) -> str | None:
        """What to write for a file with tensors of these names, if it is of the other head."""
        if "decode_head.fusion_conv.conv.weight" in names and not isinstance(self.decode_head, MmsegHead):
            return "It has the head of mmsegmentation: write `head: mmseg`."
        if "decode_head.linear_fuse.weight" in names and isinstance(self.decode_head, MmsegHead):
            return "It has the head of the paper: leave out `head: mmseg`."
        return None

    def forward(self, image: Tensor) -> Tensor:
        """Logits at stride 4; the stages are called one by one, so that each can be tapped and exported."""
        features = [image]
        for stage in self.segformer.stages:
            features.append(stage(features[-1]))
        logits: Tensor = self.decode_head(features[1:])
        return logits


def segformer(
    *,
    num_classes: int,
    size: Size = "b0",
    head: Head = "paper",
    pretrained: str | None = None,
    root: Path | None = None,
) -> nn.Module:
    """SegFormer B0 to B5, 3.7 to 84.7 million parameters, logits at stride 4; any input size of at least 32 works.

    Taps: ``segformer.stages.0`` to ``.3`` at strides 4, 8, 16 and 32; ``decode_head`` is the logits.

    Args:
        num_classes: Channels of the logits.
        size: The variant; a checkpoint must be of the same.
        head: The decoder of the paper, of transformers, NVIDIA and mmsegmentation before 0.20; or ``mmseg``, that of
            mmsegmentation since, with the norms that go with it. Files of all of them load.
        pretrained: Hub id, or folder with ``config.json`` and ``model.safetensors``. With an encoder alone, such as
            ``nvidia/mit-b0``, the decoder starts afresh; with other classes, the last layer; ``model.loaded`` tells.
        root: Folder that a relative folder is looked up in.

    Raises:
        UserError: If the checkpoint is of another size or family, keeps its weights in a pickle only, or cannot be had.
    """
    model = _Segformer(size, num_classes, head)
    if pretrained is not None:
        _load(model, size, pretrained, root or Path())
    return model


def _load(model: _Segformer, size: Size, pretrained: str, root: Path) -> None:
    _check_size(hub_json(pretrained, "config.json", root), size, pretrained)
    tensors = hub_tensors(pretrained, root)
    encoder_only = not any(name.startswith("decode_head.") for name in tensors)
    tensors = {name: value for name, value in tensors.items() if not (encoder_only and name.startswith("classifier."))}
    fresh = ("decode_head",) if encoder_only else ("decode_head.classifier",)
    model.loaded = load_tensors(model, tensors, pretrained, fresh=fresh)
    images = hub_json(pretrained, "preprocessor_config.json", root)
    model.mean, model.std = tuple(images.get("image_mean", model.mean)), tuple(images.get("image_std", model.std))


def _check_size(found: dict[str, Any], size: Size, pretrained: str) -> None:
    """Refuse a checkpoint whose configuration is not that of ``size``, before its weights are downloaded."""
    if found.get("model_type") != "segformer":
        raise UserError(
            f"{pretrained}: its config.json describes {found.get('model_type', 'nothing')!r}, not 'segformer'."
        )
    plain = SegformerConfig()
    for key in SAME:
        ours = getattr(plain, key)
        theirs = found.get(key, ours)
        if _listed(theirs) != _listed(ours):
            raise UserError(f"{pretrained}: {key} is {theirs}, B0 to B5 have {_listed(ours)}; it is none of them.")
    fits = [
        name for name, spec in SIZES.items() if all(found.get(key) == spec[key] for key in ("depths", "hidden_sizes"))
    ]
    if fits != [size]:
        shape = f"depths {found.get('depths')}, widths {found.get('hidden_sizes')}"
        hint = f"write `size: {fits[0]}`" if fits else f"{shape} is none of {', '.join(SIZES)}"
        raise UserError(f"{pretrained}: not a SegFormer {size}; {hint}.")


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
