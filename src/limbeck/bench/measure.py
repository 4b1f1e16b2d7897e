"""How long files take, side by side: every row's process lives through the whole measurement and works in turns."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from limbeck.bench.process import NoAnswerError, Process, running
from limbeck.bench.size import file_mb
from limbeck.runtimes._cores import physical_cores

__all__ = ["Job", "measure", "statistics", "turns", "turns_in_all"]

Json = dict[str, Any]
Progress = Callable[[str, int, int], None]
CHILD = "limbeck.bench.child"
SIDE_SHARE = 4
"""End-to-end time and throughput get one of so many runs: they stand beside the latency, which decides."""


@dataclass(frozen=True)
class Job:
    """One file on one runtime.

    Attributes:
        id: Name of the row.
        runtime: Kind of runtime.
        path: The exported file.
        shape: Input [n, c, h, w] the latency is taken at.
        threads: 0 means the number of physical cores.
        device: ``cpu`` or ``cuda:i``.
        precision: What the runtime may compute in.
        root: Folder of the recipe, for a user's own parts.
        image: Size [h, w] of the image that ``end_to_end_ms`` starts from; the shape's own if None.
        bare: The file does not say how an image becomes its input: it has no ``end_to_end_ms``.
    """

    id: str
    runtime: str
    path: Path
    shape: tuple[int, int, int, int]
    threads: int = 0
    device: str = "cpu"
    precision: str = "fp32"
    root: Path | None = None
    image: tuple[int, int] | None = None
    bare: bool = False


@dataclass
class _Row:
    """A job, its process, and what is known of it so far."""

    job: Job
    process: Process
    result: Json = field(default_factory=dict)

    def ask(self, request: Json) -> Json | None:
        """The answer, or None once the row has failed; why is kept in its result."""
        if "error" in self.result:
            return None
        try:
            return self.process.ask(request)
        except NoAnswerError as error:
            self.result["error"] = str(error)
            return None


def measure(
    jobs: Sequence[Job],
    *,
    warmup: int = 10,
    runs: int = 100,
    rounds: int = 4,
    batches: Sequence[int] = (1, 8),
    timeout_s: float = 600.0,
    progress: Progress | None = None,
) -> dict[str, Json]:
    """Measure files against each other on this machine.

    Each job has one process with a fixed number of threads, which loads its file once. Then the processes take turns,
    one computing at a time: forwards through the jobs, backwards, forwards, ... so that a machine that grows slower or
    faster meanwhile does so for all.

    Args:
        jobs: Rows, each with an id of its own.
        warmup: Untimed runs at the begin of every turn.
        runs: Timed runs of each job, spread over the rounds.
        rounds: Turns of each job; an even number gives every job the same mean position.
        batches: Batch sizes that throughput is looked for in, beside the shape's own.
        timeout_s: How long a load or a turn may take.
        progress: Told the id of the row whose turn comes, turns done, and turns in all.

    Returns:
        For each id: ``latency_ms`` of the artifact alone (mean, std, p50, p95, p99), ``end_to_end_ms`` (median, image
        array to mask at the image's size; None for a bare job), ``throughput_ips`` (images a second at the best batch
        size), ``load_ms`` (file to first answer), ``peak_rss_mb`` (the whole process, while it ran at the shape's
        batch), ``peak_gpu_mb`` (None if unknown), ``file_mb``, ``threads``, ``device``, ``inference_precision``,
        ``runs``. A job that fails, crashes or takes too long has ``error``, one line that says why, and only what was
        complete before; the others go on.

    Raises:
        ValueError: If two jobs have one id, or a number is not positive.
    """
    if len({job.id for job in jobs}) < len(jobs) or min(runs, rounds, *batches, warmup + 1) < 1:
        raise ValueError("measure: ids must differ; runs, rounds and batches must be positive")
    with ExitStack() as stack:
        rows = [_start(job, stack, timeout_s) for job in jobs]
        told = _Told(progress, turns_in_all(jobs, rounds, batches))
        _latency(rows, _Turn(rounds, warmup, max(1, runs // rounds)), told)
        for row in rows:
            row.result |= row.ask({"do": "memory"}) or {}
        side = _Turn(rounds, max(1, warmup // SIDE_SHARE), max(1, runs // rounds // SIDE_SHARE))
        _end_to_end(rows, side, told)
        _throughput(rows, side, batches, told)
        return {row.job.id: row.result for row in rows}


def turns_in_all(jobs: Sequence[Job], rounds: int, batches: Sequence[int]) -> int:
    """How many turns :func:`measure` takes: latency, end to end and every other batch size, in every round."""
    return rounds * sum(1 + (not job.bare) + len(_others(job, batches)) for job in jobs)


def _start(job: Job, stack: ExitStack, timeout_s: float) -> _Row:
    """Start a row's process and let it load its file, before the next one starts."""
    threads = job.threads or physical_cores()
    row = _Row(job, stack.enter_context(running(CHILD, threads, timeout_s)))
    request = {"do": "load", "runtime": job.runtime, "path": str(job.path), "shape": job.shape, "threads": threads}
    request |= {"device": job.device, "precision": job.precision, "root": str(job.root) if job.root else None}
    loaded = row.ask(request | {"image": job.image or job.shape[2:], "bare": job.bare})
    if loaded is not None:
        info = {"threads": threads, "device": job.device, "inference_precision": job.precision} | loaded["info"]
        row.result |= {key: info[key] for key in ("threads", "device", "inference_precision")}
        row.result |= {"file_mb": file_mb(job.path), "load_ms": loaded["load_ms"]}
    return row


