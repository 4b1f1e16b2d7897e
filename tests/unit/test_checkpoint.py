import os
import pickle
import random
import resource

import numpy as np
import pytest
import torch

from limbeck.record import UserError
from limbeck.train import checkpoint


def test_what_is_saved_is_loaded(tmp_path):
    state = {"step": 7, "objective": {"w": torch.randn(3)}, "ema": None, "progress": {"best": 1.5, "worse": 0}}
    checkpoint.save(tmp_path, 7, state, 1)
    found = checkpoint.load(checkpoint.latest(tmp_path))
    assert torch.equal(found["objective"]["w"], state["objective"]["w"])
    assert {key: found[key] for key in ("step", "ema", "progress")} == {
        "step": 7, "ema": None, "progress": {"best": 1.5, "worse": 0}
    }  # fmt: skip


@pytest.mark.parametrize("keep", [1, 3])
def test_the_newest_are_kept(tmp_path, keep):
    for step in (2, 5, 9, 10, 100, 99_999):
        checkpoint.save(tmp_path, step, {"step": step}, keep)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [f"step-{step:08d}.pt" for step in (9, 10, 100, 99_999)][-keep:]
    assert checkpoint.load(checkpoint.latest(tmp_path))["step"] == 99_999


def test_there_may_be_none(tmp_path):
    assert checkpoint.latest(tmp_path) is None
    assert checkpoint.latest(tmp_path / "nowhere") is None


def test_leftovers_of_a_killed_process_are_removed_and_never_read(tmp_path):
    checkpoint.save(tmp_path, 3, {"step": 3}, 1)
    (tmp_path / ".step-00000009.pt.123.part.pt").write_bytes(b"half")
    assert checkpoint.latest(tmp_path).name == "step-00000003.pt"
    checkpoint.save(tmp_path, 4, {"step": 4}, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000004.pt"]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.98])
def test_a_damaged_file_is_named(tmp_path, share):
    checkpoint.save(tmp_path, 3, {"step": 3, "w": torch.randn(1000)}, 1)
    path = checkpoint.latest(tmp_path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(UserError, match=r"step-00000003\.pt: this checkpoint is damaged"):
        checkpoint.load(path)


def test_another_programs_file_is_named(tmp_path):
    path = tmp_path / "step-00000003.pt"
    path.write_bytes(b"this is no checkpoint at all")
    with pytest.raises(UserError, match="damaged"):
        checkpoint.load(path)


class Evil:
    def __reduce__(self):
        return os.mkdir, (str(Evil.target),)


def test_nothing_in_a_checkpoint_is_executed(tmp_path):
    Evil.target = tmp_path / "made"
    torch.save({"step": Evil()}, tmp_path / "step-00000001.pt")
    (tmp_path / "step-00000002.pt").write_bytes(pickle.dumps(Evil(), protocol=2))
    for path in sorted(tmp_path.glob("*.pt")):
        with pytest.raises(UserError):
            checkpoint.load(path)
    assert not Evil.target.exists()


def drawn():
    return [random.random(), np.random.rand(), np.random.normal(), random.gauss(0, 1), torch.rand(3).tolist()]


def test_random_streams_go_on_where_they_were(tmp_path):
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    drawn()
    checkpoint.save(tmp_path, 1, {"rng": checkpoint.rng_state()}, 1)
    expected = [drawn() for _ in range(3)]
    checkpoint.set_rng_state(checkpoint.load(checkpoint.latest(tmp_path))["rng"])
    assert [drawn() for _ in range(3)] == expected


@pytest.fixture
def full_disk():
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path, full_disk):
    checkpoint.save(tmp_path, 1, {"step": 1}, 1)
    with pytest.raises(UserError, match=r"step-00000002\.pt: could not be written"):
        checkpoint.save(tmp_path, 2, {"step": 2, "w": torch.randn(100_000)}, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001.pt"]
    assert checkpoint.load(checkpoint.latest(tmp_path))["step"] == 1
