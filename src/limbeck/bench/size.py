"""How large a network and its file are."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

__all__ = ["file_mb", "macs_g", "params_m"]


def params_m(model: "nn.Module") -> float:
    """Parameters of a network in millions, a shared one counted once; buffers are not counted."""
    return sum(parameter.numel() for parameter in model.parameters()) / 1e6


def macs_g(model: "nn.Module", shape: Sequence[int]) -> float:
    """Multiply-accumulates of one forward pass in evaluation, in billions (1 MAC = 2 FLOPs), for a whole batch.

    Counted are convolutions, linear layers and matrix products, attention included. Everything else (activations,
    normalisation, resizing, bias) counts 0, as in most published tables.

    Args:
        model: An eager network; it stays as it is.
        shape: Input [n, c, h, w].
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    network = copy.deepcopy(model).eval()
    place = next(model.parameters(), torch.zeros(())).device
    counter = FlopCounterMode(display=False)
    # Fused attention has no formula on every device; its plain form is two matrix products, which have.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        network(torch.zeros(*shape, device=place))
    return float(counter.get_total_flops()) / 2e9


def file_mb(path: Path) -> float:
    """Size of an exported file in units of 10^6 bytes, with the weights beside an OpenVINO ``.xml``."""
    parts = [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]
    return sum(part.stat().st_size for part in parts) / 1e6