@dataclass(frozen=True)
class _Turn:
    """How often each row has its turn, and what it does in one."""

    rounds: int
    warmup: int
    runs: int


@dataclass
class _Told:
    """Counts turns for whoever looks on."""

    progress: Progress | None
    total: int
    done: int = 0

    def turn(self, row: _Row) -> None:
        if self.progress is not None:
            self.progress(row.job.id, self.done, self.total)
        self.done += 1


def turns(rows: Sequence[Any], rounds: int) -> Iterator[Any]:
    """Forwards through the rows, then backwards, and so on: A B C C B A A B C ..."""
    for index in range(rounds):
        yield from rows if index % 2 == 0 else reversed(rows)


def _times(
    rows: Sequence[_Row], turn: _Turn, request: Callable[[Job], Json], told: _Told
) -> Iterator[tuple[_Row, list[float]]]:
    """Rows that completed all their turns, with all their times."""
    times: dict[str, list[float]] = {row.job.id: [] for row in rows}
    for row in turns(rows, turn.rounds):
        told.turn(row)
        answer = row.ask(request(row.job) | {"warmup": turn.warmup, "runs": turn.runs})
        if answer is not None:
            times[row.job.id] += answer["times_ms"]
    yield from ((row, times[row.job.id]) for row in rows if "error" not in row.result)


def _latency(rows: Sequence[_Row], turn: _Turn, told: _Told) -> None:
    """Sets the latency, and the throughput of that batch size to begin with."""
    for row, times_ms in _times(rows, turn, _infer(), told):
        latency_ms = statistics(times_ms)
        row.result |= {"latency_ms": latency_ms, "runs": len(times_ms)}
        row.result["throughput_ips"] = row.job.shape[0] * 1e3 / latency_ms["mean"]


def _end_to_end(rows: Sequence[_Row], turn: _Turn, told: _Told) -> None:
    whole = [row for row in rows if not row.job.bare]
    for row, times_ms in _times(whole, turn, lambda _: {"do": "end_to_end"}, told):
        row.result["end_to_end_ms"] = statistics(times_ms)["p50"]
    for row in rows:
        if row.job.bare and "error" not in row.result:
            row.result["end_to_end_ms"] = None


def _throughput(rows: Sequence[_Row], turn: _Turn, batches: Sequence[int], told: _Told) -> None:
    for batch in dict.fromkeys(batches):
        others = [row for row in rows if batch in _others(row.job, batches)]
        shorter = _Turn(turn.rounds, max(1, turn.warmup // batch), max(1, turn.runs // batch))
        for row, times_ms in _times(others, shorter, _infer(batch), told):
            found = batch * 1e3 / statistics(times_ms)["mean"]
            row.result["throughput_ips"] = max(row.result["throughput_ips"], found)


def _infer(batch: int | None = None) -> Callable[[Job], Json]:
    """What a job is asked for: its latency at a batch size, its own if None."""
    return lambda job: {"do": "latency", "batch": batch or job.shape[0]}


def _others(job: Job, batches: Sequence[int]) -> set[int]:
    return set(batches) - {job.shape[0]}


def statistics(times_ms: Sequence[float]) -> dict[str, float]:
    """Mean, population standard deviation and percentiles (linear between neighbours) of at least one time, in ms."""
    p50, p95, p99 = np.percentile(times_ms, (50, 95, 99))
    mean, std = np.mean(times_ms), np.std(times_ms)
    return {"mean": float(mean), "std": float(std), "p50": float(p50), "p95": float(p95), "p99": float(p99)}
