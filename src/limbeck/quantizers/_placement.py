"""Where values become integers: for each runtime, the nodes its integer kernels compute, and what they fuse."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch.fx import Graph, Node

from limbeck.graph import patterns
from limbeck.graph.patterns import Targets, is_call, output_nodes, single_user, tensor_inputs

__all__ = ["RULES", "Placement", "Rules", "place"]

aten = torch.ops.aten
_UNIT_GATES: Targets = frozenset({aten.hardsigmoid.default, aten.sigmoid.default})


@dataclass(frozen=True)
class Rules:
    """What one runtime does with integers.

    Args:
        layers: Calls with a weight that have an integer kernel.
        fused: Whether a kernel applies this activation before it quantizes its output.
        joins: Calls without a weight that have an integer kernel.
        movement: Calls that pass integers through.
        needs_output: Layers that run in integers only if their output is quantized too.
        float_heads: Whether layers that make the output stay float: 8-bit logits would cost accuracy and gain nothing.
        fed_depthwise: Whether a depthwise convolution gains only if an integer kernel feeds it.
        split_gates: Whether hardswish and silu run in integers only as gate and product.
        sums_in_layer: Whether a convolution adds a second tensor before it quantizes its output. Its own output is then
            never rounded, so it must not be in training either.
    """

    layers: Targets
    fused: Callable[[Node], bool]
    joins: Targets
    movement: Targets
    needs_output: Targets
    float_heads: bool
    fed_depthwise: bool
    split_gates: bool
    sums_in_layer: bool


def _fused_by_openvino(node: Node) -> bool:
    return patterns.clips_at_zero(node) or is_call(
        node, patterns.HARDSWISH | patterns.HARDSIGMOID | {aten.silu.default, aten.gelu.default, aten.sigmoid.default}
    )


RULES = {
    "onnxruntime": Rules(
        layers=patterns.CONV | patterns.LINEAR,
        fused=patterns.clips_at_zero,
        joins=patterns.ADD | patterns.MUL | patterns.CAT | patterns.POOL | _UNIT_GATES,
        movement=patterns.MOVEMENT | patterns.RESIZE,
        needs_output=patterns.CONV,
        float_heads=True,
        fed_depthwise=False,
        split_gates=True,
        sums_in_layer=False,
    ),
    "openvino": Rules(
        layers=patterns.CONV | patterns.CONV_TRANSPOSE | patterns.LINEAR,
        fused=_fused_by_openvino,
        joins=patterns.ADD | patterns.MUL | patterns.CAT | patterns.POOL,
        movement=frozenset({aten.max_pool2d.default}) | patterns.RESIZE,
        needs_output=frozenset(),
        float_heads=False,
        fed_depthwise=True,
        split_gates=False,
        sums_in_layer=True,
    ),
}


@dataclass
class Placement:
    """What is quantized, in the order of the graph.

    ``layers`` are the nodes whose weights are quantized, ``edges`` pairs of producer and reader, ``outputs`` maps a
    node to the edge whose range it shares, or to None for a range of its own; the outputs in ``unit`` lie in 0..1.
    Readers of one output share its range by themselves.
    """

    layers: list[Node]
    edges: list[tuple[Node, Node]] = field(default_factory=list)
    outputs: dict[Node, tuple[Node, Node] | None] = field(default_factory=dict)
    unit: set[Node] = field(default_factory=set)


def place(graph: Graph, rules: Rules, excluded: Callable[[Node], bool]) -> Placement:
    """Decide for every value of a graph whether it is an integer.

    Layers are integers unless excluded. A join is one if everything it reads comes from integer kernels and something
    that reads it wants integers, so that no conversion is bought for one addition. Movement follows its input.
    """
    layers, joins, sums = _kernels(graph, rules, excluded)
    kernels = {*layers, *joins}
    kernel_of = {_tail(node, rules, sums): node for node in kernels}
    added = {total: _other(total, layer) for layer, total in sums.items()}
    added = {total: other for total, other in added.items() if _comes_from(other, set(kernel_of), rules)}
    readers = {*kernels, *added}
    result = Placement(layers)
    for node in graph.nodes:
        if node in kernels:
            sources = tensor_inputs(node)[:1] if node in layers else tensor_inputs(node)
            result.edges += [(source, node) for source in sources]
        elif node in added:
            result.edges.append((added[node], node))
        wanted = any(_wanted_by(user, readers, rules) for user in node.users)
        if node in kernel_of:
            if wanted or is_call(kernel_of[node], rules.needs_output):
                result.outputs[node] = None
            if is_call(node, _UNIT_GATES):
                result.unit.add(node)
        elif is_call(node, rules.movement) and wanted and tensor_inputs(node)[0] in result.outputs:
            edge = tensor_inputs(node)[0], node
            result.edges.append(edge)
            result.outputs[node] = edge
    return result


def _kernels(
    graph: Graph, rules: Rules, excluded: Callable[[Node], bool]
) -> tuple[list[Node], set[Node], dict[Node, Node]]:
    """Layers and joins that run in integers, the largest sets that hold each other up, and the sums inside layers."""
    heads = _heads(graph, rules) if rules.float_heads else set()
    candidates = [n for n in patterns.calls(graph, rules.layers) if not excluded(n) and n not in heads]
    layers = [n for n in candidates if patterns.has_stored_weight(n) and tensor_inputs(n)]
    sums = _sums(graph, layers) if rules.sums_in_layer else {}
    joins = {n for n in patterns.calls(graph, rules.joins) if not excluded(n) and _has_kernel(n)} - {*sums.values()}
    while True:
        readers = {*layers, *joins, *sums.values()}
        producers = {_tail(node, rules, sums) for node in [*layers, *joins]}
        kept_layers = [n for n in layers if not rules.fed_depthwise or _fed(n, producers, rules)]
        kept_joins = {n for n in joins if _holds(n, producers, readers, rules)}
        if kept_layers == layers and kept_joins == joins:
            return layers, joins, sums
        layers, joins = kept_layers, kept_joins
        sums = {layer: total for layer, total in sums.items() if layer in layers}


def _heads(graph: Graph, rules: Rules) -> set[Node]:
    """The layers whose values leave the graph, alone, in sums or resized."""
    found: set[Node] = set()
    waiting = output_nodes(graph)
    while waiting:
        node = waiting.pop()
        if is_call(node, rules.layers):
            found.add(node)
        elif is_call(node, patterns.ADD | patterns.RESIZE | patterns.MOVEMENT):
            waiting += tensor_inputs(node)
    return found


def _sums(graph: Graph, layers: list[Node]) -> dict[Node, Node]:
    """Convolutions whose output only a sum reads, with that sum; of two, the one that the sum names first."""
    found: dict[Node, Node] = {}
    for total in patterns.calls(graph, patterns.ADD):
        own = [n for n in tensor_inputs(total) if n in layers and is_call(n, patterns.CONV) and single_user(n) is total]
        if own and _has_kernel(total) and len(set(tensor_inputs(total))) == 2:
            found[own[0]] = total
    return found


def _other(total: Node, layer: Node) -> Node:
    """The tensor that a sum adds to a layer's output."""
    return next(node for node in tensor_inputs(total) if node is not layer)


