"""Tasks: what a target is, how a network answers, and which scores count.

Targets of a dense task are maps [h, w], its logits [n, c, h', w']; else a target is one class and logits are [n, c].
"""

from typing import Protocol

__all__ = ["Task"]


class Task(Protocol):
    """What every task says."""

    name: str
    """What exported files call it."""
    metric: str
    """Score in points, higher is better, that best weights, early stopping and ``min_metric`` look at."""
    scores: tuple[str, ...]
    """Scores that every validation logs; ``metric`` is one of them."""
    dense: bool
    """Whether every pixel has a class, or the image one."""
