"""INT8 with torch.export and torchao: trained or calibrated on the grid, and at the places, that the runtime uses."""

import copy
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
import torchao
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_qat_pt2e

from limbeck.graph.capture import capture
from limbeck.graph.digest import first_difference, node_lines, nodes_digest
from limbeck.graph.fixes import absorb_eps, clamp_zero_gamma, image_like, same_as_eager
from limbeck.graph.fold import fold_batch_norm
from limbeck.graph.gates import split_gates
from limbeck.graph.modes import record_batch_norm, restore_batch_norm, set_mode
from limbeck.graph.patterns import module_path
from limbeck.graph.ranges import calibrated, float_only, freeze_observers, observe, switch, switches
from limbeck.quantizers._annotate import Annotator
from limbeck.quantizers._placement import RULES, Placement, place
from limbeck.record import UserError

__all__ = ["Pt2e"]


class Pt2e:
    """Integer weights and activations, placed for the runtime that will run the file.

    One prepared graph serves calibration and training, so training starts from exactly the calibrated model::

        prepared = quantizer.prepare(model, example, qat=True)   # observing, computes in float
        ...                                                      # calibration images through it, in evaluation mode
        ptq = quantizer.convert(prepared)                        # leaves prepared alone
        quantized_on(prepared); ...; freeze_observers(prepared)  # training, see limbeck.graph.ranges
        qat = quantizer.convert(prepared)

    Activations are unsigned 8-bit, weights signed 8-bit without -128 around zero, biases float.

    Args:
        target: The runtime whose integer kernels decide what is quantized; the file runs in others too, but slower.
        weights: One scale for each output channel, or one for the whole tensor.
        activations: Whether zero may lie anywhere in a range, or in its middle where values take both signs.
        batch_norm: Fold batch norms into the layers before them, or keep them learning during training (``live``;
            folded all the same where nothing trains).
        exclude: Regular expressions; modules whose path contains a match stay float.

    Raises:
        ValueError: If a pattern of ``exclude`` is no regular expression.
    """

    def __init__(
        self,
        target: Literal["onnxruntime", "openvino"] = "onnxruntime",
        weights: Literal["per_channel", "per_tensor"] = "per_channel",
        activations: Literal["asymmetric", "symmetric"] = "asymmetric",
        batch_norm: Literal["fold", "live"] = "fold",
        exclude: Sequence[str] = (),
    ) -> None:
        self.target, self.weights, self.activations, self.batch_norm = target, weights, activations, batch_norm
        try:
            self._exclude = [re.compile(pattern) for pattern in exclude]
        except re.error as error:
            raise ValueError(f"exclude: {error.pattern!r} is no regular expression ({error})") from error

    def prepare(self, model: nn.Module, example: Tensor, *, qat: bool = False) -> GraphModule:
        """A graph with ranges in it, observing; it computes what ``model`` computes in evaluation, which is checked.

        Args:
            model: Any network that maps one image batch to one tensor; left alone.
            example: A batch ``[n, 3, h, w]`` with n of at least 2; height and width become fixed.
            qat: True if the graph will be trained; a live batch norm is kept only then.

        Raises:
            UserError: If the model cannot be captured, or the graph would compute something else.
        """
        graph = capture(model, example)
        if qat and self.batch_norm == "live":
            clamp_zero_gamma(graph)
        else:
            fold_batch_norm(graph)
        if RULES[self.target].split_gates:
            split_gates(graph)
        recorded = record_batch_norm(graph)
        prepared: GraphModule = prepare_qat_pt2e(graph, self._annotator())
        restore_batch_norm(prepared, recorded)
        set_mode(prepared, False)
        float_only(prepared)
        same_as_eager(prepared, copy.deepcopy(model).eval(), image_like(example.shape).to(example.device))
        observe(prepared)
        prepared.meta["limbeck"] = {"qat": qat, "example": list(example.shape)}
        return prepared

    def convert(self, prepared: GraphModule) -> GraphModule:
        """The integer graph, on the CPU, in evaluation mode; ``prepared`` is left alone.

        Raises:
            UserError: If a range has seen no image.
        """
        calibrated(prepared)
        graph = copy.deepcopy(prepared).cpu()
        freeze_observers(graph)
        set_mode(graph, False)
        absorb_eps(graph)
        converted: GraphModule = convert_pt2e(graph)
        converted.training = False  # .eval() is refused; exporters look at the flag
        return converted

    def state(self, prepared: GraphModule) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All tensors of a prepared graph by name, and what :meth:`restore` needs beside them (JSON)."""
        tensors = {name: value.detach().cpu().clone() for name, value in prepared.state_dict().items()}
        lines = node_lines(prepared)
        manifest = {
            "settings": self._settings(), **prepared.meta["limbeck"], "versions": _versions(),
            "ranges": switches(prepared), "digest": nodes_digest(lines), "nodes": lines,
        }  # fmt: skip
        return tensors, manifest

    def restore(
        self, model: nn.Module, tensors: Mapping[str, Tensor], manifest: Mapping[str, Any], example: Tensor
    ) -> GraphModule:
        """Prepare ``model`` again and fill the graph with saved tensors; the model's own weights play no part.

        Raises:
            UserError: If this quantizer, network, image size or these versions give another graph than the saved one.
        """
        if manifest["settings"] != self._settings():
            raise UserError(f"quantizer: the file was made with {manifest['settings']}, not {self._settings()}.")
        if list(example.shape[1:]) != manifest["example"][1:]:
            raise UserError(
                f"quantizer: the file is for images {manifest['example'][1:]}, not {list(example.shape[1:])}."
            )
        prepared = self.prepare(model, example, qat=manifest["qat"])
        found = node_lines(prepared)
        if nodes_digest(found) != manifest["digest"]:
            raise UserError(
                f"quantizer: the graph is not the saved one: {first_difference(manifest['nodes'], found)}. "
                f"Saved with {manifest['versions']}, here {_versions()}; use the same network and versions."
            )
        if manifest["versions"] != _versions():
            warnings.warn(f"saved with {manifest['versions']}, here {_versions()}; the graphs are equal", stacklevel=2)
        prepared.load_state_dict(tensors, strict=True)
        switch(prepared, **manifest["ranges"])
        return prepared

    def _annotator(self) -> Annotator:
        return Annotator(
            self._place, per_channel=self.weights == "per_channel", symmetric=self.activations == "symmetric"
        )

    def _place(self, graph: GraphModule) -> Placement:
        return place(graph.graph, RULES[self.target], self._excluded)

    def _excluded(self, node: Node) -> bool:
        return any(pattern.search(module_path(node)) for pattern in self._exclude)

    def _settings(self) -> dict[str, Any]:
        return {
            "target": self.target, "weights": self.weights, "activations": self.activations,
            "batch_norm": self.batch_norm, "exclude": [pattern.pattern for pattern in self._exclude],
        }  # fmt: skip


def _versions() -> dict[str, str]:
    return {"torch": torch.__version__.split("+")[0], "torchao": torchao.__version__.split("+")[0]}
