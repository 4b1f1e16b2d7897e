"""What torchao's quantization-aware training needs corrected around it, and the proof that nothing is left."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx import GraphModule, Node

from limbeck.graph.fold import foldable
from limbeck.graph.modes import EPS, RUNNING_VAR, scale_factor_sums
from limbeck.graph.patterns import BATCH_NORM, CONV, CONV_TRANSPOSE, LINEAR, attribute, calls, module_path
from limbeck.graph.ranges import Range
from limbeck.record import UserError

__all__ = ["absorb_eps", "biases_on_grid", "clamp_zero_gamma", "image_like", "same_as_eager"]

LAYERS = CONV | CONV_TRANSPOSE | LINEAR

TORCHAO_EPS = 1e-5
"""The eps torchao folds every batch norm with, whatever the batch norm says."""


def absorb_eps(graph: GraphModule) -> None:
    """Move what a batch norm's eps has beyond 1e-5 into its running variance, so that torchao's folding is exact.

    Raises:
        UserError: If a variance is too small to take up a smaller eps.
    """
    done: set[str] = set()
    for node in calls(graph.graph, BATCH_NORM):
        variance, eps = node.args[RUNNING_VAR], float(node.args[EPS])  # type: ignore[arg-type]
        assert isinstance(variance, Node)
        values = attribute(graph, variance)
        assert values is not None
        if str(variance.target) not in done:
            done.add(str(variance.target))
            values.data.add_(eps - TORCHAO_EPS)
            if bool((values <= -TORCHAO_EPS).any()):
                raise UserError(
                    f"quantize: eps {eps:g} of {module_path(node)!r} is too small for batch_norm: live; use fold."
                )
        node.update_arg(EPS, TORCHAO_EPS)
        for total in scale_factor_sums(graph, node):
            total.update_arg(1, TORCHAO_EPS)
    graph.recompile()


@torch.no_grad()
def clamp_zero_gamma(graph: GraphModule, smallest: float = 1e-6) -> int:
    """Keep gammas of batch norms behind convolutions away from zero: a live batch norm is divided out by its gamma.

    Returns:
        The number of values that were moved; their channels change by at most ``smallest`` standard deviations.
    """
    moved = 0
    for node in calls(graph.graph, BATCH_NORM):
        gamma = attribute(graph, node.args[1] if isinstance(node.args[1], Node) else None)
        if foldable(node) is None or gamma is None:
            continue
        small = gamma.abs() < smallest
        gamma.data = torch.where(small, torch.where(gamma < 0, -smallest, smallest), gamma)
        moved += int(small.sum())
    return moved


def image_like(shape: Sequence[int]) -> Tensor:
    """Noise [n, 3, h, w] as smooth as normalised images are, always the same.

    White noise is no image to a trained network: behind its batch norms values grow to a thousand times what it knows,
    and rounding errors with them.
    """
    n, c, h, w = shape
    draw = torch.Generator().manual_seed(0)
    smooth = F.interpolate(
        torch.randn(n, c, -(-h // 16), -(-w // 16), generator=draw), (h, w), mode="bilinear", align_corners=False
    )
    return smooth + 0.1 * torch.randn(n, c, h, w, generator=draw)


@torch.no_grad()
def same_as_eager(
    graph: Callable[[Tensor], Tensor], eager: Callable[[Tensor], Tensor], example: Tensor, tolerance: float = 1e-4
) -> None:
    """Check that a graph with its fake quantization off computes what the eager model computes in evaluation.

    Raises:
        UserError: If the differences, as a root mean square, exceed ``tolerance`` of that of the values: single pixels
            may differ by more, where a network's own gates make much of a rounding error.
    """
    found, expected = graph(example), eager(example)
    share = float((found - expected).norm() / expected.norm().clamp(min=1e-12))
    if not share <= tolerance:
        raise UserError(
            f"quantize: the prepared graph differs from the float model by {share:.2g} of its values "
            f"(allowed: {tolerance:g}), so quantizing it would start from another network. Exclude the layers that "
            "differ, or use batch_norm: fold."
        )


@torch.no_grad()
def biases_on_grid(graph: GraphModule) -> int:
    """Round the bias of every integer layer to the grid its runtime adds it on: input scale times weight scale.

    Runtimes store biases as int32 on this grid. Left as they are, the first layers differ from PyTorch's in a few
    values in ten thousand, and every later layer multiplies these; on the grid both add the same numbers. Needs ranges
    that will not move any more.

    Returns:
        The number of biases that were rounded.
    """
    parts = dict(graph.named_modules())
    rounded = 0
    for node in calls(graph.graph, LAYERS):
        found = [parts.get(str(a.target)) if isinstance(a, Node) else None for a in node.args[:2]]
        source, weight = found
        bias = attribute(graph, node.args[2] if len(node.args) > 2 and isinstance(node.args[2], Node) else None)
        if bias is None or not isinstance(source, Range) or not isinstance(weight, Range):
            continue
        step = source.scale * weight.scale
        bias.data = torch.round(bias / step) * step
        rounded += 1
    return rounded
