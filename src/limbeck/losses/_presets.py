"""Settings that papers and toolkits use, brought to the scale of our losses."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any, Literal

__all__ = ["Preset"]


@dataclass(frozen=True)
class Preset:
    """What ``compat: name`` means for a loss; keys that a recipe's row gives itself win.

    Attributes:
        weight: Weight of the term, for ours, which is a mean and has tau^2 where there is a temperature.
        settings: Arguments of the loss.
        sums: What the source adds up where ours averages, so that its weight grows with it: the ``positions`` of the
            grid where both sides are compared, or the ``values``, positions times channels.
    """

    weight: float = 1.0
    settings: Mapping[str, Any] = field(default_factory=dict)
    sums: Literal["positions", "values"] | None = None

    def weight_on(self, shape: tuple[int, ...]) -> float:
        """The weight where tensors of this shape, [n, c, ...], are compared."""
        return self.weight * {None: 1, "positions": prod(shape[2:]), "values": prod(shape[1:])}[self.sums]

    def __str__(self) -> str:
        """Its keys as a recipe would give them."""
        given = {**self.settings, "weight": f"{self.weight:g}" + (f" times {self.sums}" if self.sums else "")}
        return ", ".join(f"{key}: {_shown(value)}" for key, value in given.items())


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
