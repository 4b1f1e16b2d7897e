"""What the line asks of every network: taps where its docstring says, and a quantizer that can take it.

A new file in the models room needs a line in ``TAPS`` and is tested from then on.
"""

import functools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck.build import build, names
from limbeck.graph.fixes import image_like
from limbeck.graph.ranges import freeze_observers
from limbeck.quantizers.pt2e import Pt2e
from limbeck.train.taps import Tapped

SIZE = (64, 96)

TAPS: dict[str, dict[str, tuple[int, int]]] = {
    "compact_unet": {"encoder.0": (16, 2), "encoder.3": (128, 16)},
    "ddrnet23_slim": {"stage2": (64, 8), "high5": (128, 8), "low3": (128, 16), "low5": (512, 64), "pyramid": (128, 64)},
    "lightweight_deeplabv3": {"backbone.16": (960, 16), "classifier.5": (256, 16)},
    "pidnet_s": {"stage2": (64, 8), "stage4": (256, 32), "detail5": (128, 8), "boundary5": (128, 8), "fuse": (128, 8)},
    "pspnet": {"backbone.layer3": (1024, 8), "backbone.layer4": (2048, 8), "decode_head.bottleneck": (512, 8)},
    "residual_cnn": {"stem": (16, 1), "blocks.0": (16, 1), "blocks.7": (256, 16)},
    "sceneseg": {"backbone.0": (32, 2), "backbone.8": (1280, 32), "context": (1280, 32), "neck.0": (768, 16), "head.1": (64, 1)},
    "segformer": {f"segformer.stages.{i}": (width, 4 * 2**i) for i, width in enumerate((32, 64, 160, 256))},
    "smp": {"encoder.layer4": (512, 32)},
    "timm": {"layer4": (512, 32)},
    "torchvision": {"backbone.16": (960, 16)},
    "torchvision_classifier": {"layer4": (512, 32)},
    "upernet_swin": {"decode_head.bottleneck": (512, 32), "decode_head.fpn_bottleneck": (512, 4)},
}  # fmt: skip
"""Documented taps with their channels and stride."""

HERE = {"ddrnet23_slim", "pidnet_s", "sceneseg"}
"""Quantized in tests of their own, in both their forms and for both runtimes."""


@functools.cache
def _built(kind: str) -> nn.Module:
    torch.manual_seed(0)
    built: nn.Module = build("models", {"kind": kind}, "student", num_classes=7, pretrained=None, root=None)
    return built.eval()


def test_every_model_has_its_line() -> None:
    assert set(TAPS) == set(names("models"))


@pytest.mark.parametrize("kind", TAPS)
@torch.no_grad()
def test_taps_are_where_the_docstring_says(kind: str) -> None:
    tapped = Tapped(_built(kind), list(TAPS[kind]), kind)
    try:
        found: dict[str, Tensor] = tapped(torch.randn(1, 3, *SIZE))[1]
    finally:
        tapped.close()
    shapes = {path: tuple(found[path].shape[1:]) for path in TAPS[kind]}
    assert shapes == {path: (c, -(-SIZE[0] // s), -(-SIZE[1] // s)) for path, (c, s) in TAPS[kind].items()}


def _marked(kind: str) -> Any:
    return kind if kind == "compact_unet" else pytest.param(kind, marks=pytest.mark.slow)


@pytest.mark.parametrize("kind", [_marked(kind) for kind in TAPS if kind not in HERE])
@torch.no_grad()
def test_what_was_prepared_is_what_is_converted(kind: str) -> None:
    quantizer, images = Pt2e("onnxruntime"), image_like((3, 3, *SIZE))
    prepared = quantizer.prepare(_built(kind), images[:2])
    prepared(images)
    converted = quantizer.convert(prepared)
    freeze_observers(prepared)
    assert any(value.dtype == torch.int8 for value in converted.state_dict().values())
    for batch in (images, images[:1]):
        torch.testing.assert_close(
            converted(batch), prepared(batch), rtol=1e-4, atol=1e-5 * float(prepared(batch).abs().max()) + 1e-6
        )
