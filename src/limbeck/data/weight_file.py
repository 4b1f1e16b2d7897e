"""Weights out of a model: a .safetensors file with metadata in its header, and a hash that tells of any change."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from limbeck.record import UserError, whole

__all__ = ["read_metadata", "save_tensors", "save_weights", "state_digest"]


def save_weights(model: nn.Module, path: Path, metadata: Mapping[str, Any]) -> None:
    """Write a model's state to a .safetensors file; see :func:`save_tensors`."""
    save_tensors(model.state_dict(), path, metadata)


def save_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, Any]) -> None:
    """Write tensors to a .safetensors file with ``metadata`` as JSON in its header; equal input, equal bytes."""
    # Clones, because two names may share one storage, which the format does not know.
    own = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    with whole(path) as part:
        try:
            save_file(own, part, metadata={"limbeck": json.dumps(metadata, ensure_ascii=False)})
        except SafetensorError as error:
            raise OSError(str(error)) from error


def read_metadata(path: Path) -> dict[str, Any]:
    """What :func:`save_weights` was given as metadata, without reading a tensor; empty for files of other programs.

    Raises:
        UserError: If the file is missing or is no safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: no safetensors file ({error}).") from error
    metadata: dict[str, Any] = json.loads(header.get("limbeck", "{}"))
    return metadata


def state_digest(model: nn.Module) -> str:
    """A short hash of every parameter and buffer, names and types included: equal before and after means unchanged."""
    total = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        total.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        total.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()[:16]
