"""Each rewrite on the smallest graph it is for: it applies once and changes nothing that a file computes."""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from limbeck.graph import onnx_passes as passes

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 3, 4, 4)).astype(np.float32)


def model(
    nodes: Sequence[NodeProto], constants: dict[str, np.ndarray], shape: Sequence[int] = (2, 3, 4, 4)
) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)


def quantized(source: str, target: str, scale: str = "s", zero: str = "z") -> list[NodeProto]:
    middle = f"{target}_q"
    return [
        helper.make_node("QuantizeLinear", [source, scale, zero], [middle]),
        helper.make_node("DequantizeLinear", [middle, scale, zero], [target]),
    ]


def run(proto: ModelProto, x: np.ndarray = X) -> np.ndarray:
    onnx.checker.check_model(proto, full_check=True)
    found: np.ndarray = ReferenceEvaluator(proto).run(None, {"x": x})[0]
    return found


def kinds(proto: ModelProto) -> list[str]:
    return [node.op_type for node in proto.graph.node]


ACTIVATION = {"s": np.array(0.02, np.float32), "z": np.array(100, np.uint8)}
UNIT = {"us": np.array(1 / 255, np.float32), "uz": np.array(0, np.uint8)}


def test_mean_becomes_a_pool() -> None:
    proto = model(
        [*quantized("x", "d"), helper.make_node("ReduceMean", ["d", "axes"], ["y"], keepdims=1)],
        {**ACTIVATION, "axes": np.array([-1, -2], np.int64)},
    )
    before = run(proto)
    assert passes.mean_to_global_pool(proto) == 1
    np.testing.assert_allclose(run(proto), before, atol=1e-6)
    assert kinds(proto)[-1] == "GlobalAveragePool"


def test_other_means_stay() -> None:
    for axes, source in ([1, 2], "d"), ([2, 3], "x"):
        proto = model(
            [*quantized("x", "d"), helper.make_node("ReduceMean", [source, "axes"], ["y"], keepdims=1)],
            {**ACTIVATION, "axes": np.array(axes, np.int64)},
        )
        assert passes.mean_to_global_pool(proto) == 0


def test_hard_sigmoid_becomes_a_sum_that_saturates() -> None:
    gate = helper.make_node("HardSigmoid", ["d"], ["g"], alpha=1 / 6, beta=0.5)
    proto = model([*quantized("x", "d"), gate, *quantized("g", "y", "us", "uz")], {**ACTIVATION, **UNIT})
    x = np.linspace(-5, 5, 96, dtype=np.float32).reshape(2, 3, 4, 4)
    before = run(proto, x)
    assert passes.hard_sigmoid_to_add(proto) == 1
    after = run(proto, x)
    assert "HardSigmoid" not in kinds(proto)
    assert np.abs(after - before).max() <= 1 / 255 + 1e-6  # a tie may round the other way
    assert (np.abs(after - before) < 1e-6).mean() > 0.97


def test_hard_sigmoid_with_another_range_stays() -> None:
    gate = helper.make_node("HardSigmoid", ["d"], ["g"])
    proto = model([*quantized("x", "d"), gate, *quantized("g", "y")], ACTIVATION)
    assert passes.hard_sigmoid_to_add(proto) == 0


def linear(bias: np.ndarray) -> ModelProto:
    nodes = [
        *quantized("x", "d"),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], axis=0),
        helper.make_node("Transpose", ["wd"], ["wt"], perm=[1, 0]),
        helper.make_node("MatMul", ["d", "wt"], ["m"]),
        helper.make_node("Add", ["m", "b"], ["y"]),
    ]
    stored = {
        "w": RNG.integers(-127, 127, (5, 4)).astype(np.int8), "ws": RNG.uniform(0.01, 0.02, 5).astype(np.float32),
        "wz": np.zeros(5, np.int8), "b": bias,
    }  # fmt: skip
    return model(nodes, {**ACTIVATION, **stored})


def test_weights_are_stored_as_they_are_read() -> None:
    proto = linear(np.zeros(5, np.float32))
    before = run(proto)
    assert passes.transpose_weights(proto) == 1
    np.testing.assert_array_equal(run(proto), before)
    assert "Transpose" not in kinds(proto)


def test_bias_takes_the_scale_of_the_accumulator() -> None:
    proto = linear(RNG.normal(size=5).astype(np.float32))
    before = run(proto)
    passes.transpose_weights(proto)
    assert passes.integer_bias(proto) == 1
    np.testing.assert_allclose(run(proto), before, atol=0.02 * 0.02 / 2 + 1e-6)
    stored = [i for i in proto.graph.initializer if i.data_type == TensorProto.INT32]
    assert [list(i.dims) for i in stored] == [[5]]


def test_a_bias_beyond_32_bits_stays_float() -> None:
    proto = linear(np.full(5, 1e9, np.float32))
    passes.transpose_weights(proto)
    assert passes.integer_bias(proto) == 0


def test_weights_get_zero_points_of_their_own() -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["a"], axis=0),
        helper.make_node("DequantizeLinear", ["v", "ws", "wz"], ["b"], axis=0),
        helper.make_node("Add", ["a", "b"], ["c"]),
        helper.make_node("Mul", ["x", "c"], ["y"]),
    ]
    stored = {"ws": np.array([0.1, 0.2], np.float32), "wz": np.zeros(2, np.int8)}
    weights = {name: RNG.integers(-127, 127, (2, 1, 1, 1)).astype(np.int8) for name in "wv"}
    proto = model(nodes, {**stored, **weights})
    before = run(proto)
    assert passes.own_zero_points(proto) == 2
    np.testing.assert_array_equal(run(proto), before)
    names = [node.input[2] for node in proto.graph.node if node.op_type == "DequantizeLinear"]
    assert len(set(names)) == 2
    assert "wz" not in {i.name for i in proto.graph.initializer}


def test_targets() -> None:
    assert passes.integer_bias in passes.passes_for("onnxruntime")
    assert passes.passes_for("openvino") == [passes.own_zero_points]
