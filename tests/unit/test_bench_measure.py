import functools
import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import psutil
import pytest

from limbeck.artifact.metadata import Metadata
from limbeck.artifact.preprocess import Preprocess
from limbeck.bench.measure import Job, measure, statistics, turns, turns_in_all

FAKES = """
import os
import signal
import sys
import time
from pathlib import Path
import numpy as np

class Fake:
    reads = frozenset({".fake"})

    def __init__(self, path, *, threads=0, device="cpu", precision="fp32"):
        self.path, self.act = path, path.read_text()
        print("libraries like to talk")
        os.write(1, b"in C, too\\n")
        if self.act == "refuse":
            raise ValueError("no such\\nthing")
        if self.act == "exit":
            sys.exit("gone")
        if self.act == "sleepless":
            raise ValueError(os.environ["OMP_WAIT_POLICY"] + os.environ["GOMP_SPINCOUNT"])
        self.info = {"threads": int(os.environ["OMP_NUM_THREADS"]), "device": "fake", "inference_precision": precision}

    def __call__(self, pixel_values):
        if self.act == "hang":
            time.sleep(600)
        if self.act == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if self.act == "few" and len(pixel_values) > 1:
            raise RuntimeError("one image only")
        begin = time.time()
        time.sleep(0.001 * len(pixel_values))
        with open(self.path.parent / "log", "a") as log:
            log.write(f"{self.path.stem} {len(pixel_values)} {begin} {time.time()}\\n")
        return np.zeros((len(pixel_values), 2, 4, 4), np.float32)
"""


@pytest.fixture
def job(tmp_path):
    """Makes a job whose runtime acts as told."""
    (tmp_path / "fakes.py").write_text(FAKES)

    def make(name, act="work", **given):
        path = tmp_path / f"{name}.fake"
        path.write_text(act)
        colours = ((0, 0, 0), (9, 9, 9))
        said = Metadata("segmentation", "student", ("a", "b"), colours, Preprocess((8, 8))).to_json()
        path.with_name(f"{path.name}.json").write_text(json.dumps(said))
        return Job(name, "./fakes.py:Fake", path, (1, 3, 8, 8), root=tmp_path, **given)

    return make


def logged(tmp_path):
    return [line.split() for line in (tmp_path / "log").read_text().splitlines()]


def test_turns_go_there_and_back():
    assert "".join(turns("ABC", 3)) == "ABCCBAABC"
    assert list(turns([], 3)) == []


def test_statistics_are_numpys():
    times_ms = np.random.default_rng(0).lognormal(size=101)
    found = statistics(times_ms)
    assert found["p50"] == np.median(times_ms)
    assert found["p95"] == np.sort(times_ms)[95]
    assert found["p99"] == np.sort(times_ms)[99]
    assert found["mean"] == pytest.approx(sum(times_ms) / 101)
    assert found["std"] == pytest.approx(np.sqrt(((times_ms - times_ms.mean()) ** 2).mean()))
    assert statistics([2.0]) == {"mean": 2, "std": 0, "p50": 2, "p95": 2, "p99": 2}


def test_rows_work_in_turns_one_at_a_time(job, tmp_path):
    seen = []
    jobs = [job("A"), job("B", threads=1, precision="bf16"), job("C")]
    rows = measure(jobs, warmup=1, runs=4, rounds=2, batches=(1, 2), progress=lambda *told: seen.append(told))
    assert list(rows) == ["A", "B", "C"]
    latency, side = "AAABBBCCCCCCBBBAAA", "AABBCCCCBBAA"
    assert "".join(row[0] for row in logged(tmp_path)) == "ABC" + latency + side + side
    assert [row[1] for row in logged(tmp_path)] == ["1"] * 33 + ["2"] * 12
    moments = [float(moment) for row in logged(tmp_path) for moment in row[2:]]
    assert moments == sorted(moments), "two computed at once"
    assert [told[0] for told in seen] == list("ABCCBA" * 3)
    assert [told[1:] for told in seen] == [(done, 18) for done in range(18)]


def test_a_row_is_complete(job):
    (row,) = measure([job("A", threads=3, image=(40, 30))], warmup=0, runs=8, rounds=2, batches=(4,)).values()
    assert set(row) == {
        "threads", "device", "inference_precision", "file_mb", "load_ms", "latency_ms", "runs", "throughput_ips",
        "end_to_end_ms", "peak_rss_mb", "peak_gpu_mb",
    }  # fmt: skip
    assert (row["threads"], row["device"], row["inference_precision"]) == (3, "fake", "fp32")
    assert (row["runs"], row["file_mb"], row["peak_gpu_mb"]) == (8, 4e-6, None)
    assert 1 <= row["latency_ms"]["p50"] <= row["latency_ms"]["p99"] < 100
    assert row["end_to_end_ms"] >= 1
    assert 100 < row["throughput_ips"] < 1000
    assert row["load_ms"] >= 1


