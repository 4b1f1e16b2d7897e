"""What the values of a sweep are called: numbers and words as they are, lists of parts by their kinds."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

__all__ = ["NOTHING", "labels"]

NOTHING = "none"
"""An empty list, or null."""


def labels(values: Sequence[Any]) -> list[Any]:
    """A name for each value of an axis; lists of terms are called by their kinds, such as ``kd+cwd``.

    Equal kinds are told apart by the arguments that differ, such as ``kd-temperature-4``; what has no kind, by its
    number.
    """
    named = [_label(value) for value in values]
    found = []
    for index, (name, value) in enumerate(zip(named, values, strict=True)):
        alike = [values[other] for other, label in enumerate(named) if label == name]
        found.append(index if name is None else _apart(name, value, alike) if len(alike) > 1 else name)
    twice = {name for name, count in Counter(map(str, found)).items() if count > 1}
    return [index if str(name) in twice and not _plain(values[index]) else name for index, name in enumerate(found)]


def _plain(value: Any) -> bool:
    return isinstance(value, str | int | float)


def _label(value: Any) -> Any:
    if isinstance(value, bool):
        return json.dumps(value)
    if _plain(value):
        return value
    if value is None or value == []:
        return NOTHING
    if isinstance(value, dict):
        return value.get("kind") or (_label(value["terms"]) if "terms" in value else None)
    if all(isinstance(item, int | float) for item in value):
        return "x".join(map(str, value))
    kinds = [item.get("kind") for item in value if isinstance(item, dict)]
    return "+".join(map(str, kinds)) if len(kinds) == len(value) and all(kinds) else None


def _apart(name: Any, value: Any, alike: Sequence[Any]) -> Any:
    """The name with every argument that not all values of this name share."""
    own, others = _arguments(value), [_arguments(other) for other in alike]
    differing = {key for other in others for key in {**own, **other} if own.get(key) != other.get(key)}
    return "-".join([str(name), *(f"{key}-{own[key]}" for key in own if key in differing)]) if differing else name


def _arguments(value: Any, key: str = "") -> dict[str, Any]:
    """Scalar arguments inside a value by their last word, or the whole way where two words are equal."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        found: dict[str, Any] = {}
        for inner, item in items:
            for name, scalar in _arguments(item, str(inner)).items():
                found[f"{inner}.{name}" if name in found else name] = scalar
        return found
    return {key: value}
