"""How far two networks say the same."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["agreement", "agreeing"]


def agreement(a: NDArray[np.integer], b: NDArray[np.integer], valid: NDArray[np.bool_] | None = None) -> float:
    """Points, 0-100, of pixels that have the same class id in both masks.

    Args:
        valid: Pixels to look at; all if None.

    Returns:
        NaN if there is no pixel to look at.

    Raises:
        ValueError: If shapes differ.
    """
    same, looked_at = agreeing(a, b, valid)
    return 100 * same / looked_at if looked_at else float("nan")


def agreeing(a: NDArray[np.integer], b: NDArray[np.integer], valid: NDArray[np.bool_] | None = None) -> tuple[int, int]:
    """Number of pixels with the same class id, and of all that were looked at: what sums over many images are made of.

    Raises:
        ValueError: If shapes differ.
    """
    if a.shape != b.shape or (valid is not None and valid.shape != a.shape):
        raise ValueError(f"masks {list(a.shape)} and {list(b.shape)}, or their valid pixels, differ in shape")
    same = a == b if valid is None else (a == b)[valid]
    return int(np.count_nonzero(same)), same.size
