"""One row's process: loads its file once, then works only while it is told to. JSON lines in and out."""

import gc
import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any, TextIO

import numpy as np

from limbeck.artifact.load import Predictor, load
from limbeck.build import check, find
from limbeck.record import UserError

__all__ = ["main"]

Json = dict[str, Any]
STATUS = Path("/proc/self/status")


def main() -> None:
    """Answer every line of standard input with one line, until it ends; an error is an answer too."""
    answers = _take_stdout()
    worker = Worker()
    for line in sys.stdin:
        try:
            answer = worker(json.loads(line))
        except UserError as error:
            answer = {"error": str(error)}
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _take_stdout() -> TextIO:
    """Keep the pipe to the parent for answers; whatever libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


class Worker:
    """Holds what a row has loaded between two of its turns."""

    def __init__(self) -> None:
        self._runtime: Callable[[Any], Any] | None = None
        self._predictor: Predictor | None = None
        self._shape = (0, 0, 0, 0)
        self._image = (0, 0)

    def __call__(self, request: Json) -> Json:
        """Do what ``request["do"]`` says: load, latency, end_to_end or memory."""
        if request["do"] == "load":
            return self._load(request)
        assert self._runtime is not None, "the first request is to load"
        if request["do"] == "memory":
            return {"peak_rss_mb": peak_rss_mb(), "peak_gpu_mb": peak_gpu_mb()}
        call = self._inference(request["batch"]) if request["do"] == "latency" else self._end_to_end()
        return {"times_ms": timed(call, request["warmup"], request["runs"])}

    def _load(self, request: Json) -> Json:
        """Open the file and run it once; importing the engine is not part of the time."""
        self._shape, self._image = tuple(request["shape"]), tuple(request["image"])
        root = Path(request["root"]) if request["root"] else None
        kind, path = request["runtime"], Path(request["path"])
        component = find("runtimes", kind, "runtime", root)
        given = {name: request[name] for name in ("threads", "device", "precision")} | {"root": root}
        begin = perf_counter()
        if request["bare"]:
            self._runtime = component(**check(component, {}, "runtime", kind, {"path": path} | given))
        else:
            self._predictor = load(path, runtime=kind, **given)
            self._runtime = self._predictor.runtime
        self._inference(self._shape[0])()
        return {"load_ms": (perf_counter() - begin) * 1e3, "info": getattr(self._runtime, "info", {})}

    def _inference(self, batch: int) -> Callable[[], object]:
        """The artifact alone. Runtimes return when the logits are computed, so there is nothing left to wait for."""
        assert self._runtime is not None
        runtime = self._runtime
        pixel_values = np.random.default_rng(0).standard_normal((batch, *self._shape[1:]), dtype=np.float32)
        return lambda: runtime(pixel_values)

    def _end_to_end(self) -> Callable[[], object]:
        """From an image array to its mask at the image's size."""
        assert self._predictor is not None, "a bare file makes no masks"
        predictor = self._predictor
        channels = 3 if self._shape[1] == 1 else self._shape[1]  # networks for grey start from colour images too
        image = np.random.default_rng(0).integers(0, 256, (*self._image, channels), dtype=np.uint8)
        return lambda: predictor.mask(image)


def timed(call: Callable[[], object], warmup: int, runs: int) -> list[float]:
    """Milliseconds of every one of ``runs`` calls after ``warmup`` untimed ones; no garbage is collected in between."""
    for _ in range(warmup):
        call()
    times_ms = []
    gc.collect()
    gc.disable()
    try:
        for _ in range(runs):
            begin = perf_counter()
            call()
            times_ms.append((perf_counter() - begin) * 1e3)
    finally:
        gc.enable()
    return times_ms


def peak_rss_mb() -> float | None:
    """The most memory this process held, from the kernel; None where it does not say.

    ``ru_maxrss`` would not do: a new program inherits the peak of the process that started it.
    """
    if not STATUS.is_file():
        return None
    fields = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return int(fields["VmHWM"].split()[0]) * 1024 / 1e6


def peak_gpu_mb() -> float | None:
    """The most GPU memory PyTorch's tensors held; None if PyTorch used no GPU here, whatever other engines do."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    return float(torch.cuda.max_memory_allocated()) / 1e6


if __name__ == "__main__":
    main()
