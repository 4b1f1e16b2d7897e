"""Training and evaluation of an exported graph: flags on nodes, and nothing else changes."""

from dataclasses import dataclass
from typing import Any

from torch.fx import GraphModule, Node

from limbeck.graph.patterns import ADD, BATCH_NORM, DROPOUT, calls

__all__ = ["BatchNorm", "record_batch_norm", "restore_batch_norm", "scale_factor_sums", "set_mode"]

# Positions in aten.batch_norm(input, weight, bias, running_mean, running_var, training, momentum, eps, cudnn_enabled)
# and aten.dropout(input, p, train).
_RUNNING_MEAN, RUNNING_VAR, _MOMENTUM, EPS = 3, 4, 6, 7
TRAINING_FLAG: dict[Any, int] = dict.fromkeys(BATCH_NORM, 5) | dict.fromkeys(DROPOUT, 2)
"""Position of the argument that says whether a node trains."""


@dataclass(frozen=True)
class BatchNorm:
    """The two literals of a batch norm that a rewrite may lose."""

    momentum: float
    eps: float


def set_mode(graph: GraphModule, train: bool, *, frozen_batch_norm: bool = False) -> None:
    """Switch batch norm, dropout and the observers of an exported graph; eps, momentum and p stay as they are.

    Exported graphs refuse ``.train()`` and ``.eval()``; this takes their place. In evaluation the ranges of a graph
    that already fake-quantizes stand still, so that validation images never leak into them.

    Args:
        graph: Changed in place.
        train: True for training.
        frozen_batch_norm: Keep batch norm in evaluation while the rest trains.
    """
    before = [node.args for node in graph.graph.nodes]
    for node in calls(graph.graph, BATCH_NORM):
        node.update_arg(TRAINING_FLAG[node.target], train and not frozen_batch_norm)
    for node in calls(graph.graph, DROPOUT):
        node.update_arg(TRAINING_FLAG[node.target], train)
    if before != [node.args for node in graph.graph.nodes]:
        graph.recompile()
    for module in graph.children():
        for part in module.modules():
            part.training = train


def record_batch_norm(graph: GraphModule) -> dict[str, BatchNorm]:
    """Momentum and eps of every batch norm, by the name of its running mean."""
    return {
        _mean_name(n): BatchNorm(float(n.args[_MOMENTUM]), float(n.args[EPS]))  # type: ignore[arg-type]
        for n in calls(graph.graph, BATCH_NORM)
    }


def restore_batch_norm(graph: GraphModule, recorded: dict[str, BatchNorm]) -> None:
    """Put recorded literals back: torchao's preparation writes eps 1e-5 and momentum 0.1 into what it rewrites."""
    for node in calls(graph.graph, BATCH_NORM):
        right = recorded[_mean_name(node)]
        node.update_arg(_MOMENTUM, right.momentum)
        node.update_arg(EPS, right.eps)
        for total in scale_factor_sums(graph, node):
            total.update_arg(1, right.eps)
    graph.recompile()


def scale_factor_sums(graph: GraphModule, batch_norm: Node) -> list[Node]:
    """The ``running_var + eps`` nodes by which a rewritten convolution scales its weight."""
    variance = batch_norm.args[RUNNING_VAR]
    assert isinstance(variance, Node)
    return [
        node
        for node in calls(graph.graph, ADD)
        if getattr(node.args[0], "target", None) == variance.target and isinstance(node.args[1], float)
    ]


def _mean_name(batch_norm: Node) -> str:
    mean = batch_norm.args[_RUNNING_MEAN]
    assert isinstance(mean, Node)
    return str(mean.target)
