"""ONNX: one file that runs anywhere, integers kept, nothing of the machine that wrote it."""

import copy
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from limbeck.graph.capture import refuse_random
from limbeck.graph.modes import set_mode
from limbeck.graph.onnx_passes import passes_for
from limbeck.record import UserError, whole

__all__ = ["Onnx"]

AXES = {"batch": 0, "height": 2, "width": 3}
LIMIT_BYTES = 2**31 - 1
"""What one protobuf message, so one file without external data, may hold."""

FORGOTTEN = ("doc_string", "metadata_props", "value_info")
OPSETS = range(18, 26)
"""What PyTorch's exporter writes, and what onnxscript converts it to."""


class Onnx:
    """Write a network as ONNX: input ``pixel_values``, output ``logits``, the batch dynamic.

    Args:
        opset: Version of the operator set, 18 to 25. A higher one needs a newer runtime and is no faster.
    """

    suffix = ".onnx"

    def __init__(self, opset: int = 18) -> None:
        if opset not in OPSETS:
            raise ValueError(f"opset is {opset}; it may be {OPSETS[0]} to {OPSETS[-1]}")
        self._opset = opset

    def __call__(
        self, model: nn.Module, example: Tensor, path: Path, *, metadata: Mapping[str, Any], dynamic: Sequence[str] = ()
    ) -> None:
        """Export a copy of ``model`` on the CPU, as it runs in evaluation; ``model`` itself stays as it is.

        Args:
            model: An eager network, or the integer graph that a quantizer converted.
            example: Any batch [n, 3, h, w] of the shape to export.
            path: The file; it appears whole or not at all.
            metadata: What the file says about itself. With precision ``int8`` the graph is fitted to ``target``.
            dynamic: ``height``, ``width`` or both, to leave them open too.

        Raises:
            UserError: If the network cannot be exported, fixes a size that shall be dynamic, draws random numbers, is
                too large for one file, or its integer weights were lost on the way.
            ValueError: If ``dynamic`` holds another word, or the metadata say ``int8`` of a float network.
        """
        integer = metadata.get("precision") == "int8"
        _fits(model, path)
        network = _evaluating(model)
        if integer and not _int8_weights(network):
            raise ValueError(f"{path}: metadata say int8, but the network holds no int8 weights; convert it first")
        program = _capture(network, example, path, ["batch", *dynamic])
        refuse_random(program.graph_module)
        proto = _translate(program, self._opset, path)
        _name_axes(proto, ["batch", *dynamic])
        if integer:
            _integers_survive(network, proto, path)
            for change in passes_for(metadata["target"]):
                change(proto)
        _forget(proto)
        proto.metadata_props.add(key="limbeck", value=json.dumps(dict(metadata), sort_keys=True, ensure_ascii=False))
        onnx.checker.check_model(proto, full_check=True)
        with whole(path) as part:
            part.write_bytes(proto.SerializeToString(deterministic=True))


def _fits(model: nn.Module, path: Path) -> None:
    tensors = [*model.parameters(), *model.buffers()]
    num_bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    if num_bytes >= LIMIT_BYTES:
        raise UserError(
            f"{path}: weights of {num_bytes / 1e6:.0f} MB do not fit into one ONNX file, which ends at "
            f"{LIMIT_BYTES / 1e6:.0f} MB; keep this network as .safetensors, or export a smaller student."
        )


def _evaluating(model: nn.Module) -> nn.Module:
    """A copy on the CPU in evaluation mode. Exported graphs refuse ``.eval()``: their mode is in their nodes."""
    network = copy.deepcopy(model).cpu()
    if isinstance(network, GraphModule):
        set_mode(network, train=False)
    else:
        network.eval()
    return network


def _capture(network: nn.Module, example: Tensor, path: Path, open_axes: list[str]) -> torch.export.ExportedProgram:
    unknown = set(open_axes) - set(AXES)
    if unknown:
        raise ValueError(f"dynamic: {', '.join(sorted(unknown))} unknown; it may hold height and width")
    # A batch of one would be taken for a constant.
    image = example.detach().cpu()[:1].repeat(2, 1, 1, 1)
    sizes = {AXES[name]: torch.export.Dim.DYNAMIC for name in open_axes}
    try:
        with warnings.catch_warnings(action="ignore"):
            return torch.export.export(network, (image,), dynamic_shapes=(sizes,), strict=False)
    except RuntimeError as error:  # all that torch.export says about a model is one
        reason = " ".join(str(error).split(". For more")[0].split())[:400]
        raise UserError(
            f"{path}: torch.export cannot capture the network with dynamic {', '.join(open_axes)}: {reason}"
        ) from error


def _translate(program: torch.export.ExportedProgram, opset: int, path: Path) -> Any:
    with warnings.catch_warnings(action="ignore"):
        translated = torch.onnx.export(
            program, opset_version=opset, input_names=["pixel_values"], output_names=["logits"], verbose=False
        )
    assert translated is not None
    proto = translated.model_proto
    written = next(entry.version for entry in proto.opset_import if entry.domain == "")
    if written != opset:
        raise UserError(f"{path}: an operator of this network has no form in opset {opset}; use opset {written}.")
    return proto


def _name_axes(proto: Any, open_axes: list[str]) -> None:
    """Write ``batch`` where the exporter wrote its own symbol, such as ``s77``, in inputs and outputs."""
    sizes = proto.graph.input[0].type.tensor_type.shape.dim
    names = {sizes[AXES[name]].dim_param: name for name in open_axes}
    for value in [*proto.graph.input, *proto.graph.output]:
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param:
                size.dim_param = re.sub(r"\w+", lambda symbol: names.get(symbol[0], symbol[0]), size.dim_param)


def _int8_weights(network: nn.Module) -> set[bytes]:
    return {weight.numpy().tobytes() for weight in network.buffers() if weight.dtype == torch.int8}


def _integers_survive(network: nn.Module, proto: Any, path: Path) -> None:
    """Every int8 weight of the graph is an int8 initializer of the file, and activations are still quantized."""
    weights = _int8_weights(network)
    int8 = onnx.TensorProto.INT8
    kept = {onnx.numpy_helper.to_array(i).tobytes() for i in proto.graph.initializer if i.data_type == int8}
    quantized = any(node.op_type == "QuantizeLinear" for node in proto.graph.node)
    if not weights <= kept or not quantized:
        raise UserError(
            f"{path}: {len(weights - kept)} of {len(weights)} int8 weights became float on export, activations "
            f"{'stayed quantized' if quantized else 'too'}; onnxscript 0.7.2 is known to keep them."
        )


def _forget(message: Any) -> None:
    """Drop the exporter's notes, at every depth: they name files of this machine. Shapes of inner values go too: passes
    make them untrue, and every runtime infers them anew.
    """
    for field, value in message.ListFields():
        if field.name in FORGOTTEN:
            message.ClearField(field.name)
        elif field.message_type is not None:
            for inner in [value] if hasattr(value, "ListFields") else value:
                _forget(inner)
