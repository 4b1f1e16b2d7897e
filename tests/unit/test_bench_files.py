"""Timing files on their own and the rows of a run: what is refused, what is named, what runs where."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from limbeck import cli
from limbeck.artifact.metadata import Metadata
from limbeck.artifact.preprocess import Preprocess
from limbeck.data.weight_file import save_weights
from limbeck.recipe import Bench
from limbeck.record import UserError
from limbeck.stages import bench
from limbeck.stages.bench import device_for, files
from limbeck.stages.rows import Row

QUICK = {"threads": 1, "warmup": 0, "runs": 1, "rounds": 1, "batches": [1]}
NET = """
from torch import nn

def build(*, num_classes: int) -> nn.Module:
    return nn.Conv2d(3, num_classes, 1)
"""


def quick(**given):
    return Bench.model_validate(QUICK | given)


def said(**given):
    colours = ((0, 0, 0), (9, 9, 9))
    return Metadata("segmentation", "student", ("a", "b"), colours, Preprocess((8, 8)), **given)


def weight_file(path, **architecture):
    network = torch.nn.Conv2d(3, 2, 1)
    save_weights(network, path, said(architecture={"num_classes": 2, **architecture}).to_json())
    return path


def onnx_file(path):
    """One convolution that takes any size and says nothing about itself."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    path.parent.mkdir(exist_ok=True)
    weight = numpy_helper.from_array(np.ones((2, 3, 1, 1), np.float32), "weight")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "weight"], ["logits"])], "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 2, "h", "w"])], [weight],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


@pytest.fixture
def jobs(monkeypatch):
    """Jobs that would have been measured."""
    seen = []

    def measured(given, _):
        seen.extend(given)
        return {job.id: {} for job in given}

    monkeypatch.setattr(bench, "_measured", measured)
    return seen


def test_code_named_in_a_file_is_not_run(tmp_path):
    path = weight_file(tmp_path / "net.safetensors", kind="os:system", command=f"touch {tmp_path / 'was-run'}")
    (row,) = files([path], quick(), "cpu", None)
    assert "needs 'os:system'; if you trust it" in row["error"]
    assert not (tmp_path / "was-run").exists()


def test_code_beside_a_file_is_run_when_it_is_trusted(tmp_path):
    (tmp_path / "net.py").write_text(NET)
    path = weight_file(tmp_path / "net.safetensors", kind="./net.py:build")
    (row,) = files([path], quick(), "cpu", None, trust=True)
    assert "error" not in row
    assert row["end_to_end_ms"] > 0


def test_files_without_metadata_are_timed_at_the_size_given(tmp_path):
    pytest.importorskip("onnxruntime")
    paths = [onnx_file(tmp_path / folder / "net.onnx") for folder in "ab"]
    with pytest.raises(UserError, match="--size"):
        files(paths, quick(runtimes=["onnxruntime"]), "cpu", None)
    rows = files(paths, quick(runtimes=["onnxruntime"]), "cpu", (16, 24))
    assert [row["id"] for row in rows] == ["a/net.onnx.onnxruntime", "b/net.onnx.onnxruntime"]
    for row in rows:
        assert "error" not in row
        assert row["latency_ms"]["p50"] > 0
        assert row["throughput_ips"] > 0
        assert row["end_to_end_ms"] is None
        assert row["input"] == [1, 3, 16, 24]


def test_names_are_as_short_as_they_can_be(tmp_path, jobs):
    a, b, other = (onnx_file(tmp_path / name) for name in ("a/x.onnx", "b/x.onnx", "b/y.onnx"))
    only = quick(runtimes=["onnxruntime"])
    for paths, wanted in (([a, a, other], ["x", "y"]), ([a, b, other], ["a/x.onnx", "b/x.onnx", "b/y.onnx"])):
        assert [row["model"] for row in files(paths, only, "cpu", (8, 8))] == wanted
    assert len({job.id for job in jobs}) == len(jobs) == 5


