"""Time every row of a run, or files on their own."""

from pathlib import Path
from typing import Any

from limbeck import show
from limbeck.artifact.metadata import Metadata
from limbeck.bench.measure import Job, measure
from limbeck.bench.size import file_mb, macs_g, params_m
from limbeck.recipe import Bench
from limbeck.record import UserError
from limbeck.stages.context import Context
from limbeck.stages.rows import Row, cpu_has_bf16, has, rows

__all__ = ["files", "run"]


def run(context: Context) -> dict[str, Any]:
    """Time the rows of a run, turn about, each in a process of its own.

    Returns:
        By row: latency, throughput, memory and sizes; a row that cannot run says why.
    """
    settings = context.recipe.bench
    if settings is None:
        return {"rows": {}}
    found = rows(context)
    height, width = context.preprocess(_Normalised()).shape
    jobs = [_job(context, row, settings, (1, 3, height, width)) for row in found if row.timed]
    timed = _measured(jobs, settings)
    counted = _counts(context, (1, 3, height, width))
    result = {}
    for row in found:
        size = {"file_mb": file_mb(row.path)} if row.path.exists() else {}
        result[row.id] = counted.get(row.model, {}) | size | timed.get(row.id, {}) | {"input": [1, 3, height, width]}
    return {"rows": result}


class _Normalised:
    """Stands for any network where only the input's shape is asked for."""

    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


def _job(context: Context, row: Row, settings: Bench, shape: tuple[int, int, int, int]) -> Job:
    device = context.device if row.runtime in ("eager", "onnxruntime") else "cpu"
    root = context.source_root(context.section(row.model))
    return Job(row.id, row.runtime, row.path, shape, settings.threads, device, row.inference, root)


def _measured(jobs: list[Job], settings: Bench) -> dict[str, dict[str, Any]]:
    with show.bar("bench", len(jobs) * settings.rounds, unit="turns") as bar:
        return measure(
            jobs, warmup=settings.warmup, runs=settings.runs, rounds=settings.rounds, batches=tuple(settings.batches),
            progress=lambda row, done, total: bar.advance(done),
        )  # fmt: skip


def _counts(context: Context, shape: tuple[int, int, int, int]) -> dict[str, dict[str, Any]]:
    """Parameters and multiply-adds of each network, as it ships."""
    from limbeck.stages.train import load_role

    found = {}
    for role in ("teacher", "student"):
        if has(context, role):
            model = load_role(context, role)
            found[role] = {"params_m": params_m(model), "macs_g": macs_g(model, shape)}
    for role in ("student-baseline", "student-longer"):
        found[role] = found["student"]
    return found


def files(paths: list[Path], settings: Bench, device: str, size: tuple[int, int] | None) -> list[dict[str, Any]]:
    """Time files without a recipe: each in every runtime that reads it.

    Raises:
        UserError: If a file is missing, or says nothing of its input and no size is given.
    """
    jobs: list[Job] = []
    described: dict[str, dict[str, Any]] = {}
    for path in paths:
        if not path.is_file():
            raise UserError(f"{path}: no such file.")
        metadata = Metadata.read(path)
        if metadata is None and size is None:
            raise UserError(f"{path}: says nothing of its input; give --size HEIGHT WIDTH.")
        shape = size or (metadata.preprocess.shape if metadata else (0, 0))
        for runtime, inference in _runs_in(path, settings):
            name = f"{path.stem}.{runtime}" + ("-bf16" if inference == "bf16" else "")
            jobs.append(Job(name, runtime, path, (1, 3, *shape), settings.threads, device, inference, path.parent))
            described[name] = {
                "id": name, "model": path.stem, "format": path.suffix.lstrip("."), "runtime": runtime,
                "file": path.name,
                "precision": metadata.precision if metadata else None, "inference_precision": inference,
                "input": [1, 3, *shape], "file_mb": file_mb(path),
            }  # fmt: skip
    timed = _measured(jobs, settings)
    return [described[job.id] | timed[job.id] for job in jobs]


def _runs_in(path: Path, settings: Bench) -> list[tuple[str, str]]:
    readers = {".safetensors": ["eager"], ".onnx": ["onnxruntime", "openvino"], ".xml": ["openvino"]}
    if path.suffix not in readers:
        raise UserError(f"{path}: no runtime known for {path.suffix!r}; readable: {', '.join(readers)}.")
    chosen = [name for name in readers[path.suffix] if name in settings.runtimes]
    return [(n, p) for n in chosen for p in (("fp32", "bf16") if n == "openvino" and cpu_has_bf16() else ("fp32",))]
