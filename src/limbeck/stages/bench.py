"""Time every row of a run, or files on their own."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from limbeck import show
from limbeck.artifact.metadata import Metadata
from limbeck.bench.measure import Job, measure, turns_in_all
from limbeck.bench.size import file_mb, macs_g, params_m
from limbeck.build import names
from limbeck.place import nearest
from limbeck.recipe import Bench
from limbeck.recipe.lesson import seats
from limbeck.record import UserError
from limbeck.runtimes._cores import cpu_has_bf16
from limbeck.stages.context import Context
from limbeck.stages.rows import Row, rows

__all__ = ["device_for", "files", "refuse_unknown", "run"]

READERS = {".safetensors": ["eager"], ".onnx": ["onnxruntime", "openvino"], ".xml": ["openvino"]}
"""Runtimes that read a file, without loading their engines."""


def run(context: Context) -> dict[str, Any]:
    """Time the rows of a run, turn about, each in a process of its own.

    Returns:
        By row: latency, throughput, memory and sizes; a row that cannot run, or whose file is missing, says why.
    """
    settings = context.recipe.bench
    if settings is None:
        return {"rows": {}}
    found = rows(context)
    shapes = {role: _shape(context, role) for role in context.roles}
    jobs = [_job(context, row, settings, shapes[row.model]) for row in found if row.timed and row.path.exists()]
    timed = _measured(jobs, settings)
    counted = _counts(context, shapes)
    result = {}
    for row in found:
        size = {"file_mb": file_mb(row.path)} if row.path.exists() else {"error": _missing(row)}
        result[row.id] = counted.get(row.model, {}) | size | timed.get(row.id, {}) | {"input": list(shapes[row.model])}
    return {"rows": result}


def _shape(context: Context, role: str) -> tuple[int, int, int, int]:
    """One image as a network takes it: its weight file has a mean for each channel."""
    path = context.weights("student" if role.startswith("student") else role)
    metadata = Metadata.read(path) if path.is_file() else None
    return (1, len(metadata.preprocess.mean) if metadata else 3, *context.preprocess(_Normalised(), role).shape)


def _missing(row: Row) -> str:
    return f"{row.path} is missing; --force {row.path.parent.name} makes it again"


class _Normalised:
    """Stands for any network where only the input's shape is asked for."""

    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


def _job(context: Context, row: Row, settings: Bench, shape: tuple[int, int, int, int]) -> Job:
    """A row's measurement; end to end it starts from an image of the size that the scored split has."""
    device = device_for(row.runtime, context.device)
    root = context.source_root(context.section(row.model))
    height, width = context.dataset(context.recipe.evaluate.split)[0].image.shape[:2]
    return Job(
        row.id, row.runtime, row.path, shape, settings.threads, device, row.inference, root, image=(height, width)
    )


def device_for(runtime: str, device: str) -> str:
    """Where a runtime is timed: PyTorch on the device, ONNX Runtime too if it can, all else on the CPU.

    Args:
        runtime: Kind of runtime.
        device: ``cpu`` or ``cuda:i``.
    """
    if runtime == "eager" or (runtime == "onnxruntime" and _onnxruntime_has_cuda()):
        return device
    return "cpu"


def _onnxruntime_has_cuda() -> bool:
    if find_spec("onnxruntime") is None:
        return False
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def _measured(jobs: list[Job], settings: Bench) -> dict[str, dict[str, Any]]:
    total = turns_in_all(jobs, settings.rounds, settings.batches)
    with show.bar("bench", total, unit="turns") as bar:
        found = measure(
            jobs, warmup=settings.warmup, runs=settings.runs, rounds=settings.rounds, batches=settings.batches,
            progress=lambda row, done, total: bar.advance(done),
        )  # fmt: skip
        bar.advance(total)
    return found


def _counts(context: Context, shapes: Mapping[str, tuple[int, int, int, int]]) -> dict[str, dict[str, Any]]:
    """Parameters and multiply-adds of each network, as it ships."""
    from limbeck.stages.networks import load_role

    found = {}
    for role in (*seats(context.recipe), "student"):
        model = load_role(context, role)
        found[role] = {"params_m": params_m(model), "macs_g": macs_g(model, shapes[role])}
    for role in ("student-baseline", "student-longer"):
        found[role] = found["student"]
    return found


