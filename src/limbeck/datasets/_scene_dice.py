"""Random choices of a scene: quick, and the same on every machine."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

__all__ = ["Colour", "Dice", "generator"]

Colour = tuple[float, float, float]
T = TypeVar("T")


def generator(*entropy: int) -> np.random.Generator:
    """A generator that depends on the numbers given and on nothing else."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))


class Dice:
    """Draws one uniform number after the other; all other choices are made of these."""

    BLOCK = 2048

    def __init__(self, *entropy: int) -> None:
        self._generator = generator(*entropy)
        self._left: list[float] = []

    def roll(self) -> float:
        """A number in [0, 1)."""
        if not self._left:
            self._left = self._generator.random(self.BLOCK).tolist()
        return self._left.pop()

    def between(self, low: float, high: float) -> float:
        """A number in [low, high)."""
        return low + (high - low) * self.roll()

    def whole(self, low: int, high: int) -> int:
        """A whole number from ``low`` to ``high``, both included."""
        return low + int((high - low + 1) * self.roll())

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self.roll() < probability

    def pick(self, options: Sequence[T]) -> T:
        """One of the options, all equally likely."""
        return options[int(len(options) * self.roll())]

    def tint(self, colour: Colour, spread: float = 0.15) -> Colour:
        """A colour near ``colour``: brighter or darker by up to ``spread``, each channel by a third of that."""
        level = self.between(1 - spread, 1 + spread)
        low, high = level * (1 - spread / 3), level * (1 + spread / 3)
        red, green, blue = colour
        return red * self.between(low, high), green * self.between(low, high), blue * self.between(low, high)
