"""Networks that are here for their integer form: prepared, converted and exported for both runtimes, they agree."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from limbeck.build import build, find
from limbeck.exporters.onnx import Onnx
from limbeck.graph.fixes import image_like
from limbeck.graph.ranges import freeze_observers
from limbeck.quantizers.pt2e import Pt2e

SPECS = [
    {"kind": "ddrnet23_slim"},
    {"kind": "pidnet_s"},
    {"kind": "sceneseg", "kernels": "float"},
    {"kind": "sceneseg", "kernels": "integer"},
]


def _apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.mark.slow
@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: "-".join(spec.values()))
@torch.no_grad()
def test_integer_files_are_as_good_as_what_was_prepared(spec: dict[str, Any], target: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build("models", spec, "student", num_classes=5).eval()
    images = image_like((4, 3, 64, 96))
    quantizer = Pt2e(target)
    prepared = quantizer.prepare(model, images[:2])
    prepared(images)
    converted = quantizer.convert(prepared)
    freeze_observers(prepared)
    expected, logits = model(images), converted(images)
    assert _apart(prepared(images), logits) < 1e-5
    assert _apart(logits, expected) < 0.25
    Onnx()(converted, images[:2], tmp_path / "a.onnx", metadata={"precision": "int8", "target": target})
    runtime = find("runtimes", target, "bench")(tmp_path / "a.onnx", threads=1)
    found = torch.from_numpy(runtime(images.numpy()))
    assert _apart(found, expected) < 1.5 * _apart(logits, expected) + 0.01
