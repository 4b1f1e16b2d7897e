"""From an eager module to the graph everything else works on."""

import copy

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from limbeck.graph.patterns import is_call, module_path
from limbeck.record import UserError

__all__ = ["capture", "functional", "refuse_random"]

aten = torch.ops.aten
_IN_PLACE = {
    aten.relu_.default: aten.relu.default, aten.relu6_.default: aten.relu6.default,
    aten.hardtanh_.default: aten.hardtanh.default, aten.hardswish_.default: aten.hardswish.default,
    aten.hardsigmoid_.default: aten.hardsigmoid.default, aten.silu_.default: aten.silu.default,
    aten.leaky_relu_.default: aten.leaky_relu.default, aten.elu_.default: aten.elu.default,
    aten.sigmoid_.default: aten.sigmoid.default, aten.clamp_.default: aten.clamp.default,
    aten.add_.Tensor: aten.add.Tensor, aten.mul_.Tensor: aten.mul.Tensor, aten.sub_.Tensor: aten.sub.Tensor,
    aten.dropout_.default: aten.dropout.default,
}  # fmt: skip
_VIEWS = frozenset({
    aten.view.default, aten.reshape.default, aten.flatten.using_ints, aten.permute.default, aten.transpose.int,
    aten.slice.Tensor, aten.select.int, aten.unsqueeze.default, aten.squeeze.dim, aten.expand.default,
    aten.chunk.default, aten.split.Tensor, aten.contiguous.default,
})  # fmt: skip
_RANDOM = ("bernoulli", "rand", "normal", "uniform", "exponential", "multinomial")


def capture(model: nn.Module, example: Tensor) -> GraphModule:
    """Export a copy of ``model`` as it runs in evaluation, with a dynamic batch; ``model`` itself stays as it is.

    Exporting the evaluation form leaves out what only training knows (auxiliary heads, DropPath, stochastic depth);
    batch norm and dropout stay as nodes whose mode :func:`limbeck.graph.modes.set_mode` switches. Export is non-strict:
    it runs the model's own Python, so it takes whatever runs, and the patterns need no more than it keeps.

    Args:
        model: Maps one image batch to one tensor.
        example: A batch ``[n, 3, h, w]`` of at least two images; height and width become fixed.

    Raises:
        UserError: If the model does not return one tensor, fixes the batch, cannot be exported or draws random numbers.
    """
    if example.shape[0] < 2:
        raise UserError(
            f"capture: the example holds {example.shape[0]} image; give at least 2, so that batch stays dynamic."
        )
    eager = copy.deepcopy(model).eval()
    try:
        program = torch.export.export(
            eager, (example,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},), strict=False
        )
    except Exception as error:
        raise UserError(f"capture: torch.export cannot export {type(model).__name__}: {error}") from error
    graph = program.module()
    assert isinstance(graph, GraphModule)
    _one_tensor(graph, model)
    functional(graph)
    refuse_random(graph)
    return graph


def _one_tensor(graph: GraphModule, model: nn.Module) -> None:
    returned = graph.graph.output_node().args[0]
    leaves = list(returned) if isinstance(returned, list | tuple) else [returned]
    if len(leaves) != 1 or not isinstance(leaves[0], Node):
        raise UserError(
            f"capture: {type(model).__name__} returns {len(leaves)} values; wrap it so that it returns one tensor."
        )


def functional(graph: GraphModule) -> None:
    """Replace in-place activations and sums by their pure forms, so that a range may stand between any two nodes.

    Readers that come after an in-place call see its result, as they did before. Calls on views are left alone: there
    the write may be seen through another name. Unused nodes are removed.
    """
    order = {node: position for position, node in enumerate(graph.graph.nodes)}
    for node in list(graph.graph.nodes):
        written = node.args[0] if node.op == "call_function" and node.target in _IN_PLACE else None
        if not isinstance(written, Node) or is_call(written, _VIEWS) or any(is_call(u, _VIEWS) for u in written.users):
            continue
        for reader in [user for user in written.users if order[user] > order[node]]:
            reader.replace_input_with(written, node)
        node.target = _IN_PLACE[node.target]
    graph.graph.eliminate_dead_code()
    graph.recompile()


def refuse_random(graph: GraphModule) -> None:
    """Check that two runs on one image are equal.

    Raises:
        UserError: Naming the module that draws random numbers.
    """
    for node in graph.graph.nodes:
        name = str(node.target)
        if node.op == "call_function" and name.startswith("aten.") and any(word in name for word in _RANDOM):
            raise UserError(
                f"capture: module {module_path(node) or '(the model itself)'!r} calls {name} in evaluation, so two "
                "runs on one image differ; make it depend on self.training."
            )
