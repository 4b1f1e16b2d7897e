import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from limbeck.graph.ranges import Range, calibrated, freeze_observers, observe, quantized_on, switches
from limbeck.record import UserError


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def activation(symmetric: bool = False) -> Range:
    return Range(torch.uint8, 0, 255, torch.per_tensor_symmetric if symmetric else torch.per_tensor_affine)


def weight(axis: int = 0) -> Range:
    return Range(torch.int8, -127, 127, torch.per_channel_symmetric, ch_axis=axis, weight=True)


def reference(x: np.ndarray, scale: np.ndarray, zero: np.ndarray, low: int, high: int) -> np.ndarray:
    """Quantize and dequantize as ONNX defines them."""
    return (np.clip(np.rint(x / scale) + zero, low, high) - zero) * scale


@pytest.mark.parametrize(
    ("values", "symmetric", "scale", "zero_point"),
    [
        ([-1.0, 3.0], False, 4 / 255, 64),
        ([0.5, 2.0], False, 2 / 255, 0),
        ([-2.0, -1.0], False, 2 / 255, 255),
        ([-1.0, 3.0], True, 3 / 127, 128),
        ([-4.0, 3.0], True, 4 / 128, 128),
        ([0.0, 2.0], True, 2 / 255, 0),
    ],
)
def test_parameters_of_a_tensor(values: list[float], symmetric: bool, scale: float, zero_point: int) -> None:
    one = activation(symmetric)
    one(torch.tensor(values))
    assert float(one.scale) == pytest.approx(scale)
    assert int(one.zero_point) == zero_point


@pytest.mark.parametrize("axis", [0, 1])
def test_weights_have_one_scale_a_channel(axis: int) -> None:
    one, values = weight(axis), noise(4, 5, 3, 3)
    found = one(values)
    highest = np.moveaxis(np.abs(values.numpy()), axis, 0).reshape(values.shape[axis], -1).max(1)
    np.testing.assert_allclose(one.scale.numpy(), highest / 127, rtol=1e-6)
    scale = one.scale.numpy().reshape([-1 if a == axis else 1 for a in range(4)])
    np.testing.assert_allclose(found.numpy(), reference(values.numpy(), scale, 0, -127, 127), atol=1e-6)


def test_quantizes_like_onnx() -> None:
    one, values = activation(), noise(1000) * 3
    found = one(values)
    expected = reference(values.numpy(), one.scale.numpy(), one.zero_point.numpy(), 0, 255)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


def test_batches_count_alike_and_do_not_forget_each_other() -> None:
    one = activation()
    observe(one)
    for high in (1.0, 2.0, 6.0):
        assert torch.equal(one(torch.tensor([0.0, high])), torch.tensor([0.0, high]))
    assert float(one.high) == pytest.approx(3.0)
    assert int(one.seen) == 3


def test_switches_and_evaluation() -> None:
    one = activation()
    observe(one)
    one(torch.tensor([0.0, 1.0]))
    quantized_on(one)
    assert switches(one) == {"observing": True, "quantizing": True}
    one.training = False
    one(torch.tensor([0.0, 100.0]))
    assert float(one.high) == pytest.approx(1.0)  # validation images leave ranges alone
    one.training = True
    one(torch.tensor([0.0, 100.0]))
    assert float(one.high) > 40
    freeze_observers(one)
    before = copy.deepcopy(one.state_dict())
    one(torch.tensor([0.0, 1000.0]))
    assert all(torch.equal(before[name], value) for name, value in one.state_dict().items())


def test_gradient_passes_inside_the_range_only() -> None:
    one = activation()
    one(torch.tensor([0.0, 1.0]))
    freeze_observers(one)
    x = torch.tensor([-1.0, 0.5, 2.0], requires_grad=True)
    one(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 1.0, 0.0]


def test_fixed_ranges_never_move() -> None:
    one = Range(torch.uint8, 0, 255, torch.per_tensor_affine, fixed=(1 / 255, 0))
    observe(one)
    one(torch.tensor([-5.0, 5.0]))
    quantized_on(one)
    assert one(torch.tensor([-5.0, 0.0, 5.0])).tolist() == pytest.approx([0.0, 0.0, 1.0])


def test_a_dead_channel_keeps_a_usable_scale() -> None:
    one = weight()
    one(torch.zeros(2, 3, 1, 1))
    assert (one.scale > 0).all()
    assert torch.equal(one(torch.zeros(2, 3, 1, 1)), torch.zeros(2, 3, 1, 1))


def test_unseen_and_infinite_ranges_are_refused() -> None:
    model = nn.Sequential(activation())
    with pytest.raises(UserError, match="1 ranges have seen no image"):
        quantized_on(model)
    observe(model)
    model(torch.tensor([1.0, float("nan")]))
    with pytest.raises(UserError, match="NaN or infinite"):
        calibrated(model)


def test_saved_state_fits_a_new_range() -> None:
    one, other = weight(), weight()
    one(noise(4, 3, 1, 1))
    other.load_state_dict(one.state_dict())
    freeze_observers(one)
    freeze_observers(other)
    assert torch.equal(one(noise(4, 3, 1, 1, seed=5)), other(noise(4, 3, 1, 1, seed=5)))
