"""The network you already have: write the recipe that quantizes and measures it, without teacher or training."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from limbeck.artifact.metadata import Metadata
from limbeck.build import names
from limbeck.data.labels import Labels, read_labels
from limbeck.data.pairs import find_files
from limbeck.place import Place, dump, parse
from limbeck.recipe import Model, from_dict
from limbeck.record import UserError, write_text
from limbeck.stages.class_data import class_section, gives_classes, has_class_folders
from limbeck.stages.context import runs_root

__all__ = ["adopt", "data_section"]

DEFAULT_SIZE, CLASS_SIZE = (512, 512), (224, 224)


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
        data: Folder of images and masks, for a classifier of a folder for each class, or of images alone; or the kind
            of a data set.
        target: Runtime that the integer file is for.
        arch: Kind and arguments of a weight file that does not say them, such as ``torchvision,arch=fcn_resnet50``.
        weights: Weight file for a network that code builds.
        size: Input height and width; the weight file's own, else 512x512, or 224x224 for a classifier.
        name: Name of the run; made of model and target if None.

    Raises:
        UserError: If the model or the data cannot be made out, or another recipe of this name is there already.
    """
    student, metadata = _student(model, arch, weights)
    classes = metadata.classes if metadata else _labels(model).classes
    classifies, folder = gives_classes(student, metadata, data), Path(data)
    own = class_section(folder, classes) if classifies and folder.is_dir() else _dense_section(data, classes)
    section = own | _resize(size or (CLASS_SIZE if classifies and metadata is None else None), metadata)
    name = name or re.sub(r"[^A-Za-z0-9._-]+", "-", f"{Path(model).stem}-{target}").strip("-.")
    recipe: dict[str, Any] = {"name": name} | ({"task": {"kind": "classification"}} if classifies else {})
    recipe |= {"data": section, "student": student, "quantize": [{"kind": "pt2e", "target": target}]}
    from_dict(recipe, Place(f"quantize {model}"), runs_root())  # a wrong name must not become a path
    path = runs_root() / f"{name}.yaml"
    made_by = " ".join(f"# Made by: limbeck quantize {model} --data {data} --target {target}".split())
    _write(path, f"{made_by}\n{dump(recipe)}")
    return path


def _write(path: Path, text: str) -> None:
    """Write the recipe; one that is there already stays if it says the same, whatever its first line."""
    if not path.exists():
        write_text(path, text)
    elif path.read_bytes().partition(b"\n")[2] != text.encode().partition(b"\n")[2]:
        raise UserError(f"{path}: is there already and says something else; give --name, run it, or remove it.")


def _resize(size: tuple[int, int] | None, metadata: Metadata | None) -> dict[str, Any]:
    """Input size, and how images come to it, as the weight file was trained."""
    if metadata is None:
        return {"size": list(size or DEFAULT_SIZE)}
    own = metadata.preprocess
    mode = "keep_ratio" if own.keep_ratio else "squash"
    resize = {"mode": mode, "multiple": own.multiple, "interpolation": own.interpolation}
    return {"size": list(size or own.size), "resize": resize}


def _student(model: str, arch: str | None, weights: str | None) -> tuple[dict[str, Any], Metadata | None]:
    path = Path(model)
    is_code = ":" in model and not path.is_file()
    if weights and not is_code:
        raise UserError(f"--weights {weights}: is for a network that code builds; {model} has weights of its own.")
    if is_code:
        if arch:
            raise UserError(f"--arch {arch}: {model} says itself how the network is built; leave --arch out.")
        return {"kind": _code(model)} | ({"weights": str(Path(weights).resolve())} if weights else {}), None
    if path.is_file():
        metadata = Metadata.read(path)
        if metadata and metadata.quantizer:
            raise UserError(f"{model}: is quantized already; give the float weights.")
        student = _arch(arch) if arch else _own_arch(model, metadata)
        return student | _normalisation(metadata) | {"weights": str(path.resolve())}, metadata
    if path.is_dir() or re.fullmatch(r"[\w.-]+/[\w.-]+", model):
        source = str(path.resolve()) if path.is_dir() else model
        return {**(_arch(arch) if arch else _hub_kind(source)), "weights": source}, None
    raise UserError(f"{model}: no weight file, folder, hub id (owner/name) or code (./models.py:build).")


def _code(kind: str) -> str:
    source, _, function = kind.rpartition(":")
    return f"{Path(source).resolve()}:{function}" if source.endswith(".py") else kind