def test_an_integer_weight_file_is_said_to_be_simulated(tmp_path, jobs):
    value = said(precision="int8", architecture={"kind": "x"}, quantizer={"kind": "pt2e"}).to_json()
    save_weights(torch.nn.Conv2d(3, 2, 1), tmp_path / "int8.safetensors", value)
    plain = weight_file(tmp_path / "fp32.safetensors", kind="x")
    rows = files([tmp_path / "int8.safetensors", plain], quick(), "cpu", None)
    assert [row["simulated"] for row in rows] == [True, False]


def test_another_size_than_the_files_own_has_no_end_to_end_time(tmp_path, jobs):
    path = weight_file(tmp_path / "net.safetensors", kind="x")
    for size in (None, (8, 8), (16, 8)):
        files([path], quick(), "cpu", size)
    assert [(job.shape, job.bare) for job in jobs] == [
        ((1, 3, 8, 8), False), ((1, 3, 8, 8), False), ((1, 3, 16, 8), True),
    ]  # fmt: skip


def test_runtimes_that_read_nothing_are_refused(tmp_path, jobs):
    onnx, weights = onnx_file(tmp_path / "x.onnx"), weight_file(tmp_path / "x.safetensors", kind="x")
    for paths, runtimes, wanted in (
        ([onnx], ["foo"], "--runtime foo.*eager, onnxruntime, openvino"),
        ([onnx], ["openvinno"], "Did you mean 'openvino'"),
        ([onnx], ["eager"], r"x\.onnx: eager cannot read it; onnxruntime and openvino would"),
        ([onnx], ["eager", "onnxruntime"], r"--runtime eager: .*\.safetensors"),
        ([onnx, weights], ["onnxruntime"], r"x\.safetensors: onnxruntime cannot"),
    ):
        with pytest.raises(UserError, match=wanted):
            files(paths, quick(runtimes=runtimes), "cpu", (8, 8))
    with pytest.raises(UserError, match="at least 1"):
        files([onnx], quick(), "cpu", (0, 8))
    assert not jobs


def test_exported_files_stay_on_the_cpu_unless_onnx_runtime_has_cuda(tmp_path, jobs, monkeypatch):
    paths = [onnx_file(tmp_path / "x.onnx"), weight_file(tmp_path / "w.safetensors", kind="x")]
    for has, wanted in ((False, "cpu"), (True, "cuda:1")):
        monkeypatch.setattr(bench, "_onnxruntime_has_cuda", lambda has=has: has)
        assert device_for("onnxruntime", "cuda:1") == wanted
        assert device_for("onnxruntime", "cpu") == "cpu"
        jobs.clear()
        files(paths, quick(), "cuda:1", (8, 8))
        places = {job.runtime: job.device for job in jobs}
        assert places == {"onnxruntime": wanted, "openvino": "cpu", "eager": "cuda:1"}


def test_the_bar_ends_where_measure_ends(monkeypatch, tmp_path):
    told = []

    class Bar:
        def advance(self, done):
            told.append(done)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    def bar(what, total, unit):
        told.append(total)
        return Bar()

    monkeypatch.setattr(bench.show, "bar", bar)
    pytest.importorskip("onnxruntime")
    path = onnx_file(tmp_path / "x.onnx")
    files([path], quick(runtimes=["onnxruntime"], rounds=2, batches=[1, 2]), "cpu", (8, 8))
    assert told == [4, 0, 1, 2, 3, 4]


def context(tmp_path, monkeypatch, settings):
    """A run with one exported file that is there and one that is not."""
    (tmp_path / "there.onnx").write_bytes(b"0" * 1000)
    found = [
        Row("student", "fp32", tmp_path / "there.onnx", "onnxruntime"),
        Row("student", "int8", tmp_path / "export" / "gone.onnx", "openvino"),
        Row("student", "int8", tmp_path / "quantize" / "gone.safetensors", "eager", timed=False),
    ]
    monkeypatch.setattr(bench, "rows", lambda _: found)
    monkeypatch.setattr(bench, "_counts", lambda *_: {})
    sample = SimpleNamespace(image=np.zeros((30, 40, 3), np.uint8))
    return SimpleNamespace(
        recipe=SimpleNamespace(bench=settings, evaluate=SimpleNamespace(split="test")), device="cpu",
        roles=("student",), preprocess=lambda _, role: Preprocess((16, 24)), dataset=lambda split: {"test": [sample]}[split],
        section=lambda _: None, source_root=lambda _: tmp_path, weights=lambda role: tmp_path / f"{role}.safetensors",
    )  # fmt: skip


