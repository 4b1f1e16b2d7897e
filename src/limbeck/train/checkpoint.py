"""The whole state of a training, so that it goes on exactly where it stopped."""

import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from limbeck.record import UserError, whole

__all__ = ["latest", "load", "prune", "rng_state", "save", "set_rng_state"]

State = dict[str, Any]


def save(folder: Path, step: int, state: State, keep: int) -> None:
    """Write ``step-<n>.pt`` whole, then remove all but the newest ``keep``."""
    with whole(folder / f"step-{step:08d}.pt") as part:
        try:
            torch.save(state, part)
        except RuntimeError as error:  # what torch makes of a full disk
            raise OSError(f"{error}; is the disk full?") from error
    prune(folder, keep)


def prune(folder: Path, keep: int) -> None:
    """Remove all but the newest ``keep`` checkpoints and what a killed process left half-written."""
    for old in sorted(folder.glob("step-*.pt"))[: -keep if keep else None]:
        old.unlink()
    for part in folder.glob(".*.part*"):
        part.unlink()


def latest(folder: Path) -> Path | None:
    """The newest checkpoint, or None."""
    return max(folder.glob("step-*.pt"), default=None)


def load(path: Path) -> State:
    """Read a checkpoint; nothing in it is executed.

    Raises:
        UserError: If the file is damaged.
    """
    try:
        state: State = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, ValueError, LookupError, pickle.UnpicklingError) as error:
        raise UserError(
            f"{path}: this checkpoint is damaged ({error}); remove it to go on from the one before."
        ) from error
    return state


def rng_state() -> State:
    """State of every random stream that training may draw from."""
    state: State = {"torch": torch.get_rng_state(), "python": _listed(random.getstate())}
    name, keys, *rest = np.random.get_state(legacy=True)
    state["numpy"] = [str(name), torch.from_numpy(np.asarray(keys).astype(np.int64)), *[float(value) for value in rest]]
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_rng_state(state: State) -> None:
    """Put every random stream where :func:`rng_state` found it."""
    torch.set_rng_state(state["torch"])
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), int(position), int(has_gauss), cached))
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


def _listed(state: tuple[Any, ...]) -> list[Any]:
    return [list(part) if isinstance(part, tuple) else part for part in state]
