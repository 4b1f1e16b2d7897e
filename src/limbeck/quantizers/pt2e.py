"""INT8 with torch.export and torchao, placed for the runtime that will run the file."""

import copy
import re
from collections.abc import Callable
from typing import Any, Literal

import torch
import torchao
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_qat_pt2e
from torchao.quantization.pt2e.quantizer import (
    QuantizationAnnotation,
    QuantizationSpec,
    Quantizer,
    SharedQuantizationSpec,
)

from limbeck.graph.capture import capture
from limbeck.graph.digest import first_difference, node_lines, nodes_digest
from limbeck.graph.fixes import absorb_eps, clamp_zero_gamma, same_as_eager
from limbeck.graph.fold import fold_batch_norm
from limbeck.graph.gates import split_gates
from limbeck.graph.modes import record_batch_norm, restore_batch_norm, set_mode
from limbeck.graph.patterns import channel_axis, module_path
from limbeck.graph.ranges import Range, calibrated, float_only, freeze_observers, observe
from limbeck.quantizers._placement import RULES, Placement, place
from limbeck.record import UserError

__all__ = ["Pt2e"]


class Pt2e:
    """Integer weights and activations, trained or calibrated on the grid and at the places the runtime uses."""

    def __init__(
        self,
        target: Literal["onnxruntime", "openvino"] = "onnxruntime",
        weights: Literal["per_channel", "per_tensor"] = "per_channel",
        activations: Literal["asymmetric", "symmetric"] = "asymmetric",
        batch_norm: Literal["fold", "live"] = "fold",
        exclude: list[str] | None = None,
    ) -> None:
        self.target, self.weights, self.activations, self.batch_norm = target, weights, activations, batch_norm
        self.exclude = list(exclude or [])
        self._excluded = [re.compile(pattern) for pattern in self.exclude]

    def prepare(self, model: nn.Module, example: Tensor, *, qat: bool = False) -> GraphModule:
        graph = capture(model, example)
        if self.batch_norm == "fold":
            fold_batch_norm(graph)
        else:
            clamp_zero_gamma(graph)
        if RULES[self.target].split_gates:
            split_gates(graph)
        recorded = record_batch_norm(graph)
        prepared = prepare_qat_pt2e(graph, _Annotator(self))
        restore_batch_norm(prepared, recorded)
        set_mode(prepared, False)
        float_only(prepared)
        same_as_eager(prepared, copy.deepcopy(model).eval(), example)
        observe(prepared)
        return prepared

    def convert(self, prepared: GraphModule) -> GraphModule:
        calibrated(prepared)
        graph = copy.deepcopy(prepared).cpu()
        freeze_observers(graph)
        set_mode(graph, False)
        absorb_eps(graph)
        return convert_pt2e(graph)

    def excludes(self, node: Node) -> bool:
        path = module_path(node)
        return any(pattern.search(path) for pattern in self._excluded)


class _Annotator(Quantizer):
    def __init__(self, settings: Pt2e) -> None:
        super().__init__()
        self.settings = settings

    def annotate(self, model: GraphModule) -> GraphModule:
        placement = place(model.graph, RULES[self.settings.target], self.settings.excludes)
        annotations: dict[Node, QuantizationAnnotation] = {}
        def of(node):
            return annotations.setdefault(node, QuantizationAnnotation(_annotated=True))
        for (source, reader), shared in placement.edges.items():
            of(reader).input_qspec_map[source] = self._activation(shared)
        for layer in placement.layers:
            of(layer).input_qspec_map[layer.args[1]] = self._weight(layer)
        for node, shared in placement.outputs.items():
            of(node).output_qspec = UNIT if node in placement.unit else self._activation(shared)
        for node, annotation in annotations.items():
            node.meta["quantization_annotation"] = annotation
        return model

    def _activation(self, shared):
        if shared is not None:
            return SharedQuantizationSpec(shared)
        scheme = torch.per_tensor_affine if self.settings.activations == "asymmetric" else torch.per_tensor_symmetric
        return QuantizationSpec(torch.uint8, Range, 0, 255, scheme)

    def _weight(self, layer):
        axis = channel_axis(layer)
        if self.settings.weights == "per_tensor" or axis is None:
            return QuantizationSpec(torch.int8, Range.with_args(weight=True), -127, 127, torch.per_tensor_symmetric)
        return QuantizationSpec(torch.int8, Range.with_args(weight=True, ch_axis=axis), -127, 127, torch.per_channel_symmetric)

    def validate(self, model: GraphModule) -> None:
        pass

UNIT = QuantizationSpec(torch.uint8, Range.with_args(fixed=(1/255, 0)), 0, 255, torch.per_tensor_affine)
