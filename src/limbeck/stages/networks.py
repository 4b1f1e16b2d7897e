"""Networks of a run that are made already, as later stages take them up."""

from typing import Any

from limbeck.artifact.metadata import Metadata
from limbeck.build import build
from limbeck.data.weights import load_weights
from limbeck.graph.network import as_logits, in_classes
from limbeck.record import UserError
from limbeck.stages.context import Context

__all__ = ["load_role"]


def load_role(context: Context, role: str) -> Any:
    """A network with its final weights, in eval mode, built as its weight file says.

    Raises:
        UserError: If the file does not say it.
    """
    path = context.weights(role)
    metadata = Metadata.read(path)
    if metadata is None or metadata.architecture is None:
        raise UserError(f"{path}: does not say how its network is built; run `--force {role}`.")
    spec = {key: value for key, value in metadata.architecture.items() if key not in ("num_classes", "class_groups")}
    root = context.source_root(context.section(role))
    runtime = {"num_classes": metadata.architecture["num_classes"], "pretrained": None, "root": root}
    model = as_logits(build("models", spec, f"{path}: architecture", root, **runtime))
    model = in_classes(model, metadata.architecture.get("class_groups"))
    load_weights(model, path)
    model.__dict__["mean"], model.__dict__["std"] = metadata.preprocess.mean, metadata.preprocess.std
    return model.eval()
