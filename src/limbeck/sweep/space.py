"""What a search may try: the recipe's ``search.space`` as Optuna's distributions, and a trial as a run."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from limbeck.recipe import Range, Recipe, Search
from limbeck.record import UserError
from limbeck.sweep.grid import Cell, named, override, values_of

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

__all__ = ["cell", "corners", "distributions", "searched"]


def searched(recipe: Recipe) -> Search:
    """The recipe's section.

    Raises:
        UserError: If it has none, or asks for speed that is not measured.
    """
    if recipe.search is None:
        raise UserError(
            f"{recipe.place}: has no search section, such as search: {{space: {{train.optimizer.lr: "
            "{low: 1e-4, high: 1e-2, log: true}}}."
        )
    if recipe.search.latency and recipe.bench is None:
        raise UserError(f"{recipe.place / 'search' / 'latency'}: bench is null, so nothing would measure it.")
    return recipe.search


def distributions(recipe: Recipe) -> dict[str, "BaseDistribution"]:
    """Optuna's distribution of every key; choices by their names, as runs of a sweep are called."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    found: dict[str, BaseDistribution] = {}
    for key, axis in searched(recipe).space.items():
        if not isinstance(axis, Range):
            found[key] = CategoricalDistribution(list(_choices(recipe, key, axis)))
        elif isinstance(axis.low, int) and isinstance(axis.high, int) and isinstance(axis.step, int | None):
            found[key] = IntDistribution(axis.low, axis.high, axis.log, axis.step or 1)
        else:
            found[key] = FloatDistribution(axis.low, axis.high, axis.log, axis.step)
    return found


def cell(recipe: Recipe, number: int, drawn: Mapping[str, Any]) -> Cell:
    """The run of a trial."""
    changes: list[str] = []
    for key, value in drawn.items():
        axis = searched(recipe).space[key]
        changes += [override(key, value)] if isinstance(axis, Range) else _choices(recipe, key, axis)[value]
    return named(f"{recipe.name}-trial-{number:03d}", changes, drawn)


def corners(recipe: Recipe) -> list[Cell]:
    """Runs with the lowest and the highest value of every range, and each choice once: what must be sound."""
    space = searched(recipe).space
    ends = {
        key: [axis.low, axis.high] if isinstance(axis, Range) else list(_choices(recipe, key, axis))
        for key, axis in space.items()
    }
    most = max(len(values) for values in ends.values())
    return [
        cell(recipe, n, {key: values[min(n, len(values) - 1)] for key, values in ends.items()}) for n in range(most)
    ]


def _choices(recipe: Recipe, key: str, axis: list[Any]) -> dict[str | int | float, tuple[str, ...]]:
    """Overrides of every choice by its name."""
    found = {value.label: value.overrides for value in values_of(recipe, key, axis)}
    if len(found) < len(axis):
        raise UserError(f"{recipe.place / 'search' / 'space' / key}: two choices are called the same.")
    return found
