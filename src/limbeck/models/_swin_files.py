"""Names of UPerNet and Swin in the files of mmsegmentation, of Swin's authors, and of transformers before release 5."""

import re
from collections.abc import Mapping

from torch import Tensor

__all__ = ["OLD_NAMES", "UNUSED", "from_elsewhere"]

OLD_NAMES = (
    (r"^backbone\.(embeddings|encoder)\.", r"backbone.swin.\1."),
    (r"\.attention\.self\.(q)uery\.", r".attention.\1_proj."),
    (r"\.attention\.self\.(k)ey\.", r".attention.\1_proj."),
    (r"\.attention\.self\.(v)alue\.", r".attention.\1_proj."),
    (r"\.attention\.self\.(relative_position_bias)_table", r".attention.\1.\1_table"),
    (r"\.attention\.output\.dense\.", ".attention.o_proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"(\.blocks\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
)
"""Of files on the hub, as regular expressions, and the library's names today."""

WHOLE = (
    (r"^(?:backbone\.)?patch_embed\.proj(?:ection)?\.", "backbone.swin.embeddings.patch_embeddings.projection."),
    (r"^(?:backbone\.)?patch_embed\.norm\.", "backbone.swin.embeddings.norm."),
    (r"^(?:backbone\.)?(?:stages|layers)\.(\d)\.", r"backbone.swin.encoder.layers.\1."),
    (r"^((?:decode|auxiliary)_head\..*)\.bn\.", r"\1.batch_norm."),
    (r"^((?:decode|auxiliary)_head)\.conv_seg\.", r"\1.classifier."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attn\.(?:w_msa\.)?(relative_position_bias)_table", r".attention.\1.\1_table"),
    (r"\.attn\.(?:w_msa\.)?proj\.", ".attention.o_proj."),
    (r"\.ffn\.layers\.0\.0\.", ".mlp.fc1."),
    (r"\.ffn\.layers\.1\.", ".mlp.fc2."),
)
"""Of mmsegmentation (``stages``, ``w_msa``, ``ffn``) and of Swin's authors (``layers``, ``attn``, ``mlp``)."""

UNUSED = ("relative_position_index", "attn_mask", "swin.layernorm.weight", "swin.layernorm.bias")
"""What follows from the window's size, and a norm that nothing reads."""


def from_elsewhere(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of mmsegmentation's or the authors' UPerNet with Swin under the names here; others stay as they are.

    Queries, keys and values lie in one tensor and are taken apart. Where mmsegmentation merges four patches, it puts
    the four values of a channel side by side, row by row; here all channels of a patch stand together, column by
    column: the weights that read them are put in that order.
    """
    unfolded = any(".w_msa." in name for name in tensors)
    found: dict[str, Tensor] = {}
    for name, value in tensors.items():
        found |= _translated(name, value, unfolded)
    return found


def _translated(name: str, value: Tensor, unfolded: bool) -> dict[str, Tensor]:
    if match := re.match(r"^(?:backbone\.)?norm(\d)\.(weight|bias)$", name):
        return {f"backbone.hidden_states_norms.stage{int(match[1]) + 1}.{match[2]}": value}
    for pattern, replacement in WHOLE:
        name = re.sub(pattern, replacement, name)
    if match := re.match(r"(.*)\.attn\.(?:w_msa\.)?qkv\.(weight|bias)$", name):
        parts = zip("qkv", value.chunk(3), strict=True)
        return {f"{match[1]}.attention.{part}_proj.{match[2]}": own for part, own in parts}
    if unfolded and ".downsample." in name:
        value = merged_by_patch(value)
    return {name: value}


def merged_by_patch(value: Tensor) -> Tensor:
    """The last axis, [channel, row, column], as [column, row, channel]."""
    return value.reshape(*value.shape[:-1], -1, 2, 2).transpose(-1, -3).flatten(-3)
