"""Write the files that ship, and prove that they answer as the networks they came from."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from limbeck import show
from limbeck.artifact.load import Predictor, load
from limbeck.build import build
from limbeck.metrics.agreement import agreement
from limbeck.recipe.lesson import seats
from limbeck.record import UserError, file_digest
from limbeck.runtimes.eager import Eager
from limbeck.stages.context import Context
from limbeck.stages.rows import exported, weight_files

__all__ = ["run"]

PARITY_IMAGES = 16


def run(context: Context) -> dict[str, Any]:
    """Export teachers and student in every format of the recipe, and every quantized student.

    Returns:
        Files with size and digest, and the parity of each with PyTorch on validation images.
    """
    sources = {(role, "fp32"): context.weights(role) for role in (*seats(context.recipe), "student")}
    sources |= {("student", label): path for label, path in weight_files(context).items()}
    files: list[dict[str, Any]] = []
    parity: list[dict[str, Any]] = []
    for (role, label), weights in sources.items():
        source = load(weights, runtime="eager", root=context.source_root(context.section(role)))
        for index, spec in enumerate(context.recipe.export):
            path = exported(context, role, label, spec.kind)
            exporter = build("exporters", spec.spec, context.recipe.place / "export" / index, context.recipe.root)
            path = path.with_suffix(exporter.suffix)
            show.say(f"export: {path.name}")
            _export(exporter, source, path, spec.dynamic)
            files.append({"file": path.name, "file_mb": path.stat().st_size / 1e6, "digest": file_digest(path)})
            for runtime in _readers(context, path):
                parity.append(_parity(context, source, path, runtime))
    return {"files": files, "parity": parity}


def _export(exporter: Any, source: Predictor, path: Path, dynamic: Sequence[str]) -> None:
    engine, metadata = source.runtime, source.metadata
    assert isinstance(engine, Eager)
    assert metadata is not None
    carried = {k: v for k, v in metadata.to_json().items() if k not in ("architecture", "quantizer", "manifest")}
    example = torch.zeros(2, len(metadata.preprocess.mean), *metadata.preprocess.shape)
    exporter(engine.network, example, path, metadata=carried, dynamic=dynamic)


def _readers(context: Context, path: Path) -> list[str]:
    """Runtimes of the recipe that run this file."""
    wanted = context.recipe.bench.runtimes if context.recipe.bench else ["onnxruntime"]
    return [name for name in wanted if name in ("onnxruntime", "openvino")] if path.suffix == ".onnx" else []


def _parity(context: Context, source: Predictor, path: Path, runtime: str) -> dict[str, Any]:
    """How far an exported file agrees with PyTorch on a few validation images, one at a time; or why it cannot run."""
    try:
        return _compared(context, source, path, runtime)
    except UserError as error:
        return {"file": path.name, "against": runtime, "error": str(error)}


def _compared(context: Context, source: Predictor, path: Path, runtime: str) -> dict[str, Any]:
    shipped = load(path, runtime=runtime)
    dataset = context.dataset("validation")
    count = min(PARITY_IMAGES, len(dataset))
    images = [source.preprocess(dataset[i].image)[None] for i in np.linspace(0, len(dataset) - 1, count).astype(int)]
    same, largest = [], 0.0
    for image in images:
        ours, theirs = source.logits(image), shipped.logits(image)
        same.append(agreement(ours.argmax(1), theirs.argmax(1)))
        largest = max(largest, float(np.abs(ours - theirs).max() / max(np.abs(ours).max(), 1e-12)))
    return {
        "file": path.name, "against": runtime, "argmax_agreement": float(np.mean(same)),
        "largest_difference": largest, "images": count,
    }  # fmt: skip
