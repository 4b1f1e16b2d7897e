"""The promises of the PT2E quantizer, each on a network small enough for every run."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from limbeck.build import build as build_component
from limbeck.graph.modes import set_mode
from limbeck.graph.onnx_passes import passes_for
from limbeck.graph.patterns import BATCH_NORM, DROPOUT, calls
from limbeck.graph.ranges import Range, freeze_observers, quantized_on, ranges
from limbeck.quantizers.pt2e import Pt2e
from limbeck.record import UserError

TARGETS = ["onnxruntime", "openvino"]
SIZE = (32, 40)
PALETTE = torch.tensor([[-1.5, -1.0, 0.5], [1.0, -1.0, 0.2], [0.0, 1.5, -0.5], [1.2, 1.0, 1.5]])


class Gated(nn.Module):
    """A residual network with a depthwise convolution, hardswish, squeeze and excitation, and a concatenation."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 12, 3, 2, 1, bias=False),
            nn.BatchNorm2d(12, eps=1e-3, momentum=0.01),
            nn.Hardswish(inplace=True),
        )
        self.deep = nn.Sequential(
            nn.Conv2d(12, 12, 3, 1, 1, groups=12, bias=False), nn.BatchNorm2d(12, eps=1e-3), nn.ReLU6(inplace=True)
        )
        self.squeeze = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(12, 6, 1), nn.ReLU(), nn.Conv2d(6, 12, 1), nn.Hardsigmoid()
        )
        self.mix = nn.Sequential(nn.Conv2d(12, 12, 1, bias=False), nn.BatchNorm2d(12))
        self.head = nn.Sequential(
            nn.Conv2d(24, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.Dropout(0.1)
        )
        self.classifier = nn.Conv2d(16, classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        y = self.deep(x)
        y = torch.relu(self.mix(y * self.squeeze(y)) + x)
        logits: Tensor = self.classifier(self.head(torch.cat([x, y], 1)))
        return logits


class Tokens(nn.Module):
    """Linear layers on tokens, layer norm and attention between convolutions."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 4, 4)
        self.norm, self.qkv, self.out = nn.LayerNorm(16), nn.Linear(16, 48), nn.Linear(16, 16)
        self.up, self.down = nn.Linear(16, 32), nn.Linear(32, 16)
        self.local = nn.Conv2d(32, 32, 3, padding=1, groups=32)
        self.classifier = nn.Conv2d(16, classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patch(image)
        h, w = x.shape[2:]
        x = x.flatten(2).transpose(1, 2)
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        heads = [t.unflatten(-1, (2, 8)).transpose(1, 2) for t in (q, k, v)]
        x = x + self.out(nn.functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))
        y = self.up(self.norm(x)).transpose(1, 2).unflatten(2, (h, w))
        x = x + self.down(nn.functional.gelu(self.local(y).flatten(2).transpose(1, 2)))
        logits: Tensor = self.classifier(x.transpose(1, 2).unflatten(2, (h, w)))
        return logits


def scenes(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images of blocks in four colours, and which colour is where."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(0, 4, (count, SIZE[0] // 8, SIZE[1] // 8), generator=generator)
    target = target.repeat_interleave(8, 1).repeat_interleave(8, 2)
    image = PALETTE[target].permute(0, 3, 1, 2) + 0.2 * torch.randn(count, 3, *SIZE, generator=generator)
    return image, target


def fit(step: Callable[[Tensor], Tensor], parameters: Iterator[nn.Parameter], steps: int, rate: float = 1e-2) -> None:
    optimizer = torch.optim.Adam(list(parameters), rate)
    for seed in range(steps):
        image, target = scenes(4, seed)
        logits = nn.functional.interpolate(step(image), SIZE)
        loss = nn.functional.cross_entropy(logits, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.fixture(scope="module")
def trained() -> dict[str, nn.Module]:
    """Networks that know their classes, so that an argmax means something."""
    torch.manual_seed(0)
    models: dict[str, nn.Module] = {"gated": Gated(), "tokens": Tokens()}
    for model in models.values():
        fit(model.train(), model.parameters(), 30)
        model.eval()
    return models


def prepared_from(model: nn.Module, quantizer: Pt2e, qat: bool = False) -> GraphModule:
    prepared = quantizer.prepare(model, torch.zeros(2, 3, *SIZE), qat=qat)
    with torch.no_grad():
        for seed in range(100, 104):
            prepared(scenes(4, seed)[0])
    return prepared


@torch.no_grad()
def assert_same(prepared: GraphModule, converted: nn.Module, images: Tensor) -> Tensor:
    """Fake-quantized and integer graph agree; returns the integer graph's output."""
    freeze_observers(prepared)
    set_mode(prepared, False)
    one, other = prepared(images), converted(images)
    close = ((one - other).abs() <= 1e-5 * one.abs().max()).float().mean()
    same = (one.argmax(1) == other.argmax(1)).float().mean()
    assert float(close) >= 0.9999
    assert float(same) >= 0.9999
    result: Tensor = other
    return result


@torch.no_grad()
def agreement(one: Tensor, other: Tensor) -> float:
    return float((one.argmax(1) == other.argmax(1)).float().mean())


@pytest.mark.parametrize("name", ["gated", "tokens"])
@pytest.mark.parametrize("target", TARGETS)
def test_calibrated_graph_converts_exactly(trained: dict[str, nn.Module], name: str, target: Any) -> None:
    quantizer, images = Pt2e(target), scenes(16, 7)[0]
    prepared = prepared_from(trained[name], quantizer)
    logits = assert_same(prepared, quantizer.convert(prepared), images)
    assert agreement(logits, trained[name](images)) > 0.97


LIVE = pytest.param({"batch_norm": "live"}, marks=pytest.mark.slow)  # torchao traces a hundred patterns for it


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("settings", [LIVE, {"weights": "per_tensor", "activations": "symmetric"}])
def test_trained_graph_converts_exactly(trained: dict[str, nn.Module], target: Any, settings: dict[str, Any]) -> None:
    quantizer, images = Pt2e(target, **settings), scenes(16, 7)[0]
    prepared = prepared_from(trained["gated"], quantizer, qat=True)
    quantized_on(prepared)
    set_mode(prepared, True)
    fit(prepared, prepared.parameters(), 4, 1e-3)
    freeze_observers(prepared)
    set_mode(prepared, True, frozen_batch_norm=True)
    fit(prepared, prepared.parameters(), 2, 1e-3)
    logits = assert_same(prepared, quantizer.convert(prepared), images)
    assert agreement(logits, trained["gated"](images)) > 0.9


@pytest.mark.slow
def test_preparing_keeps_batch_norm_and_dropout_settings() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4, eps=1e-3, momentum=0.01), nn.ReLU(), nn.Dropout(0.3),
        nn.BatchNorm2d(4, eps=0.1, momentum=0.2), nn.Conv2d(4, 2, 1), nn.ReLU(), nn.Conv2d(2, 2, 1),
    )  # fmt: skip
    model[1].weight.data[0] = 0  # a live batch norm is divided out by its gamma
    prepared = Pt2e(batch_norm="live").prepare(model, torch.zeros(2, 3, 8, 8), qat=True)
    norms = calls(prepared.graph, BATCH_NORM)
    assert sorted((node.args[7], node.args[6]) for node in norms) == [(1e-3, 0.01), (0.1, 0.2)]
    set_mode(prepared, True)
    set_mode(prepared, False)
    assert [node.args[1] for node in calls(prepared.graph, DROPOUT)] == [0.3]
    prepared(torch.randn(4, 3, 8, 8))
    quantizer = Pt2e(batch_norm="live")
    assert_same(prepared, quantizer.convert(prepared), torch.randn(4, 3, 8, 8))