def test_rows_start_from_an_image_of_the_scored_split(tmp_path, monkeypatch, jobs):
    bench.run(context(tmp_path, monkeypatch, quick()))
    assert [(job.path.name, job.shape, job.image) for job in jobs] == [("there.onnx", (1, 3, 16, 24), (30, 40))]


def test_a_row_whose_file_is_missing_says_so(tmp_path, monkeypatch, jobs):
    rows = bench.run(context(tmp_path, monkeypatch, quick()))["rows"]
    gone = tmp_path / "export" / "gone.onnx"
    assert rows["student.int8.openvino"]["error"] == f"{gone} is missing; --force export makes it again"
    assert "--force quantize" in rows["student.int8.eager"]["error"]
    assert "error" not in rows["student.fp32.onnxruntime"]


def test_only_integers_in_pytorch_are_simulated():
    def simulated(label, runtime):
        return Row("student", label, Path("x"), runtime).described()["simulated"]

    assert simulated("int8", "eager")
    assert simulated("int8-ptq", "eager")
    assert not simulated("fp32", "eager")
    assert not simulated("int8", "onnxruntime")


def command(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["limbeck", "bench", *map(str, words)])
    cli.main()


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["x.onnx", "--threads", "-1"], "--threads"),
        (["x.onnx", "--runtime", "foo"], "Known: eager, onnxruntime, openvino"),
        (["demo", "--runtime", "foo"], "Known: eager, onnxruntime, openvino"),
        (["demo", "--size", "8", "8"], "data.size"),
        (["demo", "--trust"], "are for files"),
        (["x.onnx", "--force", "bench"], "is for recipes"),
        (["x.onnx"], "no such file"),
    ],
)
def test_the_command_refuses(tmp_path, monkeypatch, capsys, words, wanted):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        command(monkeypatch, *words)
    assert ended.value.code == 2
    assert wanted in capsys.readouterr().err


def test_the_commands_options_change_the_recipe_and_its_table_is_printed(tmp_path, monkeypatch, capsys):
    asked = []

    def run(*given):
        asked.append(given)
        (tmp_path / "summary.json").write_text(json.dumps({"rows": []}))
        return tmp_path

    monkeypatch.setattr(cli, "_run", run)
    command(monkeypatch, "demo", "seed=3", "--threads", 2, "--runs", 5, "--runtime", "eager", "--runtime", "openvino")
    changes = ["seed=3", 'bench.runtimes=["eager", "openvino"]', "bench.threads=2", "bench.runs=5"]
    assert asked == [("demo", changes, "report", None, "auto")]
    assert str(tmp_path / "report") in capsys.readouterr().out.replace("\n", "")
    command(monkeypatch, "demo")
    assert asked[1] == ("demo", [], "report", None, "auto")


def test_the_command_times_files(tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnxruntime")
    path = onnx_file(tmp_path / "one.onnx")
    command(
        monkeypatch, path, "--size", 8, 8, "--runtime", "onnxruntime", "--runs", 1, "--threads", 1, "--device", "cpu"
    )
    assert "one" in capsys.readouterr().out


def test_the_command_trusts_only_when_told_to(tmp_path, monkeypatch):
    trusted = []

    def found(paths, settings, device, size, trust):
        trusted.append(trust)
        return []

    monkeypatch.setattr(bench, "files", found)
    command(monkeypatch, "x.onnx", "--device", "cpu")
    command(monkeypatch, "x.onnx", "--trust", "--device", "cpu")
    assert trusted == [False, True]
