"""The rows of a run's table: which file runs where."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limbeck.recipe import Quantize
from limbeck.recipe.lesson import is_teacher
from limbeck.runtimes._cores import cpu_has_bf16
from limbeck.stages.context import Context

__all__ = ["Row", "exported", "labels", "rows", "weight_files"]


@dataclass(frozen=True)
class Row:
    """One model on one runtime.

    Attributes:
        model: Role of the network.
        label: ``fp32``, ``int8``, ``int8-ptq``, ``int8-openvino``, ...: part of the file's name.
        path: The file.
        runtime: Kind of runtime.
        inference: What the runtime may compute in: ``fp32`` or ``bf16``.
        quantization: ``ptq`` or ``qat`` for integer files.
        target: Runtime that an integer file was made for.
        timed: False where speed means nothing or repeats another row's.
    """

    model: str
    label: str
    path: Path
    runtime: str
    inference: str = "fp32"
    quantization: str | None = None
    target: str | None = None
    timed: bool = True

    @property
    def id(self) -> str:
        """Name of the row, such as ``student.int8.openvino``."""
        return f"{self.model}.{self.label}.{self.runtime}" + ("-bf16" if self.inference == "bf16" else "")

    @property
    def precision(self) -> str:
        """What the file stores."""
        return self.label.split("-")[0]

    @property
    def simulated(self) -> bool:
        """Whether it computes in float on integer values: PyTorch does so, as the parity reference."""
        return self.runtime == "eager" and self.precision == "int8"

    def described(self) -> dict[str, Any]:
        """Columns that are known before anything ran."""
        return {
            "id": self.id, "model": self.model, "precision": self.precision, "quantization": self.quantization,
            "format": self.path.suffix.lstrip("."), "runtime": self.runtime, "target": self.target,
            "inference_precision": self.inference, "simulated": self.simulated, "file": self.path.name,
        }  # fmt: skip


def labels(recipe_quantize: Sequence[Quantize]) -> list[str]:
    """Name of each entry of ``quantize`` in file names: ``int8``, or ``int8-<target>`` where there are several."""
    if len(recipe_quantize) == 1:
        return ["int8"]
    named = [f"int8-{spec.spec.get('target', spec.kind)}" for spec in recipe_quantize]
    return [name if named.count(name) == 1 else f"{name}-{index}" for index, name in enumerate(named)]


def weight_files(context: Context) -> dict[str, Path]:
    """Quantized weight files by label; PTQ beside QAT ends in ``-ptq``."""
    found: dict[str, Path] = {}
    for label, spec in zip(labels(context.recipe.quantize), context.recipe.quantize, strict=True):
        for name in [f"{label}-ptq", label] if spec.qat else [label]:
            found[name] = context.folder / "quantize" / f"student.{name}.safetensors"
    return found


def exported(context: Context, model: str, label: str, kind: str) -> Path:
    """Where the exported file of a model is."""
    return context.folder / "export" / f"{model}.{label}.{kind.rpartition(':')[2]}"


def rows(context: Context) -> list[Row]:
    """All rows of a run: weights in eager, exported files in every runtime that reads them."""
    recipe = context.recipe
    runtimes = recipe.bench.runtimes if recipe.bench else ["eager"]
    shipped = [role for role in context.roles if role == "student" or is_teacher(role)]
    found = [Row(role, "fp32", context.weights(role), "eager", timed=role in shipped) for role in context.roles]
    kinds = [spec.kind for spec in recipe.export]
    engines = [runtime for runtime in runtimes if runtime != "eager" and "onnx" in kinds]
    for role in shipped:
        for runtime in engines:
            path = exported(context, role, "fp32", "onnx")
            found.append(Row(role, "fp32", path, runtime))
            if runtime == "openvino" and cpu_has_bf16():
                found.append(Row(role, "fp32", path, runtime, inference="bf16"))
    specs = dict(zip(weight_files(context), _specs(context), strict=True))
    for label, weights in weight_files(context).items():
        target = specs[label].spec.get("target", "onnxruntime")
        how = "qat" if specs[label].qat and not label.endswith("-ptq") else "ptq"
        found.append(Row("student", label, weights, "eager", quantization=how, target=target, timed=False))
        for runtime in engines:
            if not label.endswith("-ptq") or runtime == target:
                path = exported(context, "student", label, "onnx")
                found.append(Row("student", label, path, runtime, quantization=how, target=target))
    return found


def _specs(context: Context) -> list[Any]:
    return [spec for spec in context.recipe.quantize for _ in range(2 if spec.qat else 1)]
