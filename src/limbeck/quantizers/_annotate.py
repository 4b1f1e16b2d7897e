"""Placement, said in torchao's words."""

from collections.abc import Callable

import torch
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e.quantizer import (
    EdgeOrNode,
    QuantizationAnnotation,
    QuantizationSpec,
    QuantizationSpecBase,
    Quantizer,
    SharedQuantizationSpec,
)

from limbeck.graph.patterns import channel_axis
from limbeck.graph.ranges import Range
from limbeck.quantizers._placement import Placement

__all__ = ["Annotator"]

UNIT = QuantizationSpec(torch.uint8, Range.with_args(fixed=(1 / 255, 0)), 0, 255, torch.per_tensor_affine)
"""Gates lie in 0..1: nothing to observe."""


class Annotator(Quantizer):  # type: ignore[misc]  # torchao has no types
    """Tells torchao's preparation where to put ranges, and of which kind.

    Args:
        place: Decides for a graph what is quantized.
        per_channel: One weight range for each output channel.
        symmetric: Zero lies in the middle of activations that take both signs.
    """

    def __init__(self, place: Callable[[GraphModule], Placement], *, per_channel: bool, symmetric: bool) -> None:
        super().__init__()
        self._place, self._per_channel, self._symmetric = place, per_channel, symmetric

    def annotate(self, model: GraphModule) -> GraphModule:
        """Write a quantization annotation to every node whose inputs or output become integers."""
        placement = self._place(model)
        annotations: dict[Node, QuantizationAnnotation] = {}

        def of(node: Node) -> QuantizationAnnotation:
            return annotations.setdefault(node, QuantizationAnnotation(_annotated=True))

        for source, reader in placement.edges:
            of(reader).input_qspec_map[source] = self._activation(None)
        for layer in placement.layers:
            of(layer).input_qspec_map[layer.args[1]] = self._weight(layer)
        for node, shared in placement.outputs.items():
            of(node).output_qspec = UNIT if node in placement.unit else self._activation(shared)
        for node, annotation in annotations.items():
            node.meta["quantization_annotation"] = annotation
        return model

    def validate(self, model: GraphModule) -> None:
        """Nothing to check: placement names only what the runtime has kernels for."""

    def _activation(self, shared: EdgeOrNode | None) -> QuantizationSpecBase:
        if shared is not None:
            return SharedQuantizationSpec(shared)
        scheme = torch.per_tensor_symmetric if self._symmetric else torch.per_tensor_affine
        return QuantizationSpec(torch.uint8, Range, 0, 255, scheme)

    def _weight(self, layer: Node) -> QuantizationSpecBase:
        axis = channel_axis(layer) if self._per_channel else None
        if axis is None:
            return QuantizationSpec(torch.int8, Range.with_args(weight=True), -127, 127, torch.per_tensor_symmetric)
        # torchao hands ch_axis only to classes whose name says "PerChannel"; so it goes in here.
        per_channel = Range.with_args(weight=True, ch_axis=axis)
        return QuantizationSpec(torch.int8, per_channel, -127, 127, torch.per_channel_symmetric)
