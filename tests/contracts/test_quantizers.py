"""What every file of the room promises; a new file is tested the day it appears."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from limbeck.build import find, names
from limbeck.graph.modes import set_mode
from limbeck.graph.ranges import freeze_observers, quantized_on

EXAMPLE = torch.zeros(2, 3, 16, 24)
IMAGES = torch.randn(4, 3, 16, 24, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=names("quantizers"))
def quantizer(request: pytest.FixtureRequest) -> Any:
    return find("quantizers", request.param, "quantize", Path())()


@pytest.mark.parametrize("qat", [False, True])
def test_prepares_observes_converts(quantizer: Any, student: nn.Module, qat: bool) -> None:
    student.train()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    prepared = quantizer.prepare(student, EXAMPLE, qat=qat)
    assert student.training
    assert all(torch.equal(before[name], value) for name, value in student.state_dict().items())
    with torch.no_grad():
        torch.testing.assert_close(prepared(IMAGES), student.eval()(IMAGES), atol=1e-4, rtol=1e-4)
        converted = quantizer.convert(prepared)
        logits = converted(IMAGES[:1])
    assert logits.shape == student(IMAGES[:1]).shape
    assert any(value.dtype == torch.int8 for value in converted.state_dict().values())


def test_trains(quantizer: Any, tiny: Callable[..., nn.Module]) -> None:
    prepared = quantizer.prepare(tiny(dropout=0.2), EXAMPLE, qat=True)
    prepared(IMAGES)
    quantized_on(prepared)
    set_mode(prepared, True)
    optimizer = torch.optim.SGD(prepared.parameters(), 0.1)
    losses = []
    for _ in range(8):
        loss = (prepared(IMAGES) - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        assert all(parameter.grad is not None for parameter in prepared.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    freeze_observers(prepared)
    set_mode(prepared, False)
    with torch.no_grad():
        torch.testing.assert_close(quantizer.convert(prepared)(IMAGES), prepared(IMAGES), atol=1e-5, rtol=1e-5)


def test_travels_through_a_file(quantizer: Any, tiny: Callable[..., nn.Module]) -> None:
    prepared = quantizer.prepare(tiny(), EXAMPLE, qat=False)
    prepared(IMAGES)
    tensors, manifest = quantizer.state(prepared)
    again = quantizer.restore(tiny(seed=5), tensors, json.loads(json.dumps(manifest)), EXAMPLE)
    assert torch.equal(quantizer.convert(again)(IMAGES), quantizer.convert(prepared)(IMAGES))
