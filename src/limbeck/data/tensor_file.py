"""Named tensors out of a file, whoever wrote it, and nothing else: no code of a file ever runs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from limbeck.data.inert_pickle import Stub, as_mapping, read_pickle
from limbeck.place import nearest
from limbeck.record import UserError, read_json

__all__ = ["read_tensors"]

FOLDER_FILES = ("model.safetensors", "pytorch_model.bin")
"""What a folder of the Hugging Face hub keeps its weights in, the better one first; parts have an index beside them."""

STATES = (
    "model_state_dict", "state_dict", "model", "net", "network", "weights", "model_ema", "ema", "student", "module",
    "ema_state_dict",
)  # fmt: skip
"""Keys under which a training script's checkpoint keeps the network, in this order."""

DEPTH = 4
"""How deep the network may lie in such a checkpoint."""


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The state dict in a .safetensors, .pt, .pth or .bin file, or in a folder of the Hugging Face hub, on the CPU.

    A checkpoint with more than the network is unwrapped: the first of ``STATES`` that holds tensors counts. A whole
    network, pickled, gives its parameters and buffers. Objects of other kinds are neither imported nor run.

    Raises:
        UserError: If the file is missing, broken or without named tensors.
    """
    found: dict[str, Tensor] = {}
    for file in _files(path):
        found |= _safetensors(file) if file.suffix == ".safetensors" else _pickled(file)
    return found


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return _of_folder(path)
    if not path.is_file():
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UserError(f"{path}: no such file.{nearest(path.name, siblings)}")
    return _parts(path) if path.name.endswith(".index.json") else [path]


def _of_folder(folder: Path) -> list[Path]:
    for name in FOLDER_FILES:
        if (folder / name).is_file():
            return [folder / name]
        if (folder / f"{name}.index.json").is_file():
            return _parts(folder / f"{name}.index.json")
    raise UserError(f"{folder}: none of {', '.join(FOLDER_FILES)} is in this folder.")


def _parts(index: Path) -> list[Path]:
    """The files that an index of a network in parts names; all must lie beside it."""
    found = read_json(index)
    names = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(names, dict) or not all(isinstance(part, str) for part in names.values()):
        raise UserError(f"{index}: lists no parts (`weight_map`); download it again.")
    parts = [index.parent / Path(part).name for part in dict.fromkeys(names.values())]
    missing = [part.name for part in parts if not part.is_file()]
    if missing:
        raise UserError(f"{index}: {len(missing)} of {len(parts)} parts are not beside it, first {missing[0]}.")
    return parts


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a whole safetensors file ({error}).") from error
    return tensors


def _pickled(path: Path) -> dict[str, Tensor]:
    content = read_pickle(path)
    found = _state(content)
    if found is None:
        held = as_mapping(content)
        keys = ", ".join(str(key) for key in list(held)[:8]) if held else type(content).__name__
        raise UserError(
            f"{path}: no state dict in it, but {keys or 'nothing'}; a mapping of names to tensors, bare or under "
            f"{STATES[0]!r}, would work."
        )
    return found


def _state(value: Any, depth: int = 0) -> dict[str, Tensor] | None:
    held = as_mapping(value)
    if held is None or depth > DEPTH:
        return None
    if isinstance(value, Stub) and "_modules" in held:
        return dict(_of_module(value, "", 0))
    inner = (_state(held.get(name), depth + 1) for name in STATES)
    tensors = {name: item for name, item in held.items() if isinstance(item, Tensor) and isinstance(name, str)}
    return next((state for state in inner if state), tensors or None)


def _of_module(module: Any, prefix: str, depth: int) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers of a pickled network, under the names that its state dict would give them."""
    held = as_mapping(module) or {}
    hidden = held.get("_non_persistent_buffers_set") or ()
    for part in ("_parameters", "_buffers"):
        for name, value in (as_mapping(held.get(part)) or {}).items():
            if isinstance(value, Tensor) and name not in hidden:
                yield f"{prefix}{name}", value
    for name, child in (as_mapping(held.get("_modules")) or {}).items() if depth < 50 else ():
        yield from _of_module(child, f"{prefix}{name}.", depth + 1)