def test_who_fails_says_why_and_the_others_go_on(job, tmp_path):
    jobs = [job("good"), job("raises", "refuse"), job("crashes", "crash"), job("exits", "exit")]
    jobs += [Job("nowhere", "./fakes.py:Fake", tmp_path / "nowhere.fake", (1, 3, 8, 8), root=tmp_path)]
    rows = measure(jobs, warmup=0, runs=2, rounds=2, batches=(1,))
    assert rows["good"]["latency_ms"]["mean"] > 0
    whys = {name: row["error"] for name, row in rows.items() if name != "good"}
    assert whys["raises"].endswith("raises.fake: ./fakes.py:Fake: no such thing")
    assert whys["crashes"].startswith("crashed with SIGSEGV")
    assert whys["exits"] == "ended with exit code 1: gone"
    assert "no such file" in whys["nowhere"]
    assert all(set(rows[name]) == {"error"} for name in whys)
    assert not benchmarks()


def test_who_takes_too_long_is_ended(job):
    rows = measure([job("hangs", "hang")], timeout_s=2)
    assert rows == {"hangs": {"error": "no answer within 2 s"}}
    assert not benchmarks()


def benchmarks() -> list[psutil.Process]:
    """Children of this process that time something; other tests may have left helpers of their own."""
    return [child for child in psutil.Process().children() if "limbeck.bench.child" in child.cmdline()]


def test_what_was_complete_before_a_failure_is_kept(job):
    (row,) = measure([job("few", "few")], warmup=0, runs=1, rounds=1, batches=(1, 2)).values()
    assert row["error"] == "RuntimeError: one image only"
    assert row["latency_ms"]["mean"] > 0


def test_a_bare_file_is_timed_without_masks(job):
    made = job("A", bare=True)
    made.path.with_name("A.fake.json").unlink()
    seen = []
    (row,) = measure([made], warmup=0, runs=2, rounds=2, batches=(1, 2), progress=lambda *t: seen.append(t)).values()
    assert row["latency_ms"]["mean"] > 0
    assert row["throughput_ips"] > 0
    assert row["end_to_end_ms"] is None
    assert [told[1:] for told in seen] == [(done, 4) for done in range(4)]


def test_all_turns_are_foretold(job):
    jobs = [job("A"), job("B", bare=True)]
    assert turns_in_all(jobs, 4, (1, 8)) == 4 * (3 + 2)
    assert turns_in_all(jobs, 4, (1,)) == 4 * (2 + 1)
    assert turns_in_all([], 4, (1,)) == 0


def test_waiting_threads_sleep_whatever_the_caller_wants(job, monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    monkeypatch.setenv("GOMP_SPINCOUNT", "1000000")
    (row,) = measure([job("A", "sleepless")], warmup=0, runs=1, rounds=1, batches=(1,)).values()
    assert row["error"].endswith("PASSIVE0")


def test_memory_is_the_childs_own(job):
    ballast = np.ones(400_000_000, np.uint8)
    (row,) = measure([job("A")], warmup=0, runs=1, rounds=1, batches=(1,)).values()
    assert 10 < row["peak_rss_mb"] < 300, f"this process holds {ballast.nbytes / 1e6} MB"


def test_nothing_to_measure_is_nothing():
    assert measure([]) == {}


def test_wrong_numbers_are_refused(job):
    for wrong in ({"runs": 0}, {"rounds": 0}, {"warmup": -1}, {"batches": (0,)}):
        with pytest.raises(ValueError, match="positive"):
            measure([job("A")], **wrong)
    with pytest.raises(ValueError, match="ids must differ"):
        measure([job("A"), job("A")])


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_children_end_with_their_parent(job, tmp_path, end):
    made = job("A", "hang" if end == signal.SIGINT else "work")
    code = f"""
        from pathlib import Path
        from limbeck.bench.measure import Job, measure
        root = Path({str(tmp_path)!r})
        measure([Job("A", {made.runtime!r}, root / "A.fake", (1, 3, 8, 8), root=root)], runs=4000, rounds=1000)
    """
    # A shell's background job ignores Ctrl-C, and so do its children unless told otherwise.
    listen = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    command = [sys.executable, "-c", textwrap.dedent(code)]
    parent = subprocess.Popen(command, stderr=subprocess.DEVNULL, preexec_fn=listen)
    (child,) = wait_for(lambda: psutil.Process(parent.pid).children(recursive=True))
    time.sleep(1)
    os.kill(parent.pid, end)
    assert parent.wait(30) != 0
    assert wait_for(lambda: not psutil.pid_exists(child.pid) or child.status() == psutil.STATUS_ZOMBIE)


def wait_for(condition, seconds=30):
    for _ in range(seconds * 20):
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen")
