"""Where values become integers: for each runtime, the nodes its integer kernels compute, and what they fuse."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

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
        shared_cat: Whether the inputs of a concatenation must share a range.
        float_heads: Whether layers that make the output stay float: 8-bit logits would cost accuracy and gain nothing.
        fed_depthwise: Whether a depthwise convolution gains only if an integer kernel feeds it.
        split_gates: Whether hardswish and silu run in integers only as gate and product.
    """

    layers: Targets
    fused: Callable[[Node], bool]
    joins: Targets
    movement: Targets
    needs_output: Targets
    shared_cat: bool
    float_heads: bool
    fed_depthwise: bool
    split_gates: bool


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
        shared_cat=False,
        float_heads=True,
        fed_depthwise=False,
        split_gates=True,
    ),
    "openvino": Rules(
        layers=patterns.CONV | patterns.CONV_TRANSPOSE | patterns.LINEAR,
        fused=_fused_by_openvino,
        joins=patterns.ADD | patterns.MUL | patterns.CAT | patterns.POOL,
        movement=frozenset({aten.max_pool2d.default}) | patterns.RESIZE,
        needs_output=frozenset(),
        shared_cat=True,
        float_heads=False,
        fed_depthwise=True,
        split_gates=False,
    ),
}


@dataclass
class Placement:
    """What is quantized: edges into nodes, outputs of nodes, and which of them share one range.

    ``edges`` maps (producer, reader) and ``outputs`` maps a node to the edge or node whose range it shares, or to None
    for a range of its own. ``layers`` are the nodes whose weights are quantized, ``unit`` the outputs that lie in 0..1.
    """

    layers: list[Node]
    edges: dict[tuple[Node, Node], tuple[Node, Node] | None]
    outputs: dict[Node, tuple[Node, Node] | None]
    unit: set[Node]


def place(graph: Graph, rules: Rules, excluded: Callable[[Node], bool]) -> Placement:
    """Decide for every value of a graph whether it is an integer.

    Layers are integers unless excluded. A join is one if everything it reads comes from integer kernels and something
    that reads it wants integers, so that no conversion is bought for one addition. Movement follows its input.
    """
    heads = _heads(graph, rules) if rules.float_heads else set()
    candidates = [n for n in patterns.calls(graph, rules.layers) if not excluded(n) and n not in heads]
    layers = [n for n in candidates if patterns.has_stored_weight(n) and tensor_inputs(n)]
    while True:
        tails = {_tail(layer, rules): layer for layer in layers}
        joins = _joins(graph, rules, layers, tails, excluded)
        kept = [n for n in layers if not rules.fed_depthwise or _fed(n, tails.keys() | joins, rules)]
        if kept == layers:
            break
        layers = kept
    return _Placer(rules, layers, tails, joins, graph).placement()


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


def _fed(layer: Node, producers: set[Node], rules: Rules) -> bool:
    return not patterns.is_depthwise(layer) or _comes_from(tensor_inputs(layer)[0], producers, rules)


def _tail(layer: Node, rules: Rules) -> Node:
    """The last node a layer's kernel computes: the layer, or the activation it fuses."""
    user = single_user(layer)
    return user if user is not None and rules.fused(user) else layer


def _joins(
    graph: Graph, rules: Rules, layers: list[Node], tails: Iterable[Node], excluded: Callable[[Node], bool]
) -> set[Node]:
    """The joins that run in integers: the largest set that holds itself up."""
    joins = {n for n in patterns.calls(graph, rules.joins) if not excluded(n) and _has_kernel(n)}
    tails, wanting = set(tails), set(layers)
    while True:
        kept = {
            n
            for n in joins
            if all(_comes_from(source, tails | joins, rules) for source in tensor_inputs(n))
            and any(_wanted_by(user, wanting | joins, rules) for user in n.users)
        }
        if kept == joins:
            return joins
        joins = kept


def _has_kernel(node: Node) -> bool:
    """Whether the integer kernels cover this form: two tensors without a factor, spatial means, float values."""
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


class _Placer:
    """The working state of :func:`place`."""

    def __init__(
        self, rules: Rules, layers: list[Node], tails: dict[Node, Node], joins: set[Node], graph: Graph
    ) -> None:
        self.rules, self.layers, self.tails, self.joins, self.graph = rules, layers, tails, joins, graph
        self.readers = set(layers) | joins
        self.leaving = set(output_nodes(graph))
        self.result = Placement(layers, {}, {}, set())

    def placement(self) -> Placement:
        for node in self.graph.nodes:
            if node in self.readers:
                self._inputs(node)
            if node in self.joins or node in self.tails:
                self._output(node)
            elif is_call(node, self.rules.movement):
                self._movement(node)
        return self.result

    def _inputs(self, node: Node) -> None:
        sources = tensor_inputs(node)[:1] if node in self.layers else tensor_inputs(node)
        first = (sources[0], node)
        shared = self.rules.shared_cat and is_call(node, patterns.CAT)
        for source in dict.fromkeys(sources):
            self.result.edges[source, node] = first if shared and source is not sources[0] else None

    def _output(self, node: Node) -> None:
        wanted = any(_wanted_by(user, self.readers, self.rules) for user in node.users)
        if wanted or is_call(self.tails.get(node), self.rules.needs_output):
            first = (tensor_inputs(node)[0], node)
            shared = self.rules.shared_cat and is_call(node, patterns.CAT)
            self.result.outputs[node] = first if shared else None
            if is_call(node, _UNIT_GATES):
                self.result.unit.add(node)

    def _movement(self, node: Node) -> None:
        source = tensor_inputs(node)[0]
        quantized = source in self.result.outputs
        if quantized and _wanted_by(node, self.readers, self.rules):
            self.result.edges[source, node] = None
            self.result.outputs[node] = (source, node)
