"""From a file to a recipe: found, parsed, changed from the command line, merged and checked."""

import copy
import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from limbeck import place
from limbeck.place import Keys, Place, nearest
from limbeck.recipe.fitting import refuse_unfit
from limbeck.recipe.schema import Recipe
from limbeck.recipe.section import Section
from limbeck.recipe.teaching import OWN
from limbeck.record import UserError

__all__ = ["changed", "from_dict", "merged", "packaged", "read"]

LISTS = ("quantize", "export")
"""Sections that may be written as a single mapping where there is only one."""

SECTIONS = {"distil": "terms"}
"""Sections that may be written as a list alone, and the key that the list is."""


def packaged() -> dict[str, Path]:
    """Recipes inside the package by name, such as ``camvid/quick``."""
    folder = Path(str(resources.files("limbeck") / "recipes"))
    return {str(path.relative_to(folder).with_suffix("")): path for path in sorted(folder.rglob("*.yaml"))}


def read(source: str | Path, overrides: list[str] | None = None) -> Recipe:
    """Read a recipe: a file, or the name of one inside the package; ``a.b.0.c=value`` overrides are applied to it.

    Raises:
        UserError: With file and line for everything that is wrong with the schema, all at once.
    """
    path = _locate(str(source))
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text file ({error.reason}).") from error
    shown = _short(path)
    raw, lines = place.parse(text, shown)
    _in_full(raw, lines)
    _change(raw, lines, overrides or [])
    return from_dict(raw, Place(shown, (), lines), path.parent)


def changed(recipe: Recipe, overrides: Sequence[str]) -> dict[str, Any]:
    """The plain values of a recipe with these changes, not checked again.

    Raises:
        UserError: If a change names an entry that a list does not have.
    """
    raw = recipe.resolved()
    _in_full(raw, {})
    _change(raw, {}, overrides)
    return raw


def _change(raw: dict[str, Any], lines: dict[Keys, int], overrides: Sequence[str]) -> None:
    for assignment in overrides:
        keys = place.override(raw, place.indexed(raw, (*LISTS, "teacher"), place.inside(SECTIONS, assignment)))
        place.forget(lines, keys)
        _one_length(raw, keys)
        _in_full(raw, lines)


def _in_full(raw: dict[str, Any], lines: dict[Keys, int]) -> None:
    """Write out what may be shortened."""
    place.as_lists(raw, LISTS, lines)
    _sections_in_full(raw, lines, ())


def _sections_in_full(learner: Any, lines: dict[Keys, int], at: Keys) -> None:
    """Of the recipe, and of its teachers at every depth."""
    if isinstance(learner, list):
        for index, one in enumerate(learner):
            _sections_in_full(one, lines, (*at, index))
    elif isinstance(learner, dict):
        place.as_sections(learner, SECTIONS, lines, at)
        _sections_in_full(learner.get("teacher"), lines, (*at, "teacher"))


def _one_length(raw: dict[str, Any], keys: Keys) -> None:
    """``epochs`` set from the command line replaces ``steps`` in the file, and the other way round."""
    other = {"epochs": "steps", "steps": "epochs"}.get(str(keys[-1]))
    section: Any = raw
    for key in keys[:-1]:
        section = section[key]
    if other and isinstance(section, dict):
        section.pop(other, None)