def test_converting_leaves_the_prepared_graph_alone(trained: dict[str, nn.Module]) -> None:
    quantizer = Pt2e()
    prepared = prepared_from(trained["gated"], quantizer, qat=True)
    before, image = {n: v.clone() for n, v in prepared.state_dict().items()}, scenes(2, 9)[0]
    first = quantizer.convert(prepared)(image)
    assert all(torch.equal(before[name], value) for name, value in prepared.state_dict().items())
    assert torch.equal(quantizer.convert(prepared)(image), first)
    assert all(one.observing or one.fixed for _, one in ranges(prepared))


def test_integers_reach_the_weights(trained: dict[str, nn.Module]) -> None:
    quantizer = Pt2e("openvino")
    converted = quantizer.convert(prepared_from(trained["gated"], quantizer))
    stored = [value for value in converted.buffers() if value.dtype == torch.int8 and value.dim() == 4]
    assert len(stored) == 7
    assert all(int(value.min()) >= -127 for value in stored)


def test_a_transposed_convolution_has_its_channels_on_axis_one() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.ConvTranspose2d(4, 6, 2, 2), nn.ReLU(), nn.Conv2d(6, 2, 1))
    prepared = Pt2e("openvino").prepare(model, torch.zeros(2, 3, 8, 8))
    prepared(torch.randn(2, 3, 8, 8))
    per_channel = [one for _, one in ranges(prepared) if isinstance(one, Range) and one.per_channel]
    assert [(one.ch_axis, one.scale.numel()) for one in per_channel] == [(0, 4), (1, 6), (0, 2)]


