"""PyTorch itself: runs weight files, and is what every other runtime is compared with."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from limbeck.build import build
from limbeck.data.tensor_file import read_tensors
from limbeck.data.weight_file import read_metadata
from limbeck.data.weights import load_weights
from limbeck.graph.network import as_logits, in_classes
from limbeck.record import UserError
from limbeck.runtimes._cores import physical_cores

__all__ = ["Eager"]

Json = dict[str, Any]


class Eager:
    """A network rebuilt from its weight file, in PyTorch.

    An integer file is restored to the graph its quantizer made, which computes in float on integer values: a reference
    for what other runtimes should answer, not for their speed; ``info["simulated"]`` says so. On a GPU fp32 is without
    TF32.

    Args:
        path: A ``.safetensors`` file whose ``limbeck`` metadata name its architecture.
        threads: For the whole process, as PyTorch knows no other way.
        device: ``cpu``, ``cuda`` or ``cuda:1``.
        precision: ``fp32``, or ``bf16`` for autocast.
        root: Folder that a user's own ``./file.py:name`` is looked up in; without it only Limbeck's own code is run.

    Attributes:
        network: The module itself, in inference mode, for those who export it.

    Raises:
        UserError: If the file cannot be rebuilt, or there is no such device or precision.
    """

    reads: ClassVar[frozenset[str]] = frozenset({".safetensors"})

    def __init__(
        self, path: Path, *, threads: int = 0, device: str = "cpu", precision: str = "fp32", root: Path | None = None
    ) -> None:
        metadata = _metadata(path)
        self._integer = metadata.get("quantizer") is not None
        self._device = _device(device)
        self._computing = _computing(self._device, precision, self._integer)
        torch.set_num_threads(threads or physical_cores())
        network = _restored(path, metadata, root) if self._integer else _loaded(path, metadata, root)
        self.network = network.to(self._device)
        self.info: Json = {
            "runtime": "eager",
            "version": torch.__version__,
            "device": device,
            "providers": [torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else "cpu"],
            "threads": torch.get_num_threads(),
            "inference_precision": precision,
            "simulated": self._integer,
        }

    def __call__(self, pixel_values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits of a batch; returns only when they are computed."""
        image = torch.from_numpy(np.ascontiguousarray(pixel_values)).to(self._device)
        if not self._integer:
            image = image.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), self._computing():
            logits: Tensor = self.network(image)
        answer: NDArray[np.float32] = logits.float().contiguous().cpu().numpy()
        return answer


def _metadata(path: Path) -> Json:
    metadata = read_metadata(path)
    if not metadata.get("architecture"):
        raise UserError(f"{path}: says nothing of its weights' architecture; use it as `weights` in a recipe.")
    return metadata


def _device(name: str) -> torch.device:
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or not (index or "0").isdecimal():
        raise UserError(f"eager: no device {name!r}; it has cpu and cuda.")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise UserError(f"eager: no device {name!r} here, PyTorch sees {torch.cuda.device_count()} GPUs; use cpu.")
    return torch.device(name)


def _computing(device: torch.device, precision: str, integer: bool) -> Callable[[], AbstractContextManager[Any]]:
    """What a call runs within: it computes in the precision asked for, and the rest of the process in its own."""
    if precision == "bf16" and integer:
        raise UserError("eager: an integer file runs in 'fp32' only: 'bf16' would blur the integers it is to compare.")
    if precision == "bf16":
        return lambda: torch.autocast(device.type, torch.bfloat16)
    if precision != "fp32":
        raise UserError(f"eager: cannot run a file in {precision!r}; use fp32 or bf16.")
    return _without_tf32 if device.type == "cuda" else nullcontext


@contextmanager
def _without_tf32() -> Iterator[None]:
    cudnn: Any = torch.backends.cudnn
    switches = (cudnn.conv, torch.backends.cuda.matmul)
    before = [switch.fp32_precision for switch in switches]
    try:
        for switch in switches:
            switch.fp32_precision = "ieee"
        yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.fp32_precision = value


def _loaded(path: Path, metadata: Json, root: Path | None) -> nn.Module:
    network = _built(path, metadata, root)
    load_weights(network, path)
    return network.to(memory_format=torch.channels_last)


def _restored(path: Path, metadata: Json, root: Path | None) -> nn.Module:
    """The integer graph: prepared again by its quantizer, filled with the file's tensors, converted."""
    _refuse_foreign(path, metadata["quantizer"], root)
    quantizer = build("quantizers", metadata["quantizer"], f"{path}: quantizer", root)
    network, example = _built(path, metadata, root), _example(metadata["preprocess"])
    prepared = quantizer.restore(network, read_tensors(path), metadata.get("manifest"), example)
    integer: nn.Module = quantizer.convert(prepared)
    return integer


def _built(path: Path, metadata: Json, root: Path | None) -> nn.Module:
    """The float network, in inference mode, with the weights its builder draws."""
    spec = {key: value for key, value in metadata["architecture"].items() if key not in ("num_classes", "class_groups")}
    _refuse_foreign(path, spec, root)
    num_classes = metadata["architecture"].get("num_classes", len(metadata["classes"]))
    runtime = {"num_classes": num_classes, "pretrained": None, "root": root}
    network = as_logits(build("models", spec, f"{path}: architecture", root, **runtime))
    return in_classes(network, metadata["architecture"].get("class_groups")).eval()


def _refuse_foreign(path: Path, spec: Json, root: Path | None) -> None:
    """A file from elsewhere must not choose which code runs; giving ``root`` says that it is one's own."""
    if ":" in spec["kind"] and root is None:
        raise UserError(
            f"{path}: needs {spec['kind']!r}; if you trust it, give the folder of its recipe as `root` "
            "(`limbeck bench --trust`: the file's own folder)."
        )


def _example(preprocess: Json) -> Tensor:
    """An input of the right shape; two images, as a batch of one would be taken for a constant."""
    multiple = preprocess.get("multiple", 1)
    height, width = (-(-side // multiple) * multiple for side in preprocess["size"])
    return torch.zeros(2, len(preprocess["mean"]), height, width)
