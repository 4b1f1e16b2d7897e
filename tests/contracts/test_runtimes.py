"""What every runtime keeps to; a new file in the room is tested the day it appears."""

import numpy as np
import pytest
import torch

from limbeck.artifact.load import load
from limbeck.artifact.metadata import Metadata
from limbeck.artifact.preprocess import Preprocess
from limbeck.build import find, names
from limbeck.data.weight_file import save_weights
from limbeck.exporters.onnx import Onnx
from limbeck.record import UserError

RUNTIMES = names("runtimes")
HEIGHT, WIDTH, CLASSES = 24, 32, 5

MODEL = """
from torch import nn

def build(*, num_classes: int, pretrained: str | None = None) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.Hardswish(), nn.Dropout(0.5),
        nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.GELU(), nn.Conv2d(8, num_classes, 1),
    )
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with one network as every kind of file, and the network."""
    folder = tmp_path_factory.mktemp("runtimes")
    (folder / "net.py").write_text(MODEL)
    torch.manual_seed(0)
    network = find("models", "./net.py:build", "test", folder)(num_classes=CLASSES).eval()
    network[1].running_mean.normal_()
    metadata = Metadata(
        task="segmentation",
        model="student",
        classes=tuple("abcde"),
        palette=tuple((i, i, i) for i in range(CLASSES)),
        preprocess=Preprocess((HEIGHT, WIDTH)),
        architecture={"kind": "./net.py:build", "num_classes": CLASSES},
    ).to_json()
    Onnx()(network, torch.zeros(1, 3, HEIGHT, WIDTH), folder / "net.onnx", metadata=metadata)
    save_weights(network, folder / "net.safetensors", metadata)
    _to_openvino(folder, metadata)
    return folder, network


def _to_openvino(folder, metadata):
    if "openvino" not in RUNTIMES:
        return
    from limbeck.runtimes.openvino import ov

    ov.save_model(ov.Core().read_model(folder / "net.onnx"), folder / "net.xml", compress_to_fp16=False)
    (folder / "net.xml.json").write_text(__import__("json").dumps(metadata))


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def files(folder, kind):
    found = [path for path in sorted(folder.glob("net.*")) if path.suffix in find("runtimes", kind, "test").reads]
    assert found, f"make a file that {kind} reads here"
    return found


def opened(folder, kind, **given):
    return [load(path, runtime=kind, root=folder, threads=1, **given).runtime for path in files(folder, kind)]


def images(n):
    return np.random.default_rng(n).normal(size=(n, 3, HEIGHT, WIDTH)).astype(np.float32)


@pytest.mark.parametrize("kind", RUNTIMES)
@pytest.mark.parametrize("batch", [1, 3])
def test_logits_are_the_networks_own(made, kind, batch):
    folder, network = made
    expected = network(torch.from_numpy(images(batch))).detach().numpy()
    for runtime in opened(folder, kind):
        logits = runtime(images(batch))
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, expected, atol=1e-5)


@pytest.mark.parametrize("kind", RUNTIMES)
def test_an_answer_outlives_the_next_call(made, kind):
    for runtime in opened(made[0], kind):
        first = runtime(images(1))
        kept = first.copy()
        runtime(images(1) + 1)
        np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("kind", RUNTIMES)
