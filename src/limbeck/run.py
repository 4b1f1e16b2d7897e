"""The map of the program: the stages in their order, and when a result is used again."""

import importlib
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from limbeck import show
from limbeck.place import dump
from limbeck.recipe import Recipe
from limbeck.recipe.fitting import refuse_precision
from limbeck.recipe.lesson import TEACHER, is_teacher, seats
from limbeck.record import UserError, write_json, write_text
from limbeck.show import is_first_process
from limbeck.stages.check import check
from limbeck.stages.context import Context, runs_root
from limbeck.stages.licences import non_commercial, terms
from limbeck.stages.plan import Stage, plan
from limbeck.stages.share import give, held, take

__all__ = ["STAGES", "device_of", "environment", "finished", "run"]

STAGES = ("train", "quantize", "export", "evaluate", "bench", "report")
"""What the command line can stop after, in order; ``train`` is one stage for each network."""


def run(recipe: Recipe, *, until: str = "report", force: str | None = None, device: str = "auto") -> Path:
    """Do everything the recipe asks for, up to a stage; what is done already is used again.

    Nothing is written or removed before every stage is known to agree with what the folder holds.

    Args:
        recipe: The recipe.
        until: Last stage.
        force: Stage or network that is done again, with all that builds on it; ``train`` means every network,
            ``teacher`` every teacher.
        device: ``auto``, ``cpu`` or ``cuda:i``.

    Returns:
        The run's folder.

    Raises:
        UserError: If something in the recipe or the data is wrong, or the folder holds other results.
    """
    context = Context(recipe, runs_root() / recipe.name, device_of(device))
    if context.folder.is_file():
        raise UserError(f"{context.folder}: a file is in the run folder's place; move it away or choose another name.")
    refuse_precision(recipe, context.device)
    everything = plan(context)
    forced = _forced(everything, force)
    wanted = {name: stage for name, stage in everything.items() if _order(name) <= STAGES.index(until)}
    todo = [name for name, stage in wanted.items() if name in forced or not stage.done()]
    if any(_order(name) == STAGES.index("train") and _trains(recipe, name) for name in todo):
        check(recipe, to_run=True)  # the student's mistakes must not wait for the teacher's training
    _wait(context)  # every process has looked before one of them writes
    if is_first_process():
        _clear(context, everything, forced)
        if todo:
            write_text(context.folder / "recipe.yaml", dump(recipe.resolved()))
            write_json(context.folder / "environment.json", environment(context.device))
            for line in non_commercial(terms(recipe, context.dataset(recipe.evaluate.split))):
                show.say(line)
    _wait(context)
    for name, stage in wanted.items():
        if _order(name) >= STAGES.index("export") and not is_first_process():
            return context.folder  # the other processes only train
        _do(context, stage, again=name in todo)
    if until == "report" and is_first_process():
        _work("report")(context)
    return context.folder


def finished(recipe: Recipe, until: str = "report") -> bool:
    """Whether a run has done everything up to a stage.

    Raises:
        UserError: If its folder holds other results.
    """
    context = Context(recipe, runs_root() / recipe.name)
    if not context.folder.is_dir() or (until == "report" and not (context.folder / "report" / "index.html").is_file()):
        return False
    return all(stage.done() for name, stage in plan(context).items() if _order(name) <= STAGES.index(until))


def _trains(recipe: Recipe, role: str) -> bool:
    """Whether a network is trained, and not only taken as it is."""
    seat = seats(recipe).get(role)
    return bool(seat.section.train if seat else recipe.train)


def _order(name: str) -> int:
    return STAGES.index(name if name in STAGES else "train")


def _forced(everything: Mapping[str, Stage], force: str | None) -> set[str]:
    """The stage that is forced and all that build on it.

    Raises:
        UserError: If the run has no such stage.
    """
    if force is None:
        return set()
    forced = {
        name for name in everything
        if name == force or (force == "train" and name not in STAGES) or (force == TEACHER and is_teacher(name))
    }  # fmt: skip
    if not forced:
        raise UserError(f"--force {force}: this run has no such stage; known: train, {', '.join(everything)}.")
    for name, stage in everything.items():  # in order, so that what builds on them follows
        if forced & set(stage.inputs):
            forced.add(name)
    for name in forced:
        everything[name].forget()
    return forced


