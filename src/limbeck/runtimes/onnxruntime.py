"""ONNX Runtime: ``.onnx`` files on CPU or CUDA."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from limbeck.record import UserError
from limbeck.runtimes._cores import physical_cores

__all__ = ["OnnxRuntime"]

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
# TF32 rounds what the file calls float32; a row that says fp32 must mean it.
CUDA_OPTIONS = {"use_tf32": "0"}


class OnnxRuntime:
    """One session, built once.

    Threads sleep between calls (no spinning), so that an idle session takes no core from whoever is measured next.
    ``info["inference_precision"]`` is what the float part of the file is computed in; integer parts stay integer.

    Args:
        path: An ``.onnx`` file.
        threads: 0 means the number of physical cores.
        device: ``cpu``, ``cuda`` or ``cuda:1``.
        precision: ``fp32``; it computes as exported.

    Raises:
        UserError: If the file is missing, truncated or no ONNX file with one image input, the precision is not fp32,
            or the device's provider is not installed or does not start. Nothing falls back to another device.
    """

    reads: ClassVar[frozenset[str]] = frozenset({".onnx"})

    def __init__(self, path: Path, *, threads: int = 0, device: str = "cpu", precision: str = "fp32") -> None:
        if precision != "fp32":
            raise UserError(f"onnxruntime: cannot run a file in {precision!r}; it computes as exported, so use fp32.")
        provider, settings = _provider(device)
        self._path, threads = path, threads or physical_cores()
        self._session = _open(path, threads, (provider, settings))
        self._input = _only_input(self._session, path)
        active = self._session.get_providers()
        if active[0] != provider:
            raise UserError(f"onnxruntime: {provider} did not start; only {', '.join(active)} did.")
        self.info: dict[str, Any] = {
            "runtime": "onnxruntime",
            "version": onnxruntime.__version__,
            "device": device,
            "providers": active,
            "threads": threads,
            "inference_precision": precision,
        }

    def __call__(self, pixel_values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits [n, c, h', w'] of normalised images [n, 3, h, w], computed when this returns.

        Raises:
            UserError: If the network does not take images of this shape, or the engine fails on them.
        """
        feed = {self._input: np.ascontiguousarray(pixel_values, dtype=np.float32)}
        try:
            logits: NDArray[np.float32] = self._session.run(None, feed)[0]
        except Exception as error:  # its exceptions have no common base
            shape = list(pixel_values.shape)
            raise UserError(f"{self._path}: does not run on {shape} ({' '.join(str(error).split())}).") from error
        return logits


def _provider(device: str) -> tuple[str, dict[str, str]]:
    """The provider of a device, and its options."""
    kind, colon, index = device.partition(":")
    if kind not in PROVIDERS or (colon and (kind == "cpu" or not index.isdecimal())):
        raise UserError(f"onnxruntime: no device {device!r}; it has cpu, cuda and cuda:i.")
    if PROVIDERS[kind] not in onnxruntime.get_available_providers():
        raise UserError(
            f"onnxruntime: this build has no {PROVIDERS[kind]}; it has "
            f"{', '.join(onnxruntime.get_available_providers())}. For {device}: pip install onnxruntime-gpu"
        )
    return PROVIDERS[kind], CUDA_OPTIONS | {"device_id": index or "0"} if kind == "cuda" else {}


def _open(path: Path, threads: int, provider: tuple[str, dict[str, str]]) -> onnxruntime.InferenceSession:
    if not path.is_file():
        raise UserError(f"{path}: no such file.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors: they also come as exceptions
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=[provider])
    except Exception as error:  # its exceptions have no common base
        raise UserError(
            f"{path}: ONNX Runtime cannot load it ({' '.join(str(error).split())}). Truncated, or no ONNX file? "
            "Export it again."
        ) from error


def _only_input(session: onnxruntime.InferenceSession, path: Path) -> str:
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 4:
        found = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs) or "nothing"
        raise UserError(f"{path}: takes {found}; an image model takes one float tensor [n, 3, h, w].")
    name: str = inputs[0].name
    return name
