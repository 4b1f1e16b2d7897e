"""The whole line on the smallest recipe: every file appears, nothing is done twice, and nothing is lost to a kill."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from limbeck import cli


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "limbeck.cli", *words]


def run(runs: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words), env=environment(runs), capture_output=True, text=True, timeout=600, check=False
    )


def environment(runs: Path) -> dict[str, str]:
    return os.environ | {"LIMBECK_RUNS": str(runs), "LIMBECK_CACHE": str(runs / "cache"), "CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of smoke/unet, from one process that nothing disturbed."""
    runs = tmp_path_factory.mktemp("runs")
    done = run(runs, "run", "smoke/unet")
    assert done.returncode == 0, done.stderr
    assert "Report:" in done.stdout
    return runs / "smoke-unet"


def rows(folder: Path) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in json.loads((folder / "summary.json").read_text())["rows"]}


def test_every_file_is_there(finished: Path) -> None:
    for name in (
        "recipe.yaml", "environment.json", "metrics.jsonl", "summary.json", "summary.md", "report/index.html",
        "export/teacher.fp32.onnx", "export/student.fp32.onnx", "export/student.int8.onnx", "export/student.int8-ptq.onnx",
    ):  # fmt: skip
        assert (finished / name).is_file(), name
    assert not [path for path in finished.rglob("*") if ".part" in path.name]


def test_every_row_is_measured(finished: Path) -> None:
    found = rows(finished)
    assert {row["error"] for row in found.values()} == {None}
    assert all(row["miou"] is not None for row in found.values())
    for name in ("student.fp32.eager", "student.fp32.onnxruntime", "student.int8.onnxruntime", "student.int8.openvino"):
        assert found[name]["latency_ms"]["p50"] > 0
        assert found[name]["params_m"] > 0
        assert found[name]["peak_rss_mb"] > 10
    record = json.loads((finished / "evaluate" / "record.json").read_text())["result"]
    names = [image["name"] for image in record["rows"][0]["images"]]
    places = [names.index(sample["name"]) for sample in record["compared"]]
    assert places == [1, 2]  # four places between the first and the last of four images
    assert all(
        (finished / "evaluate" / sample["masks"]["student.fp32.eager"]).is_file() for sample in record["compared"]
    )
    with np.load(finished / "evaluate" / "counts.npz") as counts:
        assert set(counts) == set(found)
        for name, count in counts.items():
            whole = count.sum(0)
            seen = whole.sum(1) > 0
            assert 100 * np.mean(whole[seen, 0] / whole[seen].sum(1)) == pytest.approx(found[name]["miou"])
    assert found["student.int8.eager"]["latency_ms"] is None
    assert found["student.fp32.onnxruntime"]["agreement"] > 99


def test_exported_files_answer_as_their_networks(finished: Path) -> None:
    parity = json.loads((finished / "export" / "record.json").read_text())["result"]["parity"]
    assert len(parity) == 8
    for row in parity:  # the networks are hardly trained: classes are nearly tied at many pixels
        assert row["argmax_agreement"] >= (99.5 if row["against"] == "onnxruntime" else 98), row


def test_log_has_every_stage_once(finished: Path) -> None:
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    stages = ["teacher", "student", "student-baseline", "student-longer", "qat"]
    assert list(dict.fromkeys(line["stage"] for line in lines)) == stages
    steps = [(line["stage"], line["step"], "miou" in line) for line in lines if "gradients" not in line]
    assert len(steps) == len(set(steps))
    distilled = next(line for line in lines if line["stage"] == "student" and "parts" in line)
    assert set(distilled["parts"]) == {"task", "kd", "cwd"}
    assert sum(distilled["time"].values()) == pytest.approx(1, abs=0.01)


def test_nothing_is_done_twice(finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("record.json")}
    again = run(finished.parent, "run", "smoke/unet")
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("done before") == len(before)
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("record.json")} == before


def test_a_later_key_leaves_earlier_stages_alone(finished: Path) -> None:
    changed = run(finished.parent, "evaluate", "smoke/unet", "evaluate.samples=1")
    assert changed.returncode == 2
    assert "evaluate.samples" in changed.stderr
    assert "--force evaluate" in changed.stderr


