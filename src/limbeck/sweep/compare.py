"""One method against another: at equal steps, and in equal time."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.report.rows import number
from limbeck.sweep import statistics
from limbeck.sweep.methods import Method
from limbeck.sweep.results import Network

__all__ = ["Comparison", "Drawn", "compare", "in_equal_time"]

Comparison = dict[str, Any]


class Drawn:
    """Scores of every network on the same draws of images, each made once."""

    def __init__(self, draws: int = statistics.DRAWS, block: int = 1) -> None:
        self._draws, self._block = draws, block
        self._kept: dict[tuple[str, str], NDArray[np.float64] | None] = {}

    def of(self, network: Network) -> NDArray[np.float64] | None:
        """Its scores; None where its images were not counted one by one."""
        key = network.run, str(network.row.get("model"))
        if key not in self._kept:
            counts = network.counts
            known = counts is not None and counts.sum() > 0
            drawn = statistics.draw(counts, self._draws, block=self._block) if counts is not None and known else None
            self._kept[key] = drawn
        return self._kept[key]


def compare(method: Method, other: Method, drawn: Drawn) -> Comparison | None:
    """The gain of a method over another, paired by seed; None where they share no seed that is done.

    Returns:
        ``against``, the other's label; ``value``, ``by_seed`` and ``seeds``; ``images`` and ``whole``, intervals as
        [low, high] or None; ``verdict`` in words and ``resolved``, as :class:`limbeck.sweep.statistics.Gain` has them.
    """
    seeds = [seed for seed in method.networks if seed in other.networks]
    if not seeds:
        return None
    pairs = [(method.networks[seed], other.networks[seed]) for seed in seeds]
    by_seed = [one.score - two.score for one, two in pairs]
    same = all(one.images == two.images == pairs[0][0].images for one, two in pairs)
    drawings = [(drawn.of(one), drawn.of(two)) for one, two in pairs] if same else []
    known = [(one, two) for one, two in drawings if one is not None and two is not None]
    whole = known if len(known) == len(pairs) else []
    found = statistics.gain(by_seed, [one for one, _ in whole], [two for _, two in whole])
    return {
        "against": other.label, "value": found.value, "by_seed": by_seed, "seeds": seeds,
        "images": found.images, "whole": found.whole, "verdict": found.verdict, "resolved": found.resolved,
    }  # fmt: skip


def in_equal_time(method: Method, control: Method, score: str) -> Comparison | None:
    """How far a method's best validation was ahead of the control's at the moment when the control's training ended.

    A method whose steps take longer was in the middle of its schedule then, with a learning rate that had not come
    down: this understates it. Controls that train for the method's time do not; ``limbeck sweep --equal-time``.

    Returns:
        ``against``, ``value`` in points of validation, ``by_seed`` and ``seeds``; None where no seed has both curves.
    """
    found: dict[Any, float] = {}
    for seed, network in method.networks.items():
        other = control.networks.get(seed)
        if other is None or other.seconds is None:
            continue
        ours, theirs = best_until(network, score, other.seconds), best_until(other, score, other.seconds)
        if ours is not None and theirs is not None:
            found[seed] = ours - theirs
    if not found:
        return None
    values = list(found.values())
    return {"against": control.label, "value": float(np.mean(values)), "by_seed": values, "seeds": list(found)}


def best_until(network: Network, score: str, seconds: float) -> float | None:
    """Its best validation score after that much training; None before the first."""
    points = [value for at, value in curve(network, score) if at <= 1.001 * seconds]
    return max(points, default=None)


def curve(network: Network, score: str) -> Sequence[tuple[float, float]]:
    """Seconds of training and score of each validation; by the share of the steps where seconds were not kept."""
    pace = network.seconds / network.steps if network.seconds and network.steps else None
    found = []
    for line in network.checks:
        value, spent, step = number(line, score), number(line, "seconds"), number(line, "step")
        spent = step * pace if spent is None and step is not None and pace is not None else spent
        if value is not None and spent is not None:
            found.append((spent, value))
    return found
