"""The network you already have: write the recipe that quantizes and measures it, without teacher or training."""

import re
from pathlib import Path
from typing import Any

from limbeck.artifact.metadata import Metadata
from limbeck.build import names
from limbeck.data.pairs import find_files
from limbeck.place import dump, parse
from limbeck.record import UserError, write_text
from limbeck.stages.context import runs_root

__all__ = ["adopt"]

DEFAULT_SIZE = (512, 512)


def adopt(
    model: str,
    data: str,
    *,
    target: str,
    arch: str | None = None,
    weights: str | None = None,
    size: tuple[int, int] | None = None,
    name: str | None = None,
) -> Path:
    """Write a recipe for a network and data, in the runs folder; returns its path.

    Args:
        model: Weight file, folder or hub id of the Hugging Face hub, or ``./models.py:build``.
        data: Folder of images and masks or of images alone, or the kind of a data set.
        target: Runtime that the integer file is for.
        arch: Kind and arguments of a weight file that does not say them, such as ``torchvision,arch=fcn_resnet50``.
        weights: Weight file for a network that code builds.
        size: Input height and width; the weight file's own, else 512x512.
        name: Name of the run; made of model and target if None.

    Raises:
        UserError: If the model or the data cannot be made out.
    """
    student, metadata = _student(model, arch, weights)
    found = size or (metadata.preprocess.size if metadata else None) or DEFAULT_SIZE
    section: dict[str, Any] = {**_data(data, metadata), "size": list(found)}
    if metadata and metadata.preprocess.keep_ratio:
        section["resize"] = {"mode": "keep_ratio", "multiple": metadata.preprocess.multiple}
    name = name or re.sub(r"[^A-Za-z0-9._-]+", "-", f"{Path(model).stem}-{target}").strip("-.")
    recipe = {"name": name, "data": section, "student": student, "quantize": [{"kind": "pt2e", "target": target}]}
    path = runs_root() / f"{name}.yaml"
    write_text(path, f"# Made by: limbeck quantize {model} --data {data} --target {target}\n{dump(recipe)}")
    return path


def _student(model: str, arch: str | None, weights: str | None) -> tuple[dict[str, Any], Metadata | None]:
    path = Path(model)
    if path.is_file():
        metadata = Metadata.read(path)
        if arch is None and (metadata is None or metadata.architecture is None):
            raise UserError(
                f"{model}: does not say of which architecture it is; give --arch, such as `segformer,size=b0`."
            )
        own = {k: v for k, v in (metadata.architecture or {}).items() if k != "num_classes"} if metadata else {}
        if metadata and metadata.quantizer:
            raise UserError(f"{model}: is quantized already; give the float weights.")
        return {**(_arch(arch) if arch else own), "weights": str(path.resolve())}, metadata
    if ":" in model:
        source, _, function = model.rpartition(":")
        kind = f"{Path(source).resolve()}:{function}" if source.endswith(".py") else model
        return {"kind": kind} | ({"weights": str(Path(weights).resolve())} if weights else {}), None
    if path.is_dir() or re.fullmatch(r"[\w.-]+/[\w.-]+", model):
        source = str(path.resolve()) if path.is_dir() else model
        return {**(_arch(arch) if arch else _hub_kind(source)), "weights": source}, None
    raise UserError(f"{model}: no weight file, folder, hub id (owner/name) or code (./models.py:build).")


def _hub_kind(source: str) -> dict[str, Any]:
    """Kind and size of a hub id or folder, by its config.json."""
    from limbeck.models._hub import hub_json
    from limbeck.models.segformer import SIZES

    config = hub_json(source, "config.json", Path())
    fits = [name for name, spec in SIZES.items() if all(config.get(k) == spec[k] for k in ("depths", "hidden_sizes"))]
    if config.get("model_type") != "segformer" or not fits:
        raise UserError(f"{source}: is a {config.get('model_type', 'model without config.json')!r}; give --arch.")
    return {"kind": "segformer", "size": fits[0]}


def _arch(text: str) -> dict[str, Any]:
    """Kind and arguments of ``torchvision,arch=fcn_resnet50``."""
    kind, *arguments = text.split(",")
    if kind not in names("models"):
        raise UserError(f"--arch {text}: no such kind {kind!r}; known: {', '.join(names('models'))}.")
    wrong = [argument for argument in arguments if "=" not in argument]
    if wrong:
        raise UserError(f"--arch {text}: {wrong[0]!r} should be name=value.")
    lines = "\n".join("{}: {}".format(*argument.split("=", 1)) for argument in arguments)
    return {"kind": kind, **(parse(lines, "--arch")[0] if lines else {})}


def _data(data: str, metadata: Metadata | None) -> dict[str, Any]:
    """The data section: a kind by its name, a laid-out folder, or a plain folder of images."""
    folder = Path(data)
    if not folder.is_dir():
        kind, *arguments = data.split(",")
        if kind in names("datasets"):
            lines = "\n".join("{}: {}".format(*argument.split("=", 1)) for argument in arguments)
            return {"kind": kind, **(parse(lines, "--data")[0] if lines else {})}
        raise UserError(f"{data}: no such folder, nor a data set; known: {', '.join(names('datasets'))}.")
    found: dict[str, Any] = {"kind": "folder", "path": str(folder.resolve())}
    if metadata and not (folder / "id2label.json").is_file():
        found["classes"] = list(metadata.classes)
    if (folder / "images" / "training").is_dir():
        return found | ({} if (folder / "annotations" / "training").is_dir() else {"annotations": None})
    inside = "images" if (folder / "images").is_dir() else "."
    if not find_files(folder, inside):
        raise UserError(f"{folder}: no images in it.")
    masks = {"annotations": "annotations"} if (folder / "annotations").is_dir() else {"annotations": None}
    return found | {"images": inside, "holdout": 0.2} | masks
