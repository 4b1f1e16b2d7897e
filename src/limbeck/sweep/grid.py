"""The runs that a recipe's ``matrix`` stands for: every combination of its values, each with a name that stays."""

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from limbeck.place import parse
from limbeck.recipe import Recipe, changed
from limbeck.recipe.teaching import OWN
from limbeck.record import UserError
from limbeck.sweep.labels import NOTHING, labels

__all__ = ["Cell", "Value", "cells", "named", "override", "split_axes", "values_of"]


@dataclass(frozen=True)
class Cell:
    """One run of a sweep.

    Attributes:
        name: Of the run and its folder.
        overrides: What it changes in the recipe.
        axes: What it is called on each axis, such as ``{"distil": "kd+cwd", "seed": 0}``.
    """

    name: str
    overrides: tuple[str, ...]
    axes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Value:
    """A value of an axis: its part of a run's name, what it is called, and its overrides."""

    part: str
    label: Any
    overrides: tuple[str, ...]


def cells(recipe: Recipe, axes: dict[str, list[Any]] | None = None) -> list[Cell]:
    """All runs of a recipe's matrix and further axes, the last one varying fastest; empty where there are none.

    Names are the recipe's, then for every axis the variant's own name or ``<last word of the key>-<value>``; lists of
    terms are called by their kinds alone. Values of ``distil`` may be words: ``kd+cwd`` are the recipe's own terms of
    these kinds, ``none`` is none of them.

    Raises:
        UserError: If two runs would have one name, or a word names no term of the recipe.
    """
    given = {**recipe.matrix, **(axes or {})}
    if not given:
        return []
    tails = [key.rpartition(".")[2] for key in given]
    values = [values_of(recipe, key, axis, tails.count(key.rpartition(".")[2]) > 1) for key, axis in given.items()]
    found = [_cell(recipe, dict(zip(given, chosen, strict=True))) for chosen in itertools.product(*values)]
    names = [cell.name for cell in found]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UserError(f"{recipe.place / 'matrix'}: two runs would be called {twice[0]!r}; give the variants names.")
    return found


def split_axes(changes: Sequence[str]) -> tuple[list[str], dict[str, list[Any]]]:
    """Plain overrides, and those with several values (``seed=0,1,2``) as axes; ``[1, 2]`` is one value.

    Words for terms (``distil=kd+cwd``) are an axis even alone.
    """
    plain, axes = [], {}
    for change in changes:
        key, equals, text = change.partition("=")
        values = parse(f"value: [{text}]", f"override {key}")[0]["value"] if equals and text else []
        if len(values) > 1 or (key == "distil" and values and isinstance(values[0], str)):
            axes[key] = values
        else:
            plain.append(change)
    return plain, axes


def values_of(
    recipe: Recipe, key: str, axis: list[Any] | dict[str, dict[str, Any]], whole_key: bool = False
) -> list[Value]:
    """What an axis tries; runs are named by the key's last word, or by the whole key."""
    if isinstance(axis, dict):
        return [Value(name, name, tuple(override(k, v) for k, v in new.items())) for name, new in axis.items()]
    if key == "distil":
        axis = [_own_terms(recipe, value) if isinstance(value, str) else value for value in axis]
        return [Value(str(label), label, _taught_by(value)) for label, value in zip(labels(axis), axis, strict=True)]
    shown = f"{key if whole_key else key.rpartition('.')[2]}-"
    named = zip(labels(axis), axis, strict=True)
    return [Value(f"{shown}{label}", label, (override(key, value),)) for label, value in named]


def _taught_by(value: Any) -> tuple[str, ...]:
    """Terms in place of the recipe's, whose cache and views stay; without any there is nothing to be a baseline of."""
    if isinstance(value, dict):
        return (override("distil", value),)
    return (override("distil.terms", value),) if value else (override("distil.terms", []), override("baseline", False))


def _own_terms(recipe: Recipe, word: str) -> list[dict[str, Any]]:
    """The recipe's terms of the kinds in ``kd+cwd``, as they stand."""
    terms = [term.model_dump(mode="json", exclude_unset=True) for term in recipe.distil.terms]
    known = list(dict.fromkeys(term["kind"] for term in terms))
    wanted = [] if word == NOTHING else word.split("+")
    for kind in wanted:
        if kind not in known:
            raise UserError(
                f"{recipe.place / 'distil'}: no term of kind {kind!r} for distil={word}; this recipe has "
                f"{', '.join(known) or 'none'}. Others are written out: distil=[{{kind: {kind}}}],..."
            )
    return [term for term in terms if term["kind"] in wanted]


def override(key: str, value: Any) -> str:
    """The change of a recipe that sets a key."""
    return f"{key}={json.dumps(value)}"


def _cell(recipe: Recipe, chosen: Mapping[str, Value]) -> Cell:
    changes = [change for value in chosen.values() for change in value.overrides]
    if any(change.startswith("seed=") for change in changes):
        changes += [override(f"{path}.seed", recipe.seed) for path in _unseeded(changed(recipe, changes)["teacher"])]
    axes = {key: value.label for key, value in chosen.items()}
    return named("-".join([recipe.name, *(value.part for value in chosen.values())]), changes, axes)


def _unseeded(teacher: Any, path: str = "teacher") -> list[str]:
    """Where the teachers are, at every depth, that have no seed of their own; the student's average needs none."""
    if isinstance(teacher, list):
        return [found for index, one in enumerate(teacher) for found in _unseeded(one, f"{path}.{index}")]
    if not teacher or teacher["kind"] == OWN:
        return []
    own = [path] if teacher.get("seed") is None else []
    return own + _unseeded(teacher.get("teacher"), f"{path}.teacher")


def named(name: str, changes: Sequence[str], axes: Mapping[str, Any]) -> Cell:
    """A run of its own name, which can be a folder's, and without further runs inside."""
    label = re.sub(r"[^A-Za-z0-9._-]+", "-", name)
    return Cell(label, (*changes, f"name={label}", "matrix={}", "search=null"), axes)
