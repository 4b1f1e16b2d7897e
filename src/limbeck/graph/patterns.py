"""What nodes of an exported graph are, told by aten target alone, so that strict and non-strict graphs are alike."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node

__all__ = [
    "ADD",
    "BATCH_NORM",
    "CAT",
    "CONV",
    "CONV_TRANSPOSE",
    "DROPOUT",
    "HARDSIGMOID",
    "HARDSWISH",
    "LINEAR",
    "MOVEMENT",
    "MUL",
    "POOL",
    "RESIZE",
    "attribute",
    "averages_image",
    "calls",
    "channel_axis",
    "clips_at_zero",
    "has_stored_weight",
    "is_call",
    "is_depthwise",
    "module_path",
    "output_nodes",
    "single_user",
    "tensor_inputs",
]

aten = torch.ops.aten
Targets = frozenset[Callable[..., Any]]

CONV: Targets = frozenset({aten.conv2d.default, aten.conv2d.padding})
CONV_TRANSPOSE: Targets = frozenset({aten.conv_transpose2d.input})
LINEAR: Targets = frozenset({aten.linear.default})
BATCH_NORM: Targets = frozenset({aten.batch_norm.default})
DROPOUT: Targets = frozenset({aten.dropout.default, aten.feature_dropout.default})
ADD: Targets = frozenset({aten.add.Tensor})
MUL: Targets = frozenset({aten.mul.Tensor})
CAT: Targets = frozenset({aten.cat.default})
HARDSWISH: Targets = frozenset({aten.hardswish.default})
HARDSIGMOID: Targets = frozenset({aten.hardsigmoid.default})
RESIZE: Targets = frozenset({
    aten.upsample_bilinear2d.vec, aten.upsample_bilinear2d.default,
    aten.upsample_nearest2d.vec, aten.upsample_nearest2d.default,
})  # fmt: skip
POOL: Targets = frozenset({
    aten.adaptive_avg_pool2d.default, aten.avg_pool2d.default, aten.mean.dim,
})  # fmt: skip
# Values pass through unchanged: input and output share one range.
MOVEMENT: Targets = frozenset({
    aten.max_pool2d.default, aten.reshape.default, aten.view.default, aten.flatten.using_ints, aten.permute.default,
    aten.transpose.int, aten.slice.Tensor, aten.squeeze.dim, aten.unsqueeze.default, aten.contiguous.default,
    aten.expand.default, aten.clone.default,
})  # fmt: skip


def is_call(node: Any, targets: Targets) -> bool:
    """True if ``node`` is a call of one of ``targets``."""
    return isinstance(node, Node) and node.op == "call_function" and node.target in targets


def calls(graph: Graph, targets: Targets) -> list[Node]:
    """The calls of ``targets`` in the order in which they run."""
    return [node for node in graph.nodes if is_call(node, targets)]


def clips_at_zero(node: Node) -> bool:
    """True for ReLU, ReLU6 and every clamp from 0 to some bound: an unsigned range already does what they do."""
    if is_call(node, frozenset({aten.relu.default, aten.relu6.default})):
        return True
    if is_call(node, frozenset({aten.hardtanh.default, aten.clamp.default, aten.clamp_min.default})):
        return len(node.args) > 1 and bool(node.args[1] == 0)
    return False


def single_user(node: Node) -> Node | None:
    """The one node that reads ``node``, or None if there are none or several."""
    return next(iter(node.users)) if len(node.users) == 1 else None


def tensor_inputs(node: Node) -> list[Node]:
    """The nodes a call reads as tensors, lists of tensors flattened, weights and sizes left out."""
    return [n for n in _flat(node.args) if n.op != "get_attr" and isinstance(n.meta.get("val"), torch.Tensor)]


def _flat(args: Sequence[Any]) -> Iterator[Node]:
    for arg in args:
        if isinstance(arg, Node):
            yield arg
        elif isinstance(arg, list | tuple):
            yield from _flat(arg)


def output_nodes(graph: Graph) -> list[Node]:
    """The nodes whose values leave the graph."""
    return list(_flat(graph.output_node().args))


def channel_axis(node: Node) -> int | None:
    """The output-channel axis of a layer's weight; None where no axis holds it (grouped transposed convolution)."""
    if not is_call(node, CONV_TRANSPOSE):
        return 0
    groups = node.args[6] if len(node.args) > 6 else 1
    return 1 if groups == 1 else None


def averages_image(node: Node) -> bool:
    """True for an average over windows or over the whole image that keeps height and width as axes."""
    if is_call(node, frozenset({aten.mean.dim})):
        axes = sorted(int(str(a)) % 4 for a in node.args[1]) if isinstance(node.args[1], list | tuple) else []
        return node.meta["val"].dim() == 4 and axes == [2, 3]
    if is_call(node, frozenset({aten.adaptive_avg_pool2d.default})):
        return all(size == 1 for size in node.meta["val"].shape[2:])
    return is_call(node, frozenset({aten.avg_pool2d.default}))


def has_stored_weight(node: Node) -> bool:
    """True for a layer whose weight is a parameter, not something computed."""
    return isinstance(node.args[1], Node) and node.args[1].op == "get_attr"


def is_depthwise(node: Node) -> bool:
    """True for a convolution that filters every channel for itself."""
    groups = node.args[6] if is_call(node, CONV) and len(node.args) > 6 else 1
    return bool(groups != 1) and bool(groups == node.meta["val"].shape[1])


def module_path(node: Node) -> str:
    """Path of the module whose forward made ``node``, such as ``backbone.0.conv``; empty for the model itself."""
    stack: dict[str, tuple[str, Any]] = node.meta.get("nn_module_stack") or {}
    path = list(stack.values())[-1][0] if stack else ""
    return re.sub(r"^L\['self'\]\.?", "", path)


def attribute(graph: GraphModule, node: Node | None) -> torch.Tensor | None:
    """The parameter or buffer that a ``get_attr`` node reads, or None for any other node."""
    if node is None or node.op != "get_attr":
        return None
    value: Any = graph
    for name in str(node.target).split("."):
        value = getattr(value, name)
    return value if isinstance(value, torch.Tensor) else None
