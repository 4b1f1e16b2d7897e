"""Batch norm folded into the layer before it."""

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from limbeck.graph.modes import EPS, RUNNING_VAR
from limbeck.graph.patterns import (
    BATCH_NORM,
    CONV,
    CONV_TRANSPOSE,
    LINEAR,
    attribute,
    calls,
    channel_axis,
    is_call,
    single_user,
)

__all__ = ["fold_batch_norm", "foldable"]


def foldable(batch_norm: Node) -> Node | None:
    """The convolution or linear layer that only feeds ``batch_norm`` and can take it up, or None."""
    layer = batch_norm.args[0]
    if (
        not isinstance(layer, Node)
        or not is_call(layer, CONV | CONV_TRANSPOSE | LINEAR)
        or single_user(layer) is not batch_norm
    ):
        return None
    if is_call(layer, LINEAR) and len(layer.meta["val"].shape) != 2:
        return None
    weight = layer.args[1]
    alone = isinstance(weight, Node) and weight.op == "get_attr" and len(weight.users) == 1
    return layer if alone and channel_axis(layer) is not None else None


def fold_batch_norm(graph: GraphModule) -> int:
    """Fold every batch norm that follows a layer into its weight and bias, in evaluation form; others stay.

    With W' = W * g / sqrt(v + eps) and b' = (b - m) * g / sqrt(v + eps) + beta (gamma g, running mean m, running
    variance v) the graph computes the same function. A gamma of zero is no special case.

    Returns:
        The number of batch norms folded.
    """
    folded = 0
    for batch_norm in calls(graph.graph, BATCH_NORM):
        layer = foldable(batch_norm)
        if layer is not None:
            _fold(graph, layer, batch_norm)
            folded += 1
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    _forget_unread(graph)
    graph.recompile()
    return folded


@torch.no_grad()
def _fold(graph: GraphModule, layer: Node, batch_norm: Node) -> None:
    weight, bias = _tensor(graph, layer.args[1]), _optional(graph, layer, 2)
    gamma, beta, mean = (_optional(graph, batch_norm, position) for position in (1, 2, 3))
    variance, eps = _optional(graph, batch_norm, RUNNING_VAR), float(batch_norm.args[EPS])  # type: ignore[arg-type]
    assert mean is not None
    assert variance is not None
    factor = torch.rsqrt(variance + eps) * (1.0 if gamma is None else gamma)
    shift = (0.0 if bias is None else bias) - mean
    axis = channel_axis(layer)
    weight.data = weight * factor.reshape([-1 if a == axis else 1 for a in range(weight.dim())])
    _set_bias(graph, layer, shift * factor + (0.0 if beta is None else beta))
    batch_norm.replace_all_uses_with(layer)
    graph.graph.erase_node(batch_norm)


def _set_bias(graph: GraphModule, layer: Node, value: Tensor) -> None:
    weight = layer.args[1]
    assert isinstance(weight, Node)
    path, _, _ = str(weight.target).rpartition(".")
    owner = graph.get_submodule(path)
    owner.bias = nn.Parameter(value.detach().clone())
    with graph.graph.inserting_before(layer):
        node = graph.graph.get_attr(f"{path}.bias".lstrip("."))
    node.meta = {"val": layer.meta["val"].new_empty(value.shape)}
    old = layer.args[2] if len(layer.args) > 2 else None
    layer.args = (*layer.args[:2], node, *layer.args[3:])
    if isinstance(old, Node) and not old.users:
        graph.graph.erase_node(old)


def _optional(graph: GraphModule, node: Node, position: int) -> Tensor | None:
    arg = node.args[position] if len(node.args) > position else None
    return attribute(graph, arg) if isinstance(arg, Node) else None


def _tensor(graph: GraphModule, node: object) -> Tensor:
    value = attribute(graph, node) if isinstance(node, Node) else None
    assert value is not None
    return value


def _forget_unread(graph: GraphModule) -> None:
    """Drop parameters and buffers no node reads, so that they are neither trained, averaged nor saved."""
    read = {str(node.target) for node in graph.graph.nodes if node.op == "get_attr"}
    for name in [n for n, _ in graph.named_parameters()] + [n for n, _ in graph.named_buffers()]:
        if name not in read:
            path, _, leaf = name.rpartition(".")
            delattr(graph.get_submodule(path), leaf)
