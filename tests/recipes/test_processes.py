"""Several processes distil as one does: with a projector, a teacher, and the look at gradients."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from limbeck.train import checkpoint

DATA = """
import numpy as np
from limbeck.data.sample import Sample

class Plain:
    classes, palette = ("a", "b"), ()
    def __init__(self, split: str) -> None:
        self.split = split
    def __len__(self) -> int:
        return 8
    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng([index, len(self.split)])
        return Sample(rng.integers(0, 256, (32, 32, 3), np.uint8), rng.integers(0, 2, (32, 32), np.uint8), str(index))
    def digest(self) -> str:
        return self.split
"""

RECIPE = """
name: two
data: {kind: ./data.py:Plain, size: [32, 32], batch: 4}
teacher: {kind: compact_unet, width: 8, stages: 2, train: {steps: 2}}
student: {kind: compact_unet, width: 4, stages: 2}
train: {steps: 6, freeze_batch_norm: 0, optimizer: {name: sgd, lr: 0.05}}
distil: [{kind: kd}, {kind: hint, at: encoder.1 -> encoder.1}]
"""


@pytest.mark.slow
def test_11_projectors_of_two_processes_are_those_of_one(tmp_path: Path) -> None:
    """CIRKDv2: two modules with an optimizer and without DistributedDataParallel drift apart."""
    (tmp_path / "data.py").write_text(DATA)
    (tmp_path / "r.yaml").write_text(RECIPE)
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29534"]
    for name, start in (("one", []), ("both", launch)):
        words = [sys.executable, *start, "-m", "limbeck.cli", "train", str(tmp_path / "r.yaml"), "--device", "cpu"]
        own = {"LIMBECK_RUNS": str(tmp_path / name), "LIMBECK_CACHE": str(tmp_path / name / "cache")}
        done = subprocess.run(
            words, env=os.environ | own | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=600,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    one, both = (checkpoint.load(checkpoint.latest(tmp_path / n / "two/student/checkpoints")) for n in ("one", "both"))
    assert "terms.1.projector.weight" in one["objective"]
    for name, value in one["objective"].items():
        torch.testing.assert_close(both["objective"][name], value, rtol=1e-4, atol=1e-6, msg=name)
    logs = [(tmp_path / name / "two" / "metrics.jsonl").read_text().splitlines() for name in ("one", "both")]
    assert [sum("gradients" in json.loads(line) for line in log) for log in logs] == [1, 1]