def files(
    paths: list[Path], settings: Bench, device: str, size: tuple[int, int] | None, *, trust: bool = False
) -> list[dict[str, Any]]:
    """Time files without a recipe: each in every runtime that reads it.

    Args:
        paths: Exported files and weight files; one given twice is timed once.
        settings: How to measure. Runtimes named in it must each read a file, and each file needs one of them.
        device: ``cpu`` or ``cuda:i``.
        size: Input [h, w]. Where that is not what the file itself says, there is no end-to-end time.
        trust: Run code that a weight file names, out of the file's own folder.

    Raises:
        UserError: If a file is missing, or says nothing of its input and no size is given, or a runtime is unknown or
            reads none of the files.
    """
    refuse_unknown(settings.runtimes)
    if size is not None and min(size) < 1:
        raise UserError(f"--size {size[0]} {size[1]}: height and width must be at least 1.")
    paths = list({path.absolute(): path for path in paths}.values())
    jobs: list[Job] = []
    described: dict[str, dict[str, Any]] = {}
    for path, model in zip(paths, _told_apart(paths), strict=True):
        metadata, shape = _input_of(path, size)
        channels = len(metadata.preprocess.mean) if metadata else 3
        bare = metadata is None or shape != metadata.preprocess.shape
        for runtime, inference in _runs_in(path, settings):
            name = f"{model}.{runtime}" + ("-bf16" if inference == "bf16" else "")
            place, root = device_for(runtime, device), path.parent if trust else None
            job = Job(name, runtime, path, (1, channels, *shape), settings.threads, place, inference, root, bare=bare)
            jobs.append(job)
            described[name] = {
                "id": name, "model": model, "format": path.suffix.lstrip("."), "runtime": runtime, "file": path.name,
                "precision": metadata.precision if metadata else None, "inference_precision": inference,
                "simulated": runtime == "eager" and metadata is not None and metadata.quantizer is not None,
                "input": [1, channels, *shape], "file_mb": file_mb(path), "end_to_end_ms": None,
            }  # fmt: skip
    _refuse_idle(settings, jobs)
    timed = _measured(jobs, settings)
    return [described[job.id] | timed[job.id] for job in jobs]


def _input_of(path: Path, size: tuple[int, int] | None) -> tuple[Metadata | None, tuple[int, int]]:
    """What a file says about itself, and the height and width to time it at."""
    metadata = Metadata.read(path)
    if size is not None:
        return metadata, size
    if metadata is None:
        raise UserError(f"{path}: says nothing of its input; give --size HEIGHT WIDTH.")
    return metadata, metadata.preprocess.shape


def _told_apart(paths: list[Path]) -> list[str]:
    """The shortest names that tell files apart: stems, else with suffix, else with as many folders as it takes."""
    found, depth = [path.stem for path in paths], 0
    while len(set(found)) < len(found):
        depth += 1
        found = ["/".join(path.absolute().parts[-depth:]) for path in paths]
    return found


def _runs_in(path: Path, settings: Bench) -> list[tuple[str, str]]:
    """Runtime and inference precision of each row of a file."""
    if path.suffix not in READERS:
        raise UserError(f"{path}: no runtime known for {path.suffix!r}; readable: {', '.join(READERS)}.")
    readers = READERS[path.suffix]
    chosen = [name for name in readers if name in settings.runtimes]
    if not chosen:
        raise UserError(f"{path}: {', '.join(settings.runtimes)} cannot read it; {' and '.join(readers)} would.")
    return [(n, p) for n in chosen for p in (("fp32", "bf16") if n == "openvino" and cpu_has_bf16() else ("fp32",))]


def refuse_unknown(runtimes: list[str]) -> None:
    """Refuse runtimes that are none of Limbeck's.

    Raises:
        UserError: Naming the known ones.
    """
    known = names("runtimes")
    for name in runtimes:
        if name not in known:
            raise UserError(f"--runtime {name}: no such runtime.{nearest(name, known)} Known: {', '.join(known)}.")


def _refuse_idle(settings: Bench, jobs: list[Job]) -> None:
    idle = [name for name in settings.runtimes if name not in {job.runtime for job in jobs}]
    if idle and "runtimes" in settings.model_fields_set:
        suffixes = [suffix for suffix, readers in READERS.items() if set(readers) & set(idle)]
        raise UserError(f"--runtime {idle[0]}: reads none of these files; it reads {', '.join(suffixes)}.")
