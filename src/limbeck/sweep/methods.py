"""The methods of a sweep: runs that differ by their seed alone, each with the control that it is compared with."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from limbeck.record import digest
from limbeck.sweep.results import BASELINE, STUDENT, Network, Run, Sweep

__all__ = ["EQUAL_TIME", "SAME_TIME", "Method", "control_of", "longer_control_of", "methods", "steps_for_equal_time"]

EQUAL_TIME = "equal time"
"""The axis of controls that train for as long as a method does."""

SAME_TIME = 0.05
"""Share by which times may differ and still count as equal."""

NOT_IN_CONTROL = ("name", "seed", "matrix", "distil", "teacher", "baseline", "search")
"""Keys in which a run and its control may differ."""


@dataclass(frozen=True)
class Method:
    """Runs that differ by their seed alone.

    Attributes:
        label: What it is called.
        axes: Its place on every axis but the seed's.
        role: Of its networks in their runs.
        runs: All of them, in order.
        plain: Whether it learns from labels alone.
        key: Hash of the recipe without name, seed and distillation: equal for a method and its control.
        timed_key: The same without the length of the training.
    """

    label: str
    axes: Mapping[str, Any]
    role: str
    runs: tuple[Run, ...]
    plain: bool
    key: str
    timed_key: str

    @property
    def networks(self) -> dict[Any, Network]:
        """Those that are done, by seed."""
        return {run.seed: run.networks[self.role] for run in self.runs if self.role in run.networks}

    @property
    def missing(self) -> list[Run]:
        """Runs that have no score."""
        return [run for run in self.runs if self.role not in run.networks]

    @property
    def longer(self) -> bool:
        """Whether it is a control that trains for as long as another method does."""
        return EQUAL_TIME in self.axes


def methods(sweep: Sweep) -> list[Method]:
    """The methods in the order of their first runs; a baseline that runs trained themselves comes first.

    The baseline is left out where the sweep has runs without distillation for the same recipes.
    """
    groups: dict[str, list[Run]] = {}
    for run in sweep.runs:
        groups.setdefault(digest(_axes(run)), []).append(run)
    found = [_method(sweep, runs) for runs in groups.values()]
    plain = {method.key for method in found if method.plain}
    bases: dict[str, list[Run]] = {}
    for method in found:
        if method.key not in plain:
            bases.setdefault(method.key, []).extend(run for run in method.runs if BASELINE in run.networks)
    return [*(_baseline(key, runs, len(bases) > 1) for key, runs in bases.items() if runs), *found]


def _axes(run: Run) -> dict[str, Any]:
    return {key: value for key, value in run.axes.items() if key != "seed"}


def _method(sweep: Sweep, runs: list[Run]) -> Method:
    first = next((run for run in runs if run.report), runs[0])
    plain = bool(first.recipe) and not _terms(first.recipe)
    axes = _axes(first)
    label = ", ".join(_named(key, value) for key, value in axes.items()) or sweep.name
    return Method(label, axes, STUDENT, tuple(runs), plain, _key(first), _key(first, timed=True))


def _baseline(key: str, runs: list[Run], several: bool) -> Method:
    """The baselines of runs that share one, a run for each seed."""
    by_seed = {run.seed: run for run in reversed(runs)}
    label = "no distillation" + (f" ({runs[0].name})" if several else "")
    ordered = tuple(run for run in runs if by_seed[run.seed] is run)
    return Method(label, {}, BASELINE, ordered, True, key, _key(runs[0], timed=True))


def _named(key: str, value: Any) -> str:
    """A word stands alone; a number says what it is of."""
    is_word = isinstance(value, str) and value not in ("true", "false")
    return value if is_word else f"{key.rpartition('.')[2]} {value}"


def _terms(recipe: Mapping[str, Any]) -> bool:
    distil = recipe.get("distil") or {}
    return bool(distil.get("terms") if isinstance(distil, dict) else distil)


def _key(run: Run, timed: bool = False) -> str:
    kept = {name: value for name, value in run.recipe.items() if name not in NOT_IN_CONTROL}
    if timed:
        train = kept.get("train") or {}
        kept["train"] = {name: value for name, value in train.items() if name not in ("epochs", "steps")}
    return digest(kept)


def control_of(method: Method, found: list[Method]) -> Method | None:
    """The method without distillation that is otherwise equal; None for controls, and where there is none."""
    if method.plain:
        return None
    return next((other for other in found if other.plain and not other.longer and other.key == method.key), None)


def steps_for_equal_time(method: Method, control: Method) -> int | None:
    """Steps that the control takes in the time of the method's training, by the mean of both; None if unknown."""
    ours = [network.seconds for network in method.networks.values() if network.seconds]
    theirs = [network.step_ms for network in control.networks.values() if network.step_ms]
    if not ours or not theirs:
        return None
    return max(1, round(1000 * (sum(ours) / len(ours)) / (sum(theirs) / len(theirs))))


def longer_control_of(method: Method, control: Method, found: list[Method]) -> Method | None:
    """The control that trained for as long as the method, its own where that took as long; None if there is none."""
    wanted = steps_for_equal_time(method, control)
    candidates = [control, *(other for other in found if other.longer and other.timed_key == control.timed_key)]
    known = [(other, steps) for other in candidates if (steps := _steps(other)) is not None]
    if wanted is None or not known:
        return None
    best, steps = min(known, key=lambda pair: abs(pair[1] - wanted))
    return best if abs(steps / wanted - 1) <= SAME_TIME + 1e-9 else None


def _steps(method: Method) -> int | None:
    return next((network.steps for network in method.networks.values() if network.steps), None)