def _short(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def _locate(source: str) -> Path:
    if Path(source).is_file():
        return Path(source).resolve()
    if source in packaged():
        return packaged()[source]
    if Path(source).is_dir() and (Path(source) / "recipe.yaml").is_file():
        return (Path(source) / "recipe.yaml").resolve()
    known = list(packaged())
    raise UserError(f"{source}: no such recipe.{nearest(source, known)} In the package: {', '.join(known)}.")


def from_dict(raw: dict[str, Any], where: Place, root: Path) -> Recipe:
    """Check plain values and make them a recipe.

    Raises:
        UserError: Naming every wrong key with its line; or the first teacher or term that fits no other.
    """
    try:
        recipe = Recipe.model_validate(_normalised(raw, root))
    except ValidationError as error:
        raise UserError("\n".join(_humanised(e, where) for e in error.errors())) from error
    recipe._place, recipe._root = where, root
    refuse_unfit(recipe)
    return recipe


def _normalised(raw: dict[str, Any], root: Path) -> dict[str, Any]:
    value = copy.deepcopy(raw) | {key: [] for key in (*LISTS, *SECTIONS) if key in raw and raw[key] is None}
    _in_full(value, {})
    train = value.get("train")
    if isinstance(train, dict):
        value |= _with_trained_teachers(value, train)
    if isinstance(value.get("quantize"), list):
        value["quantize"] = [_with_train(spec, train) for spec in value["quantize"]]
    found: dict[str, Any] = _absolute(value, root)
    return found


def _with_trained_teachers(learner: Any, train: dict[str, Any]) -> Any:
    """A section whose teachers, at every depth, are trained as the recipe trains, but for their own keys."""
    teachers = learner.get("teacher") if isinstance(learner, dict) else None
    if isinstance(teachers, list):
        return learner | {"teacher": [_trained(teacher, train) for teacher in teachers]}
    return learner | {"teacher": _trained(teachers, train)} if isinstance(teachers, dict) else learner


def _trained(teacher: Any, train: dict[str, Any]) -> Any:
    teacher = _with_trained_teachers(teacher, train)
    as_it_is = not isinstance(teacher, dict) or teacher.get("kind") == OWN or not _learns(teacher)
    return teacher if as_it_is else teacher | {"train": merged(train, teacher.get("train") or {})}


def _learns(teacher: dict[str, Any]) -> bool:
    return not teacher.get("weights") or bool(teacher.get("train"))


def _with_train(spec: Any, train: Any) -> Any:
    if not isinstance(spec, dict) or not isinstance(spec.get("qat"), dict):
        return spec
    below = (train if isinstance(train, dict) else {}) | {"precision": "fp32"}
    return spec | {"qat": merged(below, spec["qat"])}


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Merge mappings key by key; ``epochs`` above replaces ``steps`` below and the other way round.

    A list, and a mapping of another ``kind``, replaces what is below.
    """
    below = dict(below)
    if "epochs" in above or "steps" in above:
        below.pop("epochs", None)
        below.pop("steps", None)
    both = {k: merged(below[k], v) for k, v in above.items() if _of_one_kind(below.get(k), v)}
    return below | above | both


def _of_one_kind(below: Any, above: Any) -> bool:
    mappings = isinstance(below, dict) and isinstance(above, dict)
    return mappings and above.get("kind", below.get("kind")) == below.get("kind")


def _absolute(section: Any, root: Path) -> Any:
    """Make paths relative to the recipe absolute, however deep, so that a resolved recipe works from anywhere."""
    if isinstance(section, list):
        return [_absolute(item, root) for item in section]
    if not isinstance(section, dict):
        return section
    section = {key: _absolute(value, root) for key, value in section.items()}
    source, colon, name = str(section.get("kind", "")).rpartition(":")
    if colon and source.endswith(".py"):
        section["kind"] = f"{(root / source).resolve()}:{name}"
    _find_beside(section, "weights", root)
    _find_beside(section, "backbone_weights", root)
    if isinstance(section.get("calibration"), dict):
        _find_beside(section["calibration"], "images", root)
    return section


def _find_beside(section: dict[str, Any], key: str, root: Path) -> None:
    """Make the path under ``key`` absolute if there is something at it beside the recipe."""
    if section.get(key) and isinstance(section[key], str) and (root / section[key]).exists():
        section[key] = str((root / section[key]).resolve())


def _humanised(error: Any, where: Place) -> str:
    for key in error["loc"]:
        where = where / key
    got = "" if isinstance(error["input"], dict | BaseModel) else f", got {error['input']!r}"
    if error["type"] == "extra_forbidden":
        return f"{where}: unknown key {error['loc'][-1]!r}.{nearest(str(error['loc'][-1]), _keys(error['loc'][:-1]))}"
    if error["type"] == "string_pattern_mismatch" and error["loc"] == ("name",):
        return f"{where}: a run name is one folder name (letters, digits, '.', '_', '-') inside the runs folder{got}."
    if error["type"] == "missing":
        return f"{where}: this key is required and missing."
    return f"{where}: {error['msg'].removeprefix('Value error, ')}{got}."


def _keys(loc: tuple[str | int, ...]) -> list[str]:
    section: Any = Recipe
    for key in loc:
        if isinstance(key, str) and section is not None:
            section = _section_of(section.model_fields[key].annotation) if key in section.model_fields else None
    return list(section.model_fields) if section is not None else []


def _section_of(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next((s for a in getattr(annotation, "__args__", ()) if (s := _section_of(a)) is not None), None)
