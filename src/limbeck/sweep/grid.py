"""The runs that a recipe's ``matrix`` stands for: every combination of its values, each with a name that stays."""

import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from limbeck.place import parse
from limbeck.recipe import Recipe
from limbeck.record import UserError

__all__ = ["Cell", "cells", "split_axes"]


@dataclass(frozen=True)
class Cell:
    """One run of a sweep: its name, and what it changes in the recipe, as overrides."""

    name: str
    overrides: tuple[str, ...]


Variant = tuple[str, tuple[str, ...]]
"""A part of a run's name, and its overrides."""


def cells(recipe: Recipe, axes: dict[str, list[Any]] | None = None) -> list[Cell]:
    """All runs of a recipe's matrix and further axes, the last one varying fastest; empty where there are none.

    Names are the recipe's, then for every axis the variant's own name or ``<last word of the key>-<value>``.

    Raises:
        UserError: If two runs would have one name.
    """
    given = {**recipe.matrix, **(axes or {})}
    if not given:
        return []
    tails = [key.rpartition(".")[2] for key in given]
    variants = [_variants(key, axis, tails.count(key.rpartition(".")[2]) > 1) for key, axis in given.items()]
    found = [_cell(recipe.name, chosen) for chosen in itertools.product(*variants)]
    names = [cell.name for cell in found]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UserError(f"{recipe.place / 'matrix'}: two runs would be called {twice[0]!r}; give the variants names.")
    return found


def split_axes(changes: Sequence[str]) -> tuple[list[str], dict[str, list[Any]]]:
    """Plain overrides, and those with several values (``seed=0,1,2``) as axes; ``[1, 2]`` is one value."""
    plain, axes = [], {}
    for change in changes:
        key, equals, text = change.partition("=")
        values = parse(f"value: [{text}]", f"override {key}")[0]["value"] if equals and "," in text else []
        if len(values) > 1 and not text.lstrip().startswith(("[", "{")):
            axes[key] = values
        else:
            plain.append(change)
    return plain, axes


def _variants(key: str, axis: list[Any] | dict[str, dict[str, Any]], whole_key: bool) -> list[Variant]:
    if isinstance(axis, dict):
        return [(name, tuple(_override(k, v) for k, v in changes.items())) for name, changes in axis.items()]
    shown = key if whole_key else key.rpartition(".")[2]
    labels = [value if isinstance(value, str | int | float) else index for index, value in enumerate(axis)]
    return [(f"{shown}-{label}", (_override(key, value),)) for label, value in zip(labels, axis, strict=True)]


def _override(key: str, value: Any) -> str:
    return f"{key}={json.dumps(value)}"


def _cell(name: str, chosen: Sequence[Variant]) -> Cell:
    label = re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join([name, *(part for part, _ in chosen)]))
    changes = [override for _, overrides in chosen for override in overrides]
    return Cell(label, (*changes, f"name={label}", "matrix={}"))
