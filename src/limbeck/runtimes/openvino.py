"""OpenVINO: ``.onnx`` files and its own ``.xml`` on the CPU, in float32 or bfloat16."""

import importlib
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from limbeck.record import UserError
from limbeck.runtimes._cores import cpu_has_bf16, physical_cores

__all__ = ["OpenVino"]

PRECISIONS = {"fp32": "f32", "bf16": "bf16"}
SHAPES_KEPT = 8
TELEMETRY = "openvino_telemetry"


def _openvino() -> Any:
    """Import openvino without its telemetry: the import itself reports home unless that package is absent."""
    modules: dict[str, Any] = sys.modules
    if "openvino" in modules or TELEMETRY in modules:
        return importlib.import_module("openvino")
    modules[TELEMETRY] = None
    try:
        return importlib.import_module("openvino")
    finally:
        del modules[TELEMETRY]


ov = _openvino()
_core = ov.Core()


class OpenVino:
    """A network compiled once for every input shape it meets, the newest 8 shapes kept.

    A file whose height and width are fixed is compiled for batch 1 at load. Without a hint this engine runs float32
    files in bfloat16 where the CPU can; here the precision asked for is forced. ``info["inference_precision"]`` is what
    the float part of the file is computed in; integer parts stay integer.

    Raises:
        UserError: If the file is missing, truncated or foreign, the device unknown, or the CPU lacks the precision.
    """

    reads: ClassVar[frozenset[str]] = frozenset({".onnx", ".xml"})

    def __init__(self, path: Path, *, threads: int = 0, device: str = "cpu", precision: str = "fp32") -> None:
        _check(device, precision)
        self._path = path
        self._device = device.upper()
        self._settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
            "INFERENCE_NUM_THREADS": threads or physical_cores(),
        }
        self._model = _read(path)
        self._compiled: dict[tuple[int, ...], Any] = {}
        self.info: dict[str, Any] = {
            "runtime": "openvino",
            "version": ov.get_version(),
            "device": device,
            "providers": [_core.get_property(self._device, "FULL_DEVICE_NAME").strip()],
            "threads": self._settings["INFERENCE_NUM_THREADS"],
            "inference_precision": precision,
        }
        batch, *fixed = self._model.input(0).partial_shape
        if all(dim.is_static for dim in fixed):
            self._compile((batch.get_length() if batch.is_static else 1, *(dim.get_length() for dim in fixed)))

    def __call__(self, pixel_values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits [n, c, h', w'] of normalised images [n, 3, h, w], computed when this returns.

        Raises:
            UserError: If the network does not take images of this shape, or the engine fails on them.
        """
        shape = pixel_values.shape
        network = self._compiled[shape] if shape in self._compiled else self._compile(shape)
        feed = np.ascontiguousarray(pixel_values, dtype=np.float32)
        try:
            # Its output is a view of memory that the next call overwrites: give the caller an own array.
            logits: NDArray[np.float32] = network(feed, share_inputs=True, share_outputs=False)[0]
        except RuntimeError as error:
            raise UserError(f"{self._path}: does not run on {list(shape)} ({_one_line(error)}).") from error
        return logits

    def _compile(self, shape: tuple[int, ...]) -> Any:
        taken = self._model.input(0).partial_shape
        if not taken.compatible(ov.PartialShape(list(shape))):
            raise UserError(f"{self._path}: does not run on {list(shape)}; it takes {taken}.")
        static = self._model.clone()
        try:
            static.reshape(list(shape))
            network = _core.compile_model(static, self._device, self._settings)
        except RuntimeError as error:
            raise UserError(f"{self._path}: does not run on {list(shape)} ({_one_line(error)}).") from error
        while len(self._compiled) >= SHAPES_KEPT:
            del self._compiled[next(iter(self._compiled))]
        self._compiled[shape] = network
        return network


def _check(device: str, precision: str) -> None:
    if device.upper() not in _core.available_devices:
        known = ", ".join(name.lower() for name in _core.available_devices)
        raise UserError(f"openvino: no device {device!r} here; it has {known}.")
    if precision not in PRECISIONS:
        raise UserError(f"openvino: cannot run a file in {precision!r}; use {' or '.join(PRECISIONS)}.")
    if precision == "bf16" and device == "cpu" and not cpu_has_bf16():
        raise UserError("openvino: this CPU has no bfloat16 instructions (avx512_bf16 or amx_bf16); use fp32.")


def _read(path: Path) -> Any:
    if not path.is_file():
        raise UserError(f"{path}: no such file.")
    try:
        model = _core.read_model(path) if path.suffix == ".xml" else _read_onnx(path)
    except Exception as error:  # its exceptions have no common base
        raise UserError(
            f"{path}: OpenVINO cannot load it ({_one_line(error)}). Truncated, foreign, or without its .bin? "
            "Export it again."
        ) from error
    if len(model.inputs) != 1 or model.input(0).partial_shape.rank != 4:
        found = ", ".join(str(i.partial_shape) for i in model.inputs) or "nothing"
        raise UserError(f"{path}: takes {found}; an image model takes one tensor [n, 3, h, w].")
    return model


def _read_onnx(path: Path) -> Any:
    """Read as ONNX and nothing else: left to itself the engine tries every format it knows."""
    reader = ov.frontend.FrontEndManager().load_by_framework("onnx")
    return reader.convert(reader.load(str(path)))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
