"""Single files of a model on the Hugging Face hub, or of a folder laid out like one."""

from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from torch import Tensor

from limbeck.data.local import NotHereError, may_download
from limbeck.data.tensor_file import read_tensors
from limbeck.record import UserError, read_json

__all__ = ["hub_file", "hub_json", "hub_tensors"]


def hub_file(source: str, name: str, root: Path) -> Path | None:
    """Where file ``name`` of a hub id or a local folder lies, downloaded once; None if it has no such file.

    Within ``no_downloads`` a file of the hub that was not downloaded before raises ``NotHereError``.

    Args:
        source: A folder, looked up in ``root`` when relative, or else a hub id such as ``nvidia/mit-b0``.
        name: File in it.
        root: Folder of the recipe.

    Raises:
        UserError: If there is neither such a folder nor such an id, or the hub cannot be reached.
    """
    folder = root / Path(source).expanduser()
    if folder.is_dir():
        return folder / name if (folder / name).is_file() else None
    try:
        return Path(hf_hub_download(source, name)) if may_download() else _cached(source, name)
    except LocalEntryNotFoundError as error:
        raise UserError(
            f"{source}: no such folder ({folder}), and the Hugging Face hub cannot be reached. Download it where there "
            f"is a network (`hf download {source} --local-dir DIR`) and write the folder: `weights: DIR`."
        ) from error
    except EntryNotFoundError:
        return None
    except (HFValidationError, HfHubHTTPError, OSError) as error:
        raise UserError(f"{source}: no such folder ({folder}), and not on the Hugging Face hub ({error}).") from error


def _cached(source: str, name: str) -> Path | None:
    """The same among what was downloaded before; that a file does not exist is remembered, too."""
    found = try_to_load_from_cache(source, name)
    if found is None:
        raise NotHereError(f"{source}: {name}")
    return Path(found) if isinstance(found, str) else None


def hub_json(source: str, name: str, root: Path) -> dict[str, Any]:
    """The JSON object in file ``name``; empty if there is no such file.

    Raises:
        UserError: If the file is damaged, or as :func:`hub_file` does.
    """
    path = hub_file(source, name, root)
    found: Any = {} if path is None else read_json(path)
    if not isinstance(found, dict):
        raise UserError(f"{path}: holds a {type(found).__name__}, not a JSON object; download it again.")
    return found


def hub_tensors(source: str, root: Path) -> dict[str, Tensor]:
    """The state dict of a hub id or folder, whole or in parts; of pickles only those in a folder are read.

    Raises:
        UserError: If it has no safetensors, or as :func:`hub_file` does.
    """
    whole = hub_file(source, "model.safetensors", root)
    index = None if whole else hub_file(source, "model.safetensors.index.json", root)
    if index is not None:
        for part in sorted(set(read_json(index).get("weight_map", {}).values())):
            hub_file(source, part, root)
    found = whole or index
    if found is None:
        raise UserError(
            f"{source}: it has no model.safetensors. Its pytorch_model.bin, downloaded, works as `weights: FILE`: "
            "only tensors are read from it."
        )
    return read_tensors(found)
