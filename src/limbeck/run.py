"""The map of the program: the stages in their order, what each reads, and when its result is used again."""

import importlib
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from limbeck import show
from limbeck.place import dump
from limbeck.recipe import Recipe
from limbeck.record import UserError, digest, file_digest, read_json, write_json, write_text
from limbeck.stages.context import Context, runs_root
from limbeck.stages.evaluate import folder_name

__all__ = ["STAGES", "device_of", "environment", "run"]

STAGES = ("train", "quantize", "export", "evaluate", "bench", "report")
"""What the command line can stop after, in order; ``train`` is one stage for each network."""


def run(recipe: Recipe, *, until: str = "report", force: str | None = None, device: str = "auto") -> Path:
    """Do everything the recipe asks for, up to a stage; what is done already is used again.

    Args:
        recipe: The recipe.
        until: Last stage.
        force: Stage (or network) that is done again, with all after it.
        device: ``auto``, ``cpu`` or ``cuda:i``.

    Returns:
        The run's folder.

    Raises:
        UserError: If something in the recipe or the data is wrong, or the folder holds other results.
    """
    context = Context(recipe, runs_root() / recipe.name, device_of(device))
    names = _names(context, until)
    if force is not None:
        _forget(context, _names(context, "report"), force)
    _begin(context)
    inputs: dict[str, str] = {}
    for name in names:
        if name in _SERIAL and not show.is_first_process():
            return context.folder  # other processes only train
        inputs[name] = _stage(context, name, inputs)
    return context.folder


_SERIAL = ("export", "evaluate", "bench", "report")


def _names(context: Context, until: str) -> list[str]:
    from limbeck.stages.rows import has

    recipe = context.recipe
    names = [role for role in ("teacher", "student", "student-baseline", "student-longer") if has(context, role)]
    names += ["quantize"] * bool(recipe.quantize) + ["export", "evaluate"] + ["bench"] * (recipe.bench is not None)
    order = {name: STAGES.index("train" if name not in STAGES else name) for name in [*names, "report"]}
    return [name for name in [*names, "report"] if order[name] <= STAGES.index(until)]


def _begin(context: Context) -> None:
    """Make the run's folder, with the resolved recipe and where it runs."""
    if context.folder.is_file():
        raise UserError(f"{context.folder}: a file is in the run folder's place; move it away or choose another name.")
    if not show.is_first_process():
        return
    write_text(context.folder / "recipe.yaml", dump(context.recipe.resolved()))
    write_json(context.folder / "environment.json", environment(context.device))


def _stage(context: Context, name: str, inputs: dict[str, str]) -> str:
    """Do a stage, or use its record again; returns its fingerprint."""
    folder = context.folder / (folder_name(context.recipe.evaluate.split) if name == "evaluate" else name)
    reads = {"recipe": _reads(context, name), "inputs": dict(inputs)}
    fingerprint = digest(reads)
    if name == "report":
        _work(name)(context)
        return fingerprint
    if _reusable(folder, name, reads, fingerprint):
        show.say(f"{name}: done before")
        return fingerprint
    if show.is_first_process():
        write_json(folder / "started.json", {"fingerprint": fingerprint, "reads": reads})
    start = time.monotonic()
    show.say(f"{name}: begins")
    result = _work(name)(context)
    if show.is_first_process():
        record = {
            "stage": name,
            "fingerprint": fingerprint,
            "reads": reads,
            "seconds": round(time.monotonic() - start, 1),
        }
        write_json(folder / "record.json", record | {"environment": environment(context.device), "result": result})
    if name not in _SERIAL:
        _wait()
    return fingerprint


def _work(name: str) -> Callable[[Context], Any]:
    """The function of a stage; its libraries load only now."""
    if name in ("quantize", "export", "evaluate", "bench", "report"):
        work: Callable[[Context], Any] = importlib.import_module(f"limbeck.stages.{name}").run
        return work
    train = importlib.import_module("limbeck.stages.train").run
    return lambda context: train(context, name)


