"""Named tensors out of a file, whoever wrote it, and nothing else: no code of a file ever runs."""

import argparse
import pickle
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from limbeck.place import nearest
from limbeck.record import UserError

__all__ = ["read_tensors"]

FOLDER_FILES = ("model.safetensors", "pytorch_model.bin")
"""What a folder of the Hugging Face hub keeps its weights in, the better one first."""

STATES = ("model_state_dict", "state_dict", "model", "net", "model_ema", "ema", "student", "module")
"""Keys under which a training script's checkpoint keeps the network, in this order."""

_SCALAR = cast(Callable[..., Any], np.float64(0).__reduce__()[0])
_ARRAY = cast(Callable[..., Any], np.zeros(0).__reduce__()[0])
HARMLESS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    argparse.Namespace,
    np.dtype,
    np.ndarray,
    *{type(np.dtype(code)) for code in ("?", "f4", "f8", "i4", "i8")},
    *(
        (make, f"{core}.multiarray.{make.__name__}")
        for make in (_SCALAR, _ARRAY)
        for core in ("numpy.core", "numpy._core")
    ),
]
"""Plain values that training scripts put beside the weights: arguments and scores. They hold data and run nothing."""


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The state dict in a .safetensors, .pt, .pth or .bin file, or in a folder of the Hugging Face hub, on the CPU.

    A checkpoint with more than the network is unwrapped: the first of ``STATES`` that holds tensors counts.

    Raises:
        UserError: If the file is missing, broken, without named tensors, or could only be read by running code in it.
    """
    file = _file(path)
    if file.suffix == ".safetensors":
        return _safetensors(file)
    found = _state(_unpickled(file))
    if found is None:
        raise UserError(
            f"{file}: no state dict in it; a mapping of names to tensors, bare or under {STATES[0]!r}, would work."
        )
    return found


def _file(path: Path) -> Path:
    if path.is_dir():
        for name in FOLDER_FILES:
            if (path / name).is_file():
                return path / name
        raise UserError(f"{path}: none of {', '.join(FOLDER_FILES)} is in this folder.")
    if not path.is_file():
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UserError(f"{path}: no such file.{nearest(path.name, siblings)}")
    return path


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a whole safetensors file ({error}).") from error
    return tensors


def _unpickled(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(HARMLESS), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="'torch.load' received a zip file that looks like a TorchScript")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        foreign = re.search(r"(?:GLOBAL |<class ')([\w.]+)", str(error))
        if foreign is None:
            raise UserError(_unreadable(path, str(error).rpartition("WeightsUnpickler error:")[2])) from error
        raise UserError(
            f"{path}: refused, and nothing in it was run: it wants {foreign[1]}, which is code, not a tensor. A plain "
            'state dict works: where the file is trusted, torch.save(model.state_dict(), "weights.pt"), or safetensors.'
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise UserError(_unreadable(path, str(error) or type(error).__name__)) from error


def _unreadable(path: Path, reason: str) -> str:
    return f"{path}: no checkpoint that torch can read ({reason.strip().partition(chr(10))[0].partition('. ')[0]})."


def _state(value: Any) -> dict[str, Tensor] | None:
    if not isinstance(value, Mapping):
        return None
    inner = (_state(value.get(name)) for name in STATES)
    tensors = {name: item for name, item in value.items() if isinstance(item, Tensor) and isinstance(name, str)}
    return next((state for state in inner if state), tensors or None)
