"""SegFormer's head as mmsegmentation has built it since 0.20, and the names of its and NVIDIA's files."""

import re
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.models._mmseg import ConvNorm

__all__ = ["MmsegHead", "from_elsewhere", "mmseg_norms"]

WIDTH = 256
"""Of the head, at every size of the encoder."""


class MmsegHead(nn.Module):
    """Each level through its own 1x1 convolution, batch norm and ReLU, then all levels, finest first, through one.

    The head of the paper has linear layers without norm, the coarsest level first, and is wider from B2 on.
    Source: mmsegmentation 0.20 and later, ``SegformerHead``; reimplemented from its description.
    """

    def __init__(self, widths: Sequence[int], num_classes: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(ConvNorm(width, WIDTH) for width in widths)
        self.fusion_conv = ConvNorm(WIDTH * len(widths), WIDTH)
        self.dropout = nn.Dropout2d(0.1)
        self.conv_seg = nn.Conv2d(WIDTH, num_classes, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Logits at the resolution of the finest features."""
        size = features[0].shape[-2:]
        levels = [
            F.interpolate(conv(feature), size, mode="bilinear", align_corners=False)
            for conv, feature in zip(self.convs, features, strict=True)
        ]
        logits: Tensor = self.conv_seg(self.dropout(self.fusion_conv(torch.cat(levels, 1))))
        return logits


def mmseg_norms(encoder: nn.Module) -> None:
    """Layer norms with mmsegmentation's epsilon, 1e-6, where transformers has 1e-5."""
    for module in encoder.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-6


STAGE = r"^(?:backbone\.)?"
NVIDIA = (
    (STAGE + r"patch_embed(?P<stage>\d)\.proj\.", "patch_embeddings.proj."),
    (STAGE + r"patch_embed(?P<stage>\d)\.norm\.", "patch_embeddings.layer_norm."),
    (STAGE + r"norm(?P<stage>\d)\.", "layer_norm."),
    (STAGE + r"block(?P<stage>\d)\.(?P<block>\d+)\.", ""),
)
"""Of NVIDIA's files and mmsegmentation 0.11 to 0.19, which count stages from 1; what stands for it within a stage."""

MMSEG = (
    (STAGE + r"layers\.(?P<stage>\d)\.0\.projection\.", "patch_embeddings.proj."),
    (STAGE + r"layers\.(?P<stage>\d)\.0\.norm\.", "patch_embeddings.layer_norm."),
    (STAGE + r"layers\.(?P<stage>\d)\.2\.", "layer_norm."),
    (STAGE + r"layers\.(?P<stage>\d)\.1\.(?P<block>\d+)\.", ""),
)
"""Of mmsegmentation since 0.20, which counts them from 0."""

BLOCK = {
    "norm1": "layernorm_before", "norm2": "layernorm_after",
    "attn.q": "attention.q_proj", "attn.proj": "attention.o_proj", "attn.attn.out_proj": "attention.o_proj",
    "attn.sr": "attention.sequence_reduction.sequence_reduction",
    "attn.norm": "attention.sequence_reduction.layer_norm",
    "mlp.fc1": "mlp.fc1", "mlp.dwconv.dwconv": "mlp.dwconv.dwconv", "mlp.fc2": "mlp.fc2",
    "ffn.layers.0": "mlp.fc1", "ffn.layers.1": "mlp.dwconv.dwconv", "ffn.layers.4": "mlp.fc2",
}  # fmt: skip
"""Layers within a block."""

PACKED = {"attn.kv": ("k_proj", "v_proj"), "attn.attn.in_proj": ("q_proj", "k_proj", "v_proj")}
"""Layers that hold several, one under the other."""

HEAD = (
    (r"^decode_head\.linear_fuse\.conv\.", "decode_head.linear_fuse."),
    (r"^decode_head\.linear_fuse\.bn\.", "decode_head.batch_norm."),
    (r"^decode_head\.linear_pred\.", "decode_head.classifier."),
)
"""Of the paper's head, whose fusion has the coarsest level first here and there; mmsegmentation's keeps its names."""


def from_elsewhere(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of NVIDIA's or mmsegmentation's SegFormer under the names here; others stay as they are.

    Keys and values, and in later files queries too, lie in one tensor and are taken apart; the 1x1 convolutions of the
    feed-forward layers become matrices. The layer ``conv_seg`` that early files carry unused is left out.
    """
    unused = "decode_head.conv_seg." if "decode_head.linear_pred.weight" in tensors else "\n"
    found: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if not name.startswith(unused):
            found |= _translated(name, value)
    return found


def _translated(name: str, value: Tensor) -> dict[str, Tensor]:
    for family, first in ((NVIDIA, 1), (MMSEG, 0)):
        for pattern, within in family:
            if match := re.match(pattern, name):
                stage, rest = f"segformer.stages.{int(match['stage']) - first}", name[match.end() :]
                if "block" in match.re.groupindex:
                    return _of_block(f"{stage}.blocks.{match['block']}", rest, value)
                return {f"{stage}.{within}{rest}": value}
    if match := re.match(r"^decode_head\.linear_c(\d)\.", name):
        return {f"decode_head.linear_projections.{int(match[1]) - 1}.{name[match.end() :]}": value}
    for pattern, replacement in HEAD:
        name = re.sub(pattern, replacement, name)
    return {name: value}


def _of_block(block: str, name: str, value: Tensor) -> dict[str, Tensor]:
    layer, _, kind = name.rpartition(".")
    if name.startswith("attn.attn.in_proj_"):
        layer, kind = "attn.attn.in_proj", name.removeprefix("attn.attn.in_proj_")
    if layer in PACKED:
        names = PACKED[layer]
        parts = value.chunk(len(names))
        return {f"{block}.attention.{own}.{kind}": part for own, part in zip(names, parts, strict=True)}
    flat = layer in ("ffn.layers.0", "ffn.layers.4") and value.ndim == 4
    return {f"{block}.{BLOCK.get(layer, layer)}.{kind}": value.flatten(1) if flat else value}
