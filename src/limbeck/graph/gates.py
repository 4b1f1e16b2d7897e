"""Activations of the form x * gate(x), taken apart where only gate and product have integer kernels."""

from typing import Any

import torch
from torch.fx import GraphModule

from limbeck.graph.patterns import calls

__all__ = ["split_gates"]

aten = torch.ops.aten
_GATE_OF: dict[Any, Any] = {aten.hardswish.default: aten.hardsigmoid.default, aten.silu.default: aten.sigmoid.default}


def split_gates(graph: GraphModule) -> int:
    """Write hardswish as ``x * hardsigmoid(x)`` and silu as ``x * sigmoid(x)``, so that both parts can be quantized.

    Returns:
        The number of activations taken apart.
    """
    found = calls(graph.graph, frozenset(_GATE_OF))
    for node in found:
        x = node.args[0]
        with graph.graph.inserting_before(node):
            gate = graph.graph.call_function(_GATE_OF[node.target], (x,))
            product = graph.graph.call_function(aten.mul.Tensor, (x, gate))
        gate.meta, product.meta = dict(node.meta), dict(node.meta)
        node.replace_all_uses_with(product)
        graph.graph.erase_node(node)
    graph.recompile()
    return len(found)