def _own_arch(model: str, metadata: Metadata | None) -> dict[str, Any]:
    """Kind and arguments that a weight file says; it may come from anywhere, so it does not choose which code runs."""
    own = metadata.architecture if metadata else None
    if own is None:
        raise UserError(f"{model}: does not say of which architecture it is; give --arch, such as `segformer,size=b0`.")
    kind = own.get("kind") if isinstance(own, dict) else None
    if isinstance(kind, str) and ":" in kind:
        raise UserError(
            f"{model}: asks for the code {kind!r}, and a weight file does not choose which code runs. If you trust "
            "that code, name it: --arch ./models.py:build, with its arguments: --arch ./models.py:build,width=32."
        )
    if kind not in names("models"):
        raise UserError(f"{model}: is of an unknown architecture {kind!r}; give --arch: {', '.join(names('models'))}.")
    reserved = {"num_classes", *Model.model_fields} - {"kind"}
    return {key: value for key, value in own.items() if key not in reserved}


def _normalisation(metadata: Metadata | None) -> dict[str, Any]:
    return {"mean": list(metadata.preprocess.mean), "std": list(metadata.preprocess.std)} if metadata else {}


def _hub_kind(source: str) -> dict[str, Any]:
    """Kind and size of a hub id or folder, by its config.json."""
    from limbeck.models._hub import hub_json
    from limbeck.models.segformer import SIZES

    config = hub_json(source, "config.json", Path())
    if config.get("model_type") == "upernet":
        return _upernet(source, config.get("backbone_config") or {})
    fits = [name for name, spec in SIZES.items() if all(config.get(k) == spec[k] for k in ("depths", "hidden_sizes"))]
    if config.get("model_type") != "segformer" or not fits:
        raise UserError(f"{source}: is a {config.get('model_type', 'model without config.json')!r}; give --arch.")
    return {"kind": "segformer", "size": fits[0]}


def _upernet(source: str, backbone: dict[str, Any]) -> dict[str, Any]:
    from limbeck.models.upernet_swin import SIZES

    fits = [name for name, spec in SIZES.items() if all(backbone.get(k) == spec[k] for k in ("depths", "embed_dim"))]
    if backbone.get("model_type") != "swin" or not fits:
        raise UserError(f"{source}: is an UPerNet on {backbone.get('model_type', 'nothing')!r}; give --arch.")
    return {"kind": "upernet_swin", "size": fits[0], "window": backbone.get("window_size", 7)}


def _arch(text: str) -> dict[str, Any]:
    """Kind and arguments of ``torchvision,arch=fcn_resnet50``."""
    kind, *arguments = _split(text)
    if ":" not in kind and kind not in names("models"):
        raise UserError(f"--arch {text}: no such kind {kind!r}; known: {', '.join(names('models'))}.")
    return {"kind": _code(kind), **_arguments(f"--arch {text}", arguments)}


def _split(text: str) -> list[str]:
    """A kind and its arguments; a comma inside a value, such as ``classes=[road, sky]``, parts nothing."""
    kind, comma, arguments = text.partition(",")
    return [kind, *re.split(r",(?=\s*\w+=)", arguments)] if comma else [kind]


def _arguments(option: str, arguments: list[str]) -> dict[str, Any]:
    """Values of ``name=value`` pairs, read as YAML."""
    wrong = [argument for argument in arguments if "=" not in argument]
    if wrong:
        raise UserError(f"{option}: {wrong[0]!r} should be name=value.")
    lines = "\n".join("{}: {}".format(*argument.split("=", 1)) for argument in arguments)
    return parse(lines, option)[0] if lines else {}


def _labels(model: str) -> Labels:
    return read_labels(Path(model)) if Path(model).is_file() else Labels()


def data_section(data: str, classes: Sequence[str]) -> dict[str, Any]:
    """The data section: a kind by its name, a folder in one of the usual layouts, or a plain folder of images."""
    return class_section(Path(data), classes) if has_class_folders(Path(data)) else _dense_section(data, classes)


def _dense_section(data: str, classes: Sequence[str]) -> dict[str, Any]:
    """The same where a folder's images are to have masks, or nothing."""
    folder = Path(data)
    if not folder.is_dir():
        kind, *arguments = _split(data)
        if kind in names("datasets"):
            return {"kind": kind, **_arguments(data, arguments)}
        raise UserError(f"{data}: no such folder, nor a data set; known: {', '.join(names('datasets'))}.")
    found: dict[str, Any] = {"kind": "folder", "path": str(folder.resolve())}
    if classes and not (folder / "id2label.json").is_file():
        found["classes"] = list(classes)
    if (folder / "images" / "training").is_dir():
        return found | ({} if (folder / "annotations" / "training").is_dir() else {"annotations": None})
    inside = "images" if (folder / "images").is_dir() else "."
    if not find_files(folder, inside):
        raise UserError(f"{folder}: no images in it.")
    masks = {"annotations": "annotations"} if (folder / "annotations").is_dir() else {"annotations": None}
    return found | {"images": inside, "holdout": 0.2} | masks