def _tail(kernel: Node, rules: Rules, sums: dict[Node, Node]) -> Node:
    """The last node a kernel computes: itself or the sum in it, or the activation it fuses."""
    last = sums.get(kernel, kernel)
    user = single_user(last)
    return user if user is not None and rules.fused(user) else last


def _fed(layer: Node, producers: set[Node], rules: Rules) -> bool:
    return not patterns.is_depthwise(layer) or _comes_from(tensor_inputs(layer)[0], producers, rules)


def _holds(join: Node, producers: set[Node], readers: set[Node], rules: Rules) -> bool:
    if not all(_comes_from(source, producers, rules) for source in tensor_inputs(join)):
        return False
    return any(_wanted_by(user, readers, rules) for user in _tail(join, rules, {}).users)


def _has_kernel(node: Node) -> bool:
    """Whether the integer kernels cover this form: two tensors without a factor, averages over space, float values."""
    sources = tensor_inputs(node)
    count = 2 if is_call(node, patterns.ADD | patterns.MUL) else 1
    if len(sources) < count or node.kwargs or not all(source.meta["val"].is_floating_point() for source in sources):
        return False
    return not is_call(node, patterns.POOL) or patterns.averages_image(node)


def _comes_from(node: Node, producers: set[Node], rules: Rules) -> bool:
    while is_call(node, rules.movement):
        node = tensor_inputs(node)[0]
    return node in producers


def _wanted_by(node: Node, readers: set[Node], rules: Rules) -> bool:
    if is_call(node, rules.movement):
        return any(_wanted_by(user, readers, rules) for user in node.users)
    return node in readers
