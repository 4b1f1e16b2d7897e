"""From one mapping of a recipe to one object: the kind names the file of a room, the signature is the schema."""

import importlib
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, ValidationError, create_model

from limbeck.place import Place, nearest
from limbeck.record import UserError

__all__ = ["build", "check", "find", "names"]


def names(room: str) -> list[str]:
    """The kinds of a room: its files and folders without a leading underscore, in alphabetical order."""
    package = importlib.import_module(f"limbeck.{room}")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_"))


def find(room: str, kind: str, where: Place | str, root: Path | None = None) -> Callable[..., Any]:
    """The component that ``kind`` names: a file of the room, ``package.module:Name`` or ``./file.py:name``.

    Args:
        room: Name of a component room, such as ``losses``.
        kind: What the recipe says.
        where: Place in the recipe, for messages.
        root: Folder that a relative file is looked up in: the recipe's own.

    Raises:
        UserError: If there is no such kind, file or name, or its optional package is missing.
    """
    if ":" in kind:
        return _foreign(kind, where, root or Path())
    if kind not in names(room):
        one = "loss" if room == "losses" else room[:-1]
        raise UserError(
            f"{where}: no such {one} {kind!r}.{nearest(kind, names(room))} Known: {', '.join(names(room))}."
        )
    try:
        module = importlib.import_module(f"limbeck.{room}.{kind}")
    except ModuleNotFoundError as error:
        raise UserError(_missing_package(where, kind, error)) from error
    (public,) = module.__all__
    component: Callable[..., Any] = getattr(module, public)
    return component


EXTRAS = {
    "transformers": "hf", "segmentation_models_pytorch": "smp", "timm": "timm", "openvino": "openvino",
    "onnxruntime": "runtime", "onnx": "onnx", "onnxscript": "onnx", "torchao": "quant", "torch": "train",
    "torchvision": "train", "accelerate": "train", "safetensors": "train", "matplotlib": "report", "datasets": "hub",
}  # fmt: skip


def _missing_package(where: Place | str, kind: str, error: ModuleNotFoundError) -> str:
    package = (error.name or "").split(".")[0]
    extra = EXTRAS.get(package)
    hint = f'pip install "limbeck[{extra}]"' if extra else f"pip install {package}"
    return f"{where}: {kind!r} needs the package {package!r}, which is not installed: {hint}"


def _foreign(kind: str, where: Place | str, root: Path) -> Callable[..., Any]:
    source, _, name = kind.rpartition(":")
    module = _load_file(root / source, where) if source.endswith(".py") else _load_module(source, where)
    if not hasattr(module, name):
        known = [n for n in vars(module) if not n.startswith("_")]
        raise UserError(f"{where}: {source} has no {name!r}.{nearest(name, known)}")
    component: Callable[..., Any] = getattr(module, name)
    return component


def _load_module(source: str, where: Place | str) -> Any:
    try:
        return importlib.import_module(source)
    except Exception as error:  # whatever the user's own code raises
        raise UserError(f"{where}: cannot import {source!r}: {type(error).__name__}: {error}") from error


def _load_file(path: Path, where: Place | str) -> Any:
    path = path.resolve()
    if not path.is_file():
        raise UserError(f"{where}: no such file {path}.")
    name = f"limbeck_user_{path.stem}_{abs(hash(str(path)))}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(sys.modules[name])
        except Exception as error:
            del sys.modules[name]
            raise UserError(f"{where}: {path} does not run: {type(error).__name__}: {error}") from error
    return sys.modules[name]


def build(room: str, spec: Mapping[str, Any], where: Place | str, root: Path | None = None, /, **runtime: Any) -> Any:
    """Build the component that ``spec`` describes: ``kind`` and its own arguments.

    ``runtime`` objects, such as ``num_classes``, go to a component whose signature asks for them and cannot be set in
    the recipe.

    Raises:
        UserError: If the kind is unknown, an argument is unknown, missing, of the wrong type or refused, or the user's
            own code fails.
    """
    component = find(room, spec["kind"], _inside(where, "kind"), root)
    given = {key: value for key, value in spec.items() if key != "kind"}
    checked = check(component, given, where, spec["kind"], runtime)
    try:
        return component(**checked)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{where} ({spec['kind']}): {error}") from error
    except Exception as error:
        if ":" not in spec["kind"]:
            raise  # a fault of ours; the user's own code may raise anything
        raise UserError(f"{where} ({spec['kind']}): {type(error).__name__}: {error}") from error


def check(
    component: Callable[..., Any], given: dict[str, Any], where: Place | str, kind: str, runtime: Mapping[str, Any]
) -> dict[str, Any]:
    """Check arguments against a component's signature, without calling it, and return them with their right types.

    Raises:
        UserError: Naming every wrong argument at once, each with its place.
    """
    try:
        parameters = inspect.signature(component, eval_str=True).parameters
    except (NameError, AttributeError) as error:
        raise UserError(f"{where}: the types of {kind} cannot be read ({error}); import them at run time.") from error
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: {kind} is no function or class with a signature that can be read.") from error
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    own = {n: p for n, p in parameters.items() if n not in runtime and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    unknown = [] if open_ended else [name for name in given if name not in own]
    lines = [f"{_inside(where, name)}: {kind} has no argument {name!r}.{nearest(name, list(own))}" for name in unknown]
    fields: dict[str, Any] = {n: (_annotation(p), ... if p.default is p.empty else p.default) for n, p in own.items()}
    schema = create_model("Arguments", __config__=_CONFIG, **{f"p_{n}": field for n, field in fields.items()})
    try:
        model = schema.model_validate({f"p_{n}": v for n, v in given.items() if n in own})
    except ValidationError as error:
        lines += [f"{_place(where, e['loc'])}: {e['msg']}, got {e.get('input')!r}" for e in error.errors()]
    if lines:
        raise UserError("\n".join(lines) + f"\n  {kind} takes {_signature(own)}")
    extra = {n: v for n, v in given.items() if n not in own}
    wanted = {n: v for n, v in runtime.items() if n in parameters}
    return {n: getattr(model, f"p_{n}") for n in own} | extra | wanted


_CONFIG = ConfigDict(arbitrary_types_allowed=True, protected_namespaces=(), extra="forbid")


def _annotation(parameter: inspect.Parameter) -> Any:
    return Any if parameter.annotation is parameter.empty else parameter.annotation


def _place(where: Place | str, loc: tuple[int | str, ...]) -> str:
    inner = [part for part in loc[1:] if "[" not in str(part)]  # "list[float]" is a choice of the type, not a key
    for part in (str(loc[0]).removeprefix("p_"), *inner):
        where = _inside(where, part)
    return str(where)


def _inside(where: Place | str, key: str | int) -> Place | str:
    return where / key if isinstance(where, Place) else f"{where}.{key}"


def _signature(parameters: Mapping[str, inspect.Parameter]) -> str:
    shown = [str(p.replace(kind=inspect.Parameter.KEYWORD_ONLY)) for p in parameters.values()]
    return f"({', '.join(shown)})"
