"""The loop. Plain, distilled and quantization-aware training differ by the objective, never here."""

import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from limbeck.data.views import Batch
from limbeck.recipe import Train
from limbeck.record import UserError
from limbeck.train.objective import Objective
from limbeck.train.optim import set_lr
from limbeck.train.probe import Probe, Pull

__all__ = ["Tick", "fit"]

TIMED_EVERY = 10
"""On a GPU one step in so many waits for the device between its parts, to see where the time goes."""


@dataclass
class Tick:
    """One step that was taken.

    Attributes:
        step: Steps taken so far.
        loss: Mean over the step's batches, on this process.
        parts: Its parts, weighted.
        lr: Learning rate of the step.
        images: Images of the step on this process.
        took: Seconds it took.
        seconds: Where they went: data, teacher, loss, student (forward, backward and update); empty where not timed.
        pulls: Gradients of the parts, where the step's were compared.
    """

    step: int
    loss: Tensor
    parts: dict[str, Tensor]
    lr: float
    images: int = 0
    took: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)
    pulls: dict[str, Pull] = field(default_factory=dict)


def fit(
    objective: Objective,
    loader: Iterable[Batch],
    optimizer: Optimizer,
    settings: Train,
    accelerator: Accelerator,
    *,
    first: int,
    steps: int,
    probe: Probe | None = None,
) -> Iterator[Tick]:
    """Take the steps ``first`` to ``steps``, yielding after each; between two the caller may do what it likes.

    ``loader`` yields ``settings.accumulate`` batches a step, starting at step ``first``. The learning rate, the weights
    of the terms and the modes are functions of the step, so a training can be taken up anywhere. ``probe`` looks at
    the gradients of the terms where they are due.

    Raises:
        UserError: If the loss is not finite, or a term gives no gradient.
    """
    wrapped = accelerator.prepare_model(objective)
    batches = iter(loader)
    objective.steps = steps
    for step in range(first, steps):
        share = (step + 0.5) / steps
        lr = set_lr(optimizer, settings.schedule, share)
        objective.mode(True, share)
        objective.timed = accelerator.device.type == "cpu" or step % TIMED_EVERY == 0
        yield _step(step, wrapped, objective, batches, optimizer, settings, accelerator, share, lr, probe)


def _step(
    step: int,
    wrapped: nn.Module,
    objective: Objective,
    batches: Iterator[Batch],
    optimizer: Optimizer,
    settings: Train,
    accelerator: Accelerator,
    share: float,
    lr: float,
    probe: Probe | None,
) -> Tick:
    tick = Tick(step + 1, torch.zeros((), device=accelerator.device), {}, lr)
    start, waited = time.perf_counter(), 0.0
    objective.seconds = {"teacher": 0.0, "loss": 0.0}
    for turn in range(settings.accumulate):
        asked = time.perf_counter()
        batch = _placed(next(batches), accelerator.device, settings.channels_last)
        waited += time.perf_counter() - asked
        with _gradients_shared(accelerator, wrapped, turn == settings.accumulate - 1):
            found = wrapped(batch, share)
            if probe is not None and turn == 0 and probe.due(step):
                asked = time.perf_counter()
                tick.pulls = probe.look(step, found, batch, accelerator.scaler and accelerator.scaler.get_scale())
                start += time.perf_counter() - asked
            accelerator.backward(found.loss / settings.accumulate)
        tick.loss = tick.loss + found.loss.detach() / settings.accumulate
        tick.images += len(batch["image"])
        for name, part in found.parts.items():
            tick.parts[name] = tick.parts.get(name, 0.0) + part / settings.accumulate
    if settings.clip:
        accelerator.clip_grad_norm_(objective.parameters(), settings.clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    if not torch.isfinite(tick.loss):
        raise UserError(
            f"the loss is {float(tick.loss)} at step {step + 1} ({_shown(tick.parts)}): "
            "lower train.optimizer.lr, or set train.clip to 1.0."
        )
    tick.took = time.perf_counter() - start
    if objective.timed:
        spent = {"data": waited, **objective.seconds}
        tick.seconds = spent | {"student": tick.took - sum(spent.values())}
    return tick


def _placed(batch: Batch, device: torch.device, channels_last: bool) -> Batch:
    found = {key: value.to(device, non_blocking=True) for key, value in batch.items()}
    if channels_last:
        found["image"] = found["image"].contiguous(memory_format=torch.channels_last)
    return found


def _gradients_shared(accelerator: Accelerator, wrapped: nn.Module, last: bool) -> AbstractContextManager[Any]:
    """Gradients are averaged over the processes on a step's last batch only."""
    return nullcontext() if last else accelerator.no_sync(wrapped)


def _shown(parts: dict[str, Tensor]) -> str:
    return ", ".join(f"{name} {float(part):.4g}" for name, part in parts.items())