def _wait() -> None:
    """Let all processes of a distributed run come to this point."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        from accelerate import PartialState

        PartialState().wait_for_everyone()


def _reusable(folder: Path, name: str, reads: dict[str, Any], fingerprint: str) -> bool:
    """True if the stage is done; False if it is to be begun or taken up.

    Raises:
        UserError: If it was begun with other keys; names them.
    """
    begun = any(folder.rglob("step-*.pt"))  # without a checkpoint there is nothing to mix with other keys
    for file in ["record.json", *(["started.json"] if begun else [])]:
        if (folder / file).is_file():
            before = read_json(folder / file)
            if before["fingerprint"] == fingerprint:
                return file == "record.json"
            raise UserError(_differs(folder, name, before["reads"], reads))
    return False


def _differs(folder: Path, name: str, before: dict[str, Any], now: dict[str, Any]) -> str:
    old, new = _flat(before), _flat(now)
    changed = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    shown = [f"  {key.removeprefix('recipe.')}: {old.get(key)!r} then, {new.get(key)!r} now" for key in changed[:8]]
    return (
        f"{folder}: the stage {name!r} was done with another recipe:\n" + "\n".join(shown) + "\n"
        f"Use `--force {name}` to do it and all after it again, or name=... to keep both runs."
    )


def _flat(value: Any, key: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        return {k: v for name, item in value.items() for k, v in _flat(item, f"{key}.{name}" if key else name).items()}
    if isinstance(value, list):
        return {k: v for index, item in enumerate(value) for k, v in _flat(item, f"{key}.{index}").items()}
    return {key: value}


def _reads(context: Context, name: str) -> dict[str, Any]:
    """The recipe's keys that a stage reads, with files replaced by what is in them."""
    recipe = context.recipe.resolved()
    data = {key: value for key, value in recipe["data"].items() if key != "workers"}
    shown = {key: value for key, value in data.items() if key not in ("batch", "augment")}
    digests = {split: context.dataset(split).digest() for split in _splits(context, name)}
    model = {"seed": recipe["seed"], "task": recipe["task"], "data": data, "digests": digests}
    own: dict[str, Any] = {
        "teacher": {"teacher": recipe["teacher"], **model},
        "student": {"student": recipe["student"], "train": recipe["train"], "distil": recipe["distil"], **model},
        "student-baseline": {"student": recipe["student"], "train": recipe["train"], **model},
        "student-longer": {"quantize": recipe["quantize"], "distil": recipe["distil"], **model},
        "quantize": {"quantize": recipe["quantize"], "distil": recipe["distil"], **model},
        "export": {"export": recipe["export"], "bench": {"runtimes": (recipe["bench"] or {}).get("runtimes")}},
        "evaluate": {"evaluate": recipe["evaluate"], "report": recipe["report"], "data": shown, "digests": digests},
        "bench": {"bench": recipe["bench"]},
        "report": {},
    }[name]
    contents: dict[str, Any] = _by_content(own)
    return contents


def _splits(context: Context, name: str) -> tuple[str, ...]:
    if name in ("export", "bench", "report"):
        return ()
    if name == "evaluate":
        return (context.recipe.evaluate.split,)
    trains = (
        name not in ("teacher", "student")
        or context.section(name).train
        or (name == "student" and context.recipe.train)
    )
    return ("training", "validation") if trains else ()


def _by_content(value: Any) -> Any:
    """Replace paths of weights and code by a hash of what they hold: moving a file changes nothing."""
    if isinstance(value, list):
        return [_by_content(item) for item in value]
    if not isinstance(value, dict):
        return value
    found = {key: _by_content(item) for key, item in value.items()}
    for key in ("weights", "kind"):
        source = str(found.get(key) or "").split(":")[0]
        if source and ("/" in source) and Path(source).exists():
            found[key] = f"{Path(source).name} {file_digest(Path(source))}"
    return found


def _forget(context: Context, names: list[str], force: str) -> None:
    first = next((n for n in names if n == force or (force == "train" and n not in STAGES)), None)
    if first is None:
        raise UserError(f"--force {force}: this run has no such stage; known: {', '.join(names)}.")
    if show.is_first_process():
        for name in names[names.index(first) :]:
            for folder in context.folder.glob(f"{name}*" if name == "evaluate" else name):
                shutil.rmtree(folder)
    _wait()


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