def test_excluded_modules_stay_float(trained: dict[str, nn.Module]) -> None:
    few = Pt2e("openvino", exclude=[r"^head\.0$", "squeeze"]).prepare(trained["gated"], torch.zeros(2, 3, *SIZE))
    weights = [one for _, one in ranges(few) if one.weight]
    assert len(weights) == 7 - 3
    with pytest.raises(ValueError, match="no regular expression"):
        Pt2e(exclude=["("])


def test_a_graph_travels_through_a_file(trained: dict[str, nn.Module]) -> None:
    quantizer, images = Pt2e(), scenes(2, 3)[0]
    prepared = prepared_from(trained["gated"], quantizer, qat=True)
    quantized_on(prepared)
    tensors, manifest = quantizer.state(prepared)
    manifest = json.loads(json.dumps(manifest))
    again = quantizer.restore(Gated(), tensors, manifest, torch.zeros(2, 3, *SIZE))
    assert torch.equal(quantizer.convert(again)(images), quantizer.convert(prepared)(images))
    assert all(one.quantizing for _, one in ranges(again))
    with pytest.warns(UserWarning, match="graphs are equal"):
        quantizer.restore(Gated(), tensors, {**manifest, "versions": {"torch": "1"}}, torch.zeros(2, 3, *SIZE))


def test_another_graph_is_refused(trained: dict[str, nn.Module]) -> None:
    quantizer, example = Pt2e(), torch.zeros(2, 3, *SIZE)
    tensors, manifest = quantizer.state(prepared_from(trained["gated"], quantizer))
    other = Gated()
    other.head[2] = nn.SiLU()
    with pytest.raises(UserError, match=r"not the saved one: node \d+: saved .*relu"):
        quantizer.restore(other, tensors, manifest, example)
    with pytest.raises(UserError, match="per_tensor"):
        Pt2e(weights="per_tensor").restore(Gated(), tensors, manifest, example)
    with pytest.raises(UserError, match="for images"):
        quantizer.restore(Gated(), tensors, manifest, torch.zeros(2, 3, 8, 8))


def test_unseen_ranges_are_not_converted(trained: dict[str, nn.Module]) -> None:
    quantizer = Pt2e()
    with pytest.raises(UserError, match="have seen no image"):
        quantizer.convert(quantizer.prepare(trained["gated"], torch.zeros(2, 3, *SIZE)))


def onnx_file(converted: nn.Module, target: str, path: Path, fitted: bool = True) -> Path:
    import onnx

    program = torch.onnx.export(
        converted, (torch.zeros(2, 3, *SIZE),), dynamo=True, verbose=False,
        dynamic_shapes=({0: torch.export.Dim("batch")},), input_names=["pixel_values"], output_names=["logits"],
    )  # fmt: skip
    assert program is not None
    proto = program.model_proto
    for change in passes_for(target) if fitted else []:
        change(proto)
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, path)
    return path


def run_onnxruntime(path: Path, images: Tensor, optimized: Path | None = None, plain: bool = False) -> Tensor:
    ort = pytest.importorskip("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    options.add_free_dimension_override_by_name("batch", len(images))  # with an open batch linear layers fuse less
    if plain:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if optimized:
        options.optimized_model_filepath = str(optimized)
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"pixel_values": images.numpy()})[0])


