"""Loss-free rewrites of a quantized ONNX graph into forms a runtime has integer kernels for."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

__all__ = [
    "hard_sigmoid_to_add",
    "integer_bias",
    "mean_to_global_pool",
    "own_zero_points",
    "passes_for",
    "transpose_weights",
]

Array = NDArray[Any]
Pass = Callable[[ModelProto], int]


def passes_for(target: str) -> list[Pass]:
    """The rewrites that pay on a runtime, in their order; each changes a model and returns how often it applied."""
    if target == "onnxruntime":
        return [own_zero_points, transpose_weights, integer_bias, mean_to_global_pool, hard_sigmoid_to_add]
    return [own_zero_points]


def own_zero_points(model: ModelProto) -> int:
    """Give every weight a zero point of its own: OpenVINO keeps weights in float if two of them share one."""
    graph = _Graph(model)
    done = 0
    for node in graph.nodes("DequantizeLinear"):
        zero_point = graph.values(node.input[2]) if len(node.input) > 2 else None
        if node.input[0] in graph.initializers and zero_point is not None:
            node.input[2] = graph.constant(f"{node.output[0]}_zero_point", zero_point)
            done += 1
    graph.forget_unread()
    return done


def transpose_weights(model: ModelProto) -> int:
    """Store the weight of a linear layer the way ``MatMul`` reads it, instead of transposing it in the graph."""
    graph = _Graph(model)
    done = 0
    for node in graph.nodes("Transpose"):
        source = graph.producer.get(node.input[0])
        readers = graph.readers.get(node.output[0], [])
        if source is None or source.op_type != "DequantizeLinear" or _ints(node, "perm") != [1, 0]:
            continue
        stored = graph.values(source.input[0])
        if stored is None or any(reader.op_type != "MatMul" for reader in readers):
            continue
        weight = graph.constant(f"{node.output[0]}_stored", np.ascontiguousarray(stored.T))
        axis = 1 - _int(source, "axis", 1)
        inputs = [weight, *source.input[1:]]
        graph.replace(node, [helper.make_node("DequantizeLinear", inputs, list(node.output), axis=axis)])
        done += 1
    graph.forget_unread()
    return done


def integer_bias(model: ModelProto) -> int:
    """Give the bias after an integer ``MatMul`` the accumulator's own scale, without which it is added in float.

    Each value moves by at most half of input scale x weight scale, which is what the runtime does to every convolution.
    """
    graph = _Graph(model)
    done = 0
    for node in graph.nodes("MatMul"):
        total = graph.only_reader(node.output[0])
        inner, weight = graph.producer.get(node.input[0]), graph.producer.get(node.input[1])
        if total is None or total.op_type != "Add" or not (_dequantizes(inner) and _dequantizes(weight)):
            continue
        assert inner is not None
        assert weight is not None
        position = 1 if total.input[0] == node.output[0] else 0
        bias, steps = graph.values(total.input[position]), (graph.values(inner.input[1]), graph.values(weight.input[1]))
        if bias is not None and bias.ndim == 1 and weight.input[0] in graph.initializers:
            done += _store_bias(graph, total, position, bias, steps)
    graph.forget_unread()
    return done


def _store_bias(graph: "_Graph", total: NodeProto, position: int, bias: Array, steps: tuple[Array | None, ...]) -> bool:
    first, second = steps
    if first is None or second is None:
        return False
    scale = np.broadcast_to(first.astype(np.float32) * second.astype(np.float32), bias.shape).copy()
    values = np.round(bias.astype(np.float64) / scale)
    if np.abs(values).max(initial=0) >= 2**31:
        return False
    stem = f"{total.output[0]}_bias"
    inputs = [graph.constant(f"{stem}_stored", values.astype(np.int32)), graph.constant(f"{stem}_scale", scale)]
    graph.before(total, helper.make_node("DequantizeLinear", inputs, [stem], axis=0))
    total.input[position] = stem
    return True


def _dequantizes(node: NodeProto | None) -> bool:
    return node is not None and node.op_type == "DequantizeLinear"


def mean_to_global_pool(model: ModelProto) -> int:
    """``ReduceMean`` over height and width of an integer image becomes ``GlobalAveragePool``: that has a kernel."""
    graph = _Graph(model)
    done = 0
    for node in graph.nodes("ReduceMean"):
        axes = graph.values(node.input[1]) if len(node.input) > 1 else np.array(_ints(node, "axes"))
        spatial = axes is not None and sorted(axes.tolist()) in ([2, 3], [-2, -1])
        if spatial and _int(node, "keepdims", 1) == 1 and _dequantizes(graph.producer.get(node.input[0])):
            node.op_type = "GlobalAveragePool"
            del node.attribute[:]
            del node.input[1:]
            done += 1
    graph.forget_unread()
    return done


def hard_sigmoid_to_add(model: ModelProto) -> int:
    """A ``HardSigmoid`` between integers becomes an ``Add``, whose kernel saturates where HardSigmoid clips.

    ``clip(alpha x + beta, 0, 1)`` with x = s (q - z): alpha goes into the scale, beta is a quantized constant, and
    storing the sum with scale 1/255 and zero point 0 clips it to 0..1.
    """
    graph = _Graph(model)
    done = 0
    for node in graph.nodes("HardSigmoid"):
        source, sink = graph.producer.get(node.input[0]), graph.only_reader(node.output[0])
        if source is None or sink is None or source.op_type != "DequantizeLinear" or not _unit_range(graph, sink):
            continue
        scale = graph.values(source.input[1])
        assert scale is not None
        alpha, beta = _float(node, "alpha", 0.2), _float(node, "beta", 0.5)
        stem = node.output[0]
        scaled = graph.constant(f"{stem}_scale", (scale * np.float32(alpha)).astype(np.float32))
        step = graph.constant(f"{stem}_beta_scale", np.array(beta / 255, np.float32))
        zero = graph.constant(f"{stem}_beta_zero_point", np.array(0, np.uint8))
        full = graph.constant(f"{stem}_beta", np.array(255, np.uint8))
        inner = helper.make_node("DequantizeLinear", [source.input[0], scaled, *source.input[2:]], [f"{stem}_x"])
        shift = helper.make_node("DequantizeLinear", [full, step, zero], [f"{stem}_shift"])
        total = helper.make_node("Add", [f"{stem}_x", f"{stem}_shift"], [stem])
        graph.replace(node, [inner, shift, total])
        done += 1
    graph.forget_unread()
    return done


def _unit_range(graph: "_Graph", quantize: NodeProto) -> bool:
    if quantize.op_type != "QuantizeLinear":
        return False
    scale, zero_point = graph.values(quantize.input[1]), graph.values(quantize.input[2])
    return scale is not None and zero_point is not None and abs(float(scale) * 255 - 1) < 1e-6 and int(zero_point) == 0


class _Graph:
    """A model's main graph with its lookups."""

    def __init__(self, model: ModelProto) -> None:
        self.graph = model.graph
        self.producer = {name: node for node in model.graph.node for name in node.output}
        self.readers: dict[str, list[NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.outputs = {value.name for value in model.graph.output}
        self.initializers = {value.name: value for value in model.graph.initializer}

    def nodes(self, kind: str) -> list[NodeProto]:
        return [node for node in self.graph.node if node.op_type == kind]

    def only_reader(self, name: str) -> NodeProto | None:
        readers = self.readers.get(name, [])
        return readers[0] if len(readers) == 1 and name not in self.outputs else None

    def values(self, name: str) -> Array | None:
        """The values of an initializer or a Constant node, None for anything computed."""
        if name in self.initializers:
            return np.asarray(numpy_helper.to_array(self.initializers[name]))
        node = self.producer.get(name)
        if node is None or node.op_type != "Constant":
            return None
        return np.asarray(numpy_helper.to_array(node.attribute[0].t))

    def constant(self, name: str, value: Array) -> str:
        self.graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    def before(self, node: NodeProto, new: NodeProto) -> None:
        self.graph.node.insert(list(self.graph.node).index(node), new)

    def replace(self, old: NodeProto, new: list[NodeProto]) -> None:
        position = list(self.graph.node).index(old)
        self.graph.node.remove(old)
        for offset, node in enumerate(new):
            self.graph.node.insert(position + offset, node)

    def forget_unread(self) -> None:
        """Remove nodes and initializers that nothing reads any more."""
        while True:
            read = {name for node in self.graph.node for name in node.input} | self.outputs
            idle = [node for node in self.graph.node if not any(name in read for name in node.output)]
            for node in idle:
                self.graph.node.remove(node)
            if not idle:
                break
        for value in [v for v in self.graph.initializer if v.name not in read]:
            self.graph.initializer.remove(value)


def _attribute(node: NodeProto, name: str) -> onnx.AttributeProto | None:
    return next((a for a in node.attribute if a.name == name), None)


def _float(node: NodeProto, name: str, default: float) -> float:
    found = _attribute(node, name)
    return default if found is None else float(found.f)


def _int(node: NodeProto, name: str, default: int) -> int:
    found = _attribute(node, name)
    return default if found is None else int(found.i)


def _ints(node: NodeProto, name: str) -> list[int]:
    found = _attribute(node, name)
    return [] if found is None else list(found.ints)