def test_any_memory_layout_is_taken(made, kind):
    turned = np.ascontiguousarray(images(2).transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    for runtime in opened(made[0], kind):
        np.testing.assert_allclose(runtime(turned), runtime(images(2)), atol=1e-6)


@pytest.mark.parametrize("kind", RUNTIMES)
def test_info_says_what_runs(made, kind):
    for runtime in opened(made[0], kind):
        assert runtime.info["runtime"] == kind
        assert runtime.info["version"]
        assert runtime.info["threads"] == 1
        assert runtime.info["inference_precision"] == "fp32"
        assert runtime.info["device"]


@pytest.mark.parametrize("kind", RUNTIMES)
@pytest.mark.parametrize("wrong", [{"device": "abacus"}, {"precision": "fp3"}])
def test_what_it_cannot_do_is_refused(made, kind, wrong):
    for path in files(made[0], kind):
        with pytest.raises(UserError, match=next(iter(wrong.values()))):
            load(path, runtime=kind, root=made[0], **wrong)


@pytest.mark.parametrize("kind", RUNTIMES)
@pytest.mark.parametrize("content", ["missing", "empty", "truncated", "foreign"])
def test_broken_files_are_named(made, kind, content, tmp_path, capfd):
    for whole in files(made[0], kind):
        broken = tmp_path / f"broken{whole.suffix}"
        given = {
            "empty": b"",
            "truncated": whole.read_bytes()[: whole.stat().st_size // 2],
            "foreign": b"PK\x03\x04 hi",
        }
        if content in given:
            broken.write_bytes(given[content])
        with pytest.raises(UserError, match=str(broken)):
            find("runtimes", kind, "test")(broken)


@pytest.mark.parametrize("kind", sorted({"onnxruntime", "openvino"} & set(RUNTIMES)))
def test_another_size_is_refused_where_it_is_fixed(made, kind):
    for runtime in opened(made[0], kind):
        with pytest.raises(UserError, match=r"net\..*does not run on \[1, 3, 48, 32\]"):
            runtime(np.zeros((1, 3, 48, 32), np.float32))


@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_onnxruntime_does_not_fall_back_from_cuda(made, device):
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this build has CUDA")
    with pytest.raises(UserError, match="onnxruntime-gpu"):
        find("runtimes", "onnxruntime", "test")(made[0] / "net.onnx", device=device)


def test_onnxruntime_takes_the_gpu_that_is_named(monkeypatch):
    onnxruntime = pytest.importorskip("onnxruntime")
    from limbeck.runtimes.onnxruntime import _provider

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    for device, index in (("cuda", "0"), ("cuda:0", "0"), ("cuda:1", "1")):
        assert _provider(device) == ("CUDAExecutionProvider", {"use_tf32": "0", "device_id": index})
    for wrong in ("cuda:", "cuda:x", "cpu:0"):
        with pytest.raises(UserError, match=wrong):
            _provider(wrong)


@pytest.mark.parametrize("kind", sorted({"onnxruntime", "openvino"} & set(RUNTIMES)))
def test_a_failure_of_the_engine_names_the_file(kind, tmp_path):
    """A reshape for one image inside a file that takes any number of them."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    one = helper.make_tensor("one", TensorProto.INT64, [4], [1, 3, 8, 8])
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["image", "one"], ["logits"])], "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 3, 8, 8])], [one],
    )  # fmt: skip
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), tmp_path / "one.onnx")
    runtime = find("runtimes", kind, "test")(tmp_path / "one.onnx", threads=1)
    assert runtime(np.zeros((1, 3, 8, 8), np.float32)).shape == (1, 3, 8, 8)
    with pytest.raises(UserError, match=r"one\.onnx: does not run on \[2, 3, 8, 8\]"):
        runtime(np.zeros((2, 3, 8, 8), np.float32))


def test_openvino_failing_within_a_run_names_the_file(made):
    pytest.importorskip("openvino")

    def broken(*_, **__):
        raise RuntimeError("out of\nmemory")

    runtime = find("runtimes", "openvino", "test")(made[0] / "net.onnx", threads=1)
    runtime._compiled = dict.fromkeys(runtime._compiled, broken)
    with pytest.raises(UserError, match=r"net\.onnx: does not run on .* \(out of memory\)"):
        runtime(images(1))


def test_openvino_rounds_only_when_asked_to(made):
    pytest.importorskip("openvino")
    from limbeck.runtimes._cores import cpu_has_bf16
    from limbeck.runtimes.openvino import OpenVino

    folder, network = made
    expected = network(torch.from_numpy(images(1))).detach().numpy()
    if not cpu_has_bf16():
        with pytest.raises(UserError, match="bfloat16"):
            OpenVino(folder / "net.onnx", precision="bf16")
        return
    off = np.abs(OpenVino(folder / "net.onnx", precision="bf16")(images(1)) - expected).max()
    assert 1e-5 < off < 5e-2


def test_openvino_keeps_few_shapes(made):
    pytest.importorskip("openvino")
    from limbeck.runtimes.openvino import SHAPES_KEPT, OpenVino

    runtime = OpenVino(made[0] / "net.onnx", threads=1)
    for batch in (1, *range(1, SHAPES_KEPT + 3), 1):
        assert len(runtime(images(batch))) == batch
    assert len(runtime._compiled) == SHAPES_KEPT


def test_openvino_does_not_report_home(tmp_path):
    """Its package writes an id and a counter into the home folder as soon as it has something to report."""
    pytest.importorskip("openvino")
    import os
    import subprocess
    import sys

    quiet = {name: value for name, value in os.environ.items() if name not in ("CI", "TF_BUILD", "JENKINS_URL")}
    command = [sys.executable, "-c", "import limbeck.runtimes.openvino, openvino_telemetry"]
    subprocess.run(command, env=quiet | {"HOME": str(tmp_path)}, check=True)
    assert not list(tmp_path.rglob("*"))