@pytest.mark.parametrize("name", ["gated", "tokens"])
def test_onnxruntime_runs_it_in_integers_and_agrees(trained: dict[str, nn.Module], name: str, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    quantizer, images = Pt2e("onnxruntime"), scenes(16, 7)[0]
    converted = quantizer.convert(prepared_from(trained[name], quantizer))
    path = onnx_file(converted, "onnxruntime", tmp_path / "fitted.onnx")
    logits = run_onnxruntime(path, images, tmp_path / "optimized.onnx")
    assert agreement(logits, converted(images)) >= 0.995
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    if name == "gated":
        assert kinds.count("QLinearConv") == 6  # all but the head
        assert {"QLinearAdd", "QLinearMul", "QLinearConcat", "QLinearGlobalAveragePool"} <= set(kinds)
        assert not {"HardSigmoid", "HardSwish", "ReduceMean", "Clip", "Relu"} & set(kinds)
        assert kinds.count("Conv") == 1
    else:
        assert kinds.count("QGemm") == 4
        assert kinds.count("QLinearConv") == 2


@pytest.mark.parametrize("name", ["gated", "tokens"])
def test_passes_lose_nothing(trained: dict[str, nn.Module], name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    quantizer, images = Pt2e("onnxruntime"), scenes(8, 7)[0]
    converted = quantizer.convert(prepared_from(trained[name], quantizer))
    plain = run_onnxruntime(onnx_file(converted, "onnxruntime", tmp_path / "a.onnx", fitted=False), images, plain=True)
    fitted = run_onnxruntime(onnx_file(converted, "onnxruntime", tmp_path / "b.onnx"), images, plain=True)
    # A gate that lies exactly between two steps may round the other way; everything else is equal.
    assert float((plain - fitted).abs().mean()) <= 1e-4 * float(plain.abs().max())
    assert agreement(plain, fitted) >= 0.999


@pytest.mark.parametrize("name", ["gated", "tokens"])
def test_openvino_runs_it_in_integers_and_agrees(trained: dict[str, nn.Module], name: str, tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    pytest.importorskip("onnx")
    quantizer, images = Pt2e("openvino"), scenes(16, 7)[0]
    converted = quantizer.convert(prepared_from(trained[name], quantizer))
    core = openvino.Core()
    model = core.read_model(onnx_file(converted, "openvino", tmp_path / "v.onnx"))
    model.reshape([16, 3, *SIZE])
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1})
    logits = torch.from_numpy(np.array(compiled(images.numpy())[0]))
    assert agreement(logits, converted(images)) >= 0.995
    ran = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
    kinds = [(str(info["layerType"].astype(str)), str(info["runtimePrecision"].astype(str))) for info in ran]
    if name == "gated":
        assert kinds.count(("Convolution", "u8")) == 7
    else:
        assert kinds.count(("FullyConnected", "u8")) == 4
        assert kinds.count(("Convolution", "u8")) == 2  # the depthwise one between tokens stays float


def segformer() -> nn.Module:
    transformers = pytest.importorskip("transformers")

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = transformers.SegformerForSemanticSegmentation(transformers.SegformerConfig())

        def forward(self, image: Tensor) -> Tensor:
            logits: Tensor = self.net(pixel_values=image).logits
            return logits

    return Logits()


def deeplab() -> nn.Module:
    segmentation = pytest.importorskip("torchvision").models.segmentation

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = segmentation.deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=11)

        def forward(self, image: Tensor) -> Tensor:
            logits: Tensor = self.net.classifier(self.net.backbone(image)["out"])
            return logits

    return Logits()


def lightweight() -> nn.Module:
    pytest.importorskip("torchvision")
    network: nn.Module = build_component("models", {"kind": "lightweight_deeplabv3"}, "test", num_classes=11)
    return network


LARGE = [(build, target, "fold") for build in (segformer, deeplab, lightweight) for target in TARGETS]
LIVE = [(deeplab, "openvino", "live"), (lightweight, "onnxruntime", "live")]  # torchao takes a minute to trace each


@pytest.mark.slow
@pytest.mark.parametrize(("build", "target", "norms"), [*LARGE, *LIVE])
def test_large_networks_convert_exactly(build: Callable[[], nn.Module], target: Any, norms: Any) -> None:
    torch.manual_seed(0)
    quantizer, size = Pt2e(target, batch_norm=norms), (64, 96)
    prepared = quantizer.prepare(build(), torch.zeros(2, 3, *size), qat=True)
    images = torch.randn(4, 3, *size)
    with torch.no_grad():
        prepared(images)
    quantized_on(prepared)
    set_mode(prepared, True)
    parameters = list(prepared.parameters())
    optimizer = torch.optim.SGD(parameters, 1e-4)
    prepared(images).square().mean().backward()
    optimizer.step()
    with torch.no_grad():
        prepared(images)
    assert_same(prepared, quantizer.convert(prepared), torch.randn(2, 3, *size))
