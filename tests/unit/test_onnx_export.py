import json

import numpy as np
import onnx
import pytest
import torch
import torchao.quantization.pt2e  # noqa: F401 - registers the operators of IntegerNet
from torch import nn

from limbeck.exporters import onnx as exporting
from limbeck.exporters.onnx import Onnx
from limbeck.record import UserError
from limbeck.runtimes.onnxruntime import OnnxRuntime
from limbeck.runtimes.openvino import OpenVino

FP32 = {"version": 1, "precision": "fp32", "target": None, "classes": ["Straße", "a"]}
INT8 = FP32 | {"precision": "int8", "target": "onnxruntime"}
EXAMPLE = torch.zeros(1, 3, 32, 48)


class Upsampling(nn.Module):
    """A convolutional network whose logits have the image's size."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.Hardswish(), nn.Dropout(0.2), nn.Conv2d(8, 5, 1)
        )

    def forward(self, image):
        logits = self.layer(image) * self.layer(image).mean((2, 3), keepdim=True)
        return nn.functional.interpolate(logits, size=image.shape[2:], mode="bilinear", align_corners=False)


class IntegerNet(nn.Module):
    """What a quantizer makes of one convolution: quantize and dequantize around it, an int8 weight."""

    def __init__(self):
        super().__init__()
        self.register_buffer("weight", torch.randint(-127, 128, (5, 3, 3, 3)).to(torch.int8))
        self.register_buffer("scale", torch.rand(5) / 500 + 0.001)
        self.register_buffer("zero", torch.zeros(5, dtype=torch.int64))

    def forward(self, image):
        q = torch.ops.quantized_decomposed
        image = q.quantize_per_tensor(image, 0.05, 128, 0, 255, torch.uint8)
        image = q.dequantize_per_tensor(image, 0.05, 128, 0, 255, torch.uint8)
        weight = q.dequantize_per_channel(self.weight, self.scale, self.zero, 0, -127, 127, torch.int8)
        logits = nn.functional.conv2d(image, weight, torch.zeros(5))
        logits = q.quantize_per_tensor(logits, 0.1, 128, 0, 255, torch.uint8)
        return q.dequantize_per_tensor(logits, 0.1, 128, 0, 255, torch.uint8)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.onnx"


def integer_graph():
    sizes = ({0: torch.export.Dim("batch", min=1)},)
    return torch.export.export(IntegerNet().eval(), (EXAMPLE.repeat(2, 1, 1, 1),), dynamic_shapes=sizes).module()


def shapes(path):
    graph = onnx.load(path).graph
    values = [*graph.input, *graph.output]
    return {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}


def test_one_file_with_known_names_and_its_metadata_word_for_word(path):
    Onnx(21)(Upsampling(), EXAMPLE, path, metadata=FP32)
    assert list(path.parent.iterdir()) == [path]
    assert shapes(path) == {"pixel_values": ["batch", 3, 32, 48], "logits": ["batch", 5, 32, 48]}
    written = onnx.load(path)
    assert {entry.key: json.loads(entry.value) for entry in written.metadata_props} == {"limbeck": FP32}
    assert [entry.version for entry in written.opset_import if not entry.domain] == [21]


def test_height_and_width_may_stay_open(path):
    network = Upsampling().eval()
    Onnx()(network, EXAMPLE, path, metadata=FP32, dynamic=("height", "width"))
    assert shapes(path) == {"pixel_values": ["batch", 3, "height", "width"], "logits": ["batch", 5, "height", "width"]}
    for running in (OnnxRuntime(path, threads=1), OpenVino(path, threads=1)):
        for shape in [(1, 3, 32, 48), (3, 3, 40, 24)]:
            image = torch.randn(shape)
            np.testing.assert_allclose(running(image.numpy()), network(image).detach().numpy(), atol=1e-5)


def test_one_open_side_leaves_the_other_fixed(path):
    Onnx()(nn.Conv2d(3, 5, 1), EXAMPLE, path, metadata=FP32, dynamic=["width"])
    assert shapes(path)["pixel_values"] == ["batch", 3, 32, "width"]


def test_a_size_that_the_network_fixes_is_named(path):
    class Fixed(nn.Module):
        def forward(self, image):
            return image.reshape(image.shape[0], 3, 32, 48)

    with pytest.raises(UserError, match=r"net\.onnx: .* dynamic batch, height: .*size\(\)\[2\]"):
        Onnx()(Fixed(), EXAMPLE, path, metadata=FP32, dynamic=["height"])
    assert not path.exists()


def test_unknown_sides_are_refused(path):
    with pytest.raises(ValueError, match="depth unknown; it may hold height and width"):
        Onnx()(Upsampling(), EXAMPLE, path, metadata=FP32, dynamic=["depth"])


def test_drop_path_is_gone(path):
    class DropPath(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(3, 5, 1)

        def forward(self, image):
            kept = torch.rand(len(image), 1, 1, 1).round() if self.training else 1.0
            return self.layer(image) * kept

    network = DropPath().train()
    Onnx()(network, EXAMPLE, path, metadata=FP32)
    assert network.training
    assert [node.op_type for node in onnx.load(path).graph.node] == ["Conv"]


def test_random_numbers_in_evaluation_are_refused(path):
    class Noisy(nn.Module):
        def forward(self, image):
            return image + torch.randn_like(image)

    with pytest.raises(UserError, match="two runs on one image differ"):
        Onnx()(Noisy(), EXAMPLE, path, metadata=FP32)


def test_a_graph_left_in_training_is_exported_in_evaluation(path):
    network = Upsampling()
    sizes = ({0: torch.export.Dim("batch", min=1)},)
    graph = torch.export.export(network.train(), (EXAMPLE.repeat(2, 1, 1, 1),), dynamic_shapes=sizes).module()
    Onnx()(graph, EXAMPLE, path, metadata=FP32)
    image = torch.randn(2, 3, 32, 48)
    network.load_state_dict({name: value for name, value in graph.state_dict().items() if name in network.state_dict()})
    expected = network.eval()(image).detach().numpy()
    np.testing.assert_allclose(OnnxRuntime(path, threads=1)(image.numpy()), expected, atol=1e-5)


def test_what_does_not_fit_one_file_is_refused(path, monkeypatch):
    monkeypatch.setattr(exporting, "LIMIT_BYTES", 1000)
    with pytest.raises(UserError, match="do not fit into one ONNX file"):
        Onnx()(Upsampling(), EXAMPLE, path, metadata=FP32)
    assert not path.exists()


@pytest.mark.parametrize("opset", [17, 26])
def test_other_opsets_are_refused(opset):
    with pytest.raises(ValueError, match="18 to 25"):
        Onnx(opset)


@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
def test_integers_stay_integers(path, target):
    graph = integer_graph()
    Onnx()(graph, EXAMPLE, path, metadata=INT8 | {"target": target})
    written = onnx.load(path).graph
    kinds = [node.op_type for node in written.node]
    assert kinds.count("QuantizeLinear") == 2
    assert kinds.count("DequantizeLinear") == 3
    weights = [onnx.numpy_helper.to_array(i) for i in written.initializer if list(i.dims) == [5, 3, 3, 3]]
    np.testing.assert_array_equal(weights, [graph.weight.numpy()])
    image = torch.randn(3, 3, 32, 48)
    for runtime in (OnnxRuntime, OpenVino):
        off = np.abs(runtime(path, threads=1)(image.numpy()) - graph(image).numpy())
        assert off.max() <= 0.1001, "more than one step"
        assert (off > 1e-4).mean() < 0.01, "ties that round the other way are rare"


def test_lost_integers_are_an_error(path):
    graph = integer_graph()
    Onnx()(graph, EXAMPLE, path, metadata=INT8)
    proto = onnx.load(path)
    weight = next(i for i in proto.graph.initializer if list(i.dims) == [5, 3, 3, 3])
    weight.CopyFrom(onnx.numpy_helper.from_array(np.zeros((5, 3, 3, 3), np.float32), weight.name))
    with pytest.raises(UserError, match="1 of 1 int8 weights became float"):
        exporting._integers_survive(graph, proto, path)


def test_int8_is_not_only_said(path):
    with pytest.raises(ValueError, match="convert it first"):
        Onnx()(Upsampling(), EXAMPLE, path, metadata=INT8)
