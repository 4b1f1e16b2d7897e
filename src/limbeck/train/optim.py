"""Optimizers, parameter groups, the learning rate and the moving average of the weights."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from limbeck.data.weights import encoder_parts, in_parts
from limbeck.recipe import Optimizer as Settings
from limbeck.recipe import Schedule

__all__ = ["Ema", "early_decay", "lr_factor", "make_optimizer", "set_lr"]


def make_optimizer(objective: nn.Module, settings: Settings) -> Optimizer:
    """The optimizer over everything in the objective: norms and biases without decay, the head at its own rate.

    Raises:
        UserError: If the head has a rate of its own and the student does not say what its encoder is.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    body = encoder_parts(objective.get_submodule("student")) if settings.head_factor != 1 else ()
    for name, parameter in objective.named_parameters():
        if parameter.requires_grad:
            head = not in_parts(name.removeprefix("student."), body)
            groups.setdefault((head, parameter.ndim > 1), []).append(parameter)
    listed = [
        {
            "params": parameters,
            "lr": settings.lr * (settings.head_factor if head else 1.0),
            "weight_decay": settings.weight_decay if decays else 0.0,
        }
        for (head, decays), parameters in groups.items()
    ]
    if settings.name == "sgd":
        return SGD(listed, lr=settings.lr, momentum=settings.momentum)
    return (AdamW if settings.name == "adamw" else Adam)(listed, lr=settings.lr)


def lr_factor(schedule: Schedule, share: float) -> float:
    """What the learning rate is multiplied with after this share of the training, 0 to 1."""
    if share < schedule.warmup:
        return share / schedule.warmup
    left = 1 - (share - schedule.warmup) / max(1e-12, 1 - schedule.warmup)
    poly, cosine = max(0.0, left) ** schedule.power, (1 - math.cos(math.pi * left)) / 2
    falling = {"poly": float(poly), "cosine": cosine, "constant": 1.0}[schedule.name]
    return schedule.final + (1 - schedule.final) * falling


def set_lr(optimizer: Optimizer, schedule: Schedule, share: float) -> float:
    """Set every group's rate for this share of the training; returns the first group's."""
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])
        group["lr"] = group["initial_lr"] * lr_factor(schedule, share)
    return float(optimizer.param_groups[0]["lr"])


def early_decay(decay: float, updates: int) -> float:
    """The share of a moving average that stays: smaller early on, so that the start is forgotten."""
    return min(decay, (1 + updates) / (10 + updates))


class Ema:
    """Moving average of a network's parameters; buffers are the network's own: observer ranges are never averaged."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.average = {name: p.detach().clone() for name, p in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move towards the network."""
        self.updates += 1
        decay = early_decay(self.decay, self.updates)
        for name, parameter in model.named_parameters():
            self.average[name].lerp_(parameter.detach(), 1 - decay)

    @contextmanager
    def swapped(self, model: nn.Module) -> Iterator[None]:
        """Put the average in the network for the time of the block."""
        self._swap(model)
        try:
            yield
        finally:
            self._swap(model)

    @torch.no_grad()
    def _swap(self, model: nn.Module) -> None:
        for name, parameter in model.named_parameters():
            kept = parameter.detach().clone()
            parameter.copy_(self.average[name])
            self.average[name].copy_(kept)

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs."""
        return {"updates": self.updates, "average": self.average}

    def load(self, state: dict[str, Any]) -> None:
        """Take up where :meth:`state` was."""
        self.updates = int(state["updates"])
        for name, value in state["average"].items():
            self.average[name].copy_(value)