def weights(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    files = ["teacher/teacher", "student/student", "student-baseline/student-baseline", "quantize/student.int8"]
    return {name: load_file(folder / f"{name}.safetensors") for name in files}


@pytest.mark.slow
def test_killed_three_times_ends_with_the_same_bits(finished: Path, tmp_path: Path) -> None:
    rng = random.Random(0)
    folder = tmp_path / "smoke-unet"
    for stage in ("student", "student", "qat"):
        child = subprocess.Popen(
            command("quantize", "smoke/unet"),
            env=environment(tmp_path),
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        _wait_for(folder / "metrics.jsonl", stage, rng.randint(2, 5), child)
        child.send_signal(signal.SIGKILL)
        child.wait()
    ended = run(tmp_path, "quantize", "smoke/unet")
    assert ended.returncode == 0, ended.stderr
    for name, tensors in weights(finished).items():
        for key, value in weights(folder)[name].items():
            assert torch.equal(tensors[key], value), f"{name}: {key}"
    assert _steps(folder) == _steps(finished)


def _steps(folder: Path) -> list[tuple[str, int, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(line["stage"], line["step"], line["loss"]) for line in lines if "loss" in line]


def _wait_for(log: Path, stage: str, steps: int, child: subprocess.Popen[bytes]) -> None:
    for _ in range(3000):
        lines = log.read_text().splitlines() if log.is_file() else []
        if sum(f'"stage": "{stage}"' in line for line in lines) >= steps or child.poll() is not None:
            return
        time.sleep(0.02)


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path: Path) -> None:
    """Same global batch, frozen batch norm, masks without void: gloo processes give the single process's weights."""
    (tmp_path / "data.py").write_text(DATA)
    (tmp_path / "r.yaml").write_text(RECIPE)
    single = run(tmp_path / "one", "train", str(tmp_path / "r.yaml"))
    assert single.returncode == 0, single.stderr
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29533"]
    double = subprocess.run(
        [*launch, "-m", "limbeck.cli", "train", str(tmp_path / "r.yaml"), "--device", "cpu"],
        env=environment(tmp_path / "two") | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert double.returncode == 0, double.stderr
    ours, theirs = (load_file(tmp_path / n / "ddp" / "student" / "student.safetensors") for n in ("one", "two"))
    for name, value in ours.items():
        torch.testing.assert_close(theirs[name], value, rtol=1e-4, atol=1e-6, msg=name)


DATA = '''
import numpy as np
from limbeck.data.sample import Sample

class Plain:
    """Images without void: every image has equally many valid pixels."""
    classes, palette = ("a", "b", "c"), ()
    def __init__(self, split: str) -> None:
        self.split = split
    def __len__(self) -> int:
        return 8
    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng([index, len(self.split)])
        return Sample(rng.integers(0, 256, (32, 32, 3), np.uint8), rng.integers(0, 3, (32, 32), np.uint8), str(index))
    def digest(self) -> str:
        return self.split
'''

RECIPE = """
name: ddp
data: {kind: ./data.py:Plain, size: [32, 32], batch: 4}
student: {kind: compact_unet, width: 4, stages: 2}
train: {steps: 6, freeze_batch_norm: 0, optimizer: {name: sgd, lr: 0.05}}
"""


def test_show_and_ls_and_doctor(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for words, wanted in (
        (["show", "demo", "seed=7"], "seed: 7"),
        (["ls"], "lightweight_deeplabv3"),
        (["ls", "losses"], "cwd"),
        (["doctor"], "cpu features"),
    ):
        monkeypatch.setattr(sys, "argv", ["limbeck", *words])
        cli.main()
        assert wanted in capsys.readouterr().out


def test_init_writes_a_recipe_that_checks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["limbeck", "init", str(tmp_path / "mine")])
    cli.main()
    monkeypatch.setattr(sys, "argv", ["limbeck", "check", str(tmp_path / "mine" / "recipe.yaml")])
    cli.main()
    assert "student.logits" in capsys.readouterr().out


def test_another_split_is_scored_into_a_folder_of_its_own(finished: Path) -> None:
    files = {path: path.stat().st_mtime_ns for path in (finished / "export").iterdir()}
    done = run(finished.parent, "evaluate", "smoke/unet", "split=test")
    assert done.returncode == 0, done.stderr
    assert json.loads((finished / "evaluate-test" / "record.json").read_text())["result"]["split"] == "test"
    assert {path: path.stat().st_mtime_ns for path in (finished / "export").iterdir()} == files
