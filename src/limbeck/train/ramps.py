"""How the weight of a loss moves over a training: a pure function of the step, so that it can be taken up anywhere."""

from limbeck.recipe import Ramp

__all__ = ["factor"]


def factor(ramp: Ramp, share: float, steps: int | None = None) -> float:
    """What a weight is multiplied with after this share of the training, between 0 and 1.

    Args:
        ramp: How it moves.
        share: Share of the training, (step + 1/2) / steps.
        steps: Steps of the whole training, which a ramp counted in steps needs.

    Raises:
        ValueError: If the ramp counts steps and nobody said how many there are.
    """
    if ramp.unit == "steps":
        if steps is None:
            raise ValueError("a schedule in steps needs the number of steps")
        share *= steps
    if share < ramp.start or (ramp.stop is not None and share >= ramp.stop):
        return 0.0
    rising = min(1.0, (share - ramp.start) / ramp.warmup) if ramp.warmup else 1.0
    if ramp.decay is None:
        return rising
    start, end = ramp.decay
    falling = (end - share) / (end - start) if end > start else float(share < start)
    return rising * min(1.0, max(0.0, falling))