def _clear(context: Context, everything: Mapping[str, Stage], forced: set[str]) -> None:
    for name in forced:
        shutil.rmtree(everything[name].folder, ignore_errors=True)
    for name in ("summary.json", "summary.md", "report") if forced else ():
        path = context.folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _do(context: Context, stage: Stage, again: bool) -> None:
    """Do a stage, or take what another run of a sweep made; or say that it is done."""
    with held(stage) as shared:
        made_by = take(shared, stage) if shared is not None and again else None
        if made_by is not None:
            show.say(f"{stage.name}: taken from {made_by}")
            return
        if again:
            _make(context, stage)
        else:
            show.say(f"{stage.name}: done before")
        if shared is not None:
            give(shared, stage)


def _make(context: Context, stage: Stage) -> None:
    """Do a stage and record it."""
    if is_first_process():
        write_json(stage.folder / "started.json", {"fingerprint": stage.fingerprint, "reads": stage.reads})
    show.say(f"{stage.name}: begins")
    start = time.monotonic()
    result = _work(stage.name)(context)
    if is_first_process():
        record = {"stage": stage.name, "fingerprint": stage.fingerprint, "reads": stage.reads, "result": result}
        done = {"seconds": round(time.monotonic() - start, 1), "environment": environment(context.device)}
        write_json(stage.folder / "record.json", record | done)
    if _order(stage.name) < STAGES.index("export"):
        _wait(context)


def _work(name: str) -> Callable[[Context], Any]:
    """The function of a stage; its libraries load only now."""
    if name in STAGES:
        work: Callable[[Context], Any] = importlib.import_module(f"limbeck.stages.{name}").run
        return work
    train = importlib.import_module("limbeck.stages.train").run
    return lambda context: train(context, name)


def _wait(context: Context) -> None:
    """Let all processes of a distributed run come to this point."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        from accelerate import PartialState

        PartialState(cpu=context.device == "cpu").wait_for_everyone()


def device_of(wanted: str) -> str:
    """``cpu`` or ``cuda:i`` for ``auto``, ``cpu``, ``cuda`` or ``cuda:i``.

    Raises:
        UserError: If there is no such device.
    """
    if wanted == "cpu" or (wanted == "auto" and find_spec("torch") is None):
        return "cpu"
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted == "auto":
        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if count else "cpu"
    kind, _, index = wanted.partition(":")
    if kind != "cuda" or not (index or "0").isdigit():
        raise UserError(f"--device {wanted}: auto, cpu or cuda:i would work.")
    if int(index or 0) >= count:
        raise UserError(f"--device {wanted}: torch sees {count} CUDA devices; cpu would work.")
    return f"cuda:{index or 0}"


PACKAGES = (
    "torch", "torchvision", "torchao", "onnx", "onnxscript", "onnxruntime", "openvino", "transformers",
    "segmentation-models-pytorch", "accelerate", "numpy", "pillow",
)  # fmt: skip


def environment(device: str) -> dict[str, Any]:
    """Where numbers come from: versions, commit, machine, date."""
    import psutil

    return {
        "limbeck": _version("limbeck"), "commit": _commit(), "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
        "device": device, "cpu": cpu_name(), "threads": psutil.cpu_count(logical=False),
        "platform": f"{platform.system()} {platform.machine()}",
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }  # fmt: skip


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Of the working tree that this file belongs to, if it is tracked in one."""
    here = Path(__file__)

    def git(*words: str) -> str | None:
        found = subprocess.run(["git", *words], cwd=here.parent, capture_output=True, text=True, check=False)
        return found.stdout.strip() if found.returncode == 0 else None

    tracked = shutil.which("git") and git("ls-files", "--error-unmatch", here.name)
    return git("rev-parse", "--short", "HEAD") if tracked else None


def cpu_name() -> str:
    """The processor's name, as the system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
