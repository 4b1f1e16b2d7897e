import copy

import pytest
import torch
from torch import nn

from limbeck.bench.size import file_mb, macs_g, params_m


def test_parameters_by_hand():
    assert params_m(nn.Conv2d(3, 8, 5)) == pytest.approx((3 * 8 * 25 + 8) / 1e6)


def test_a_shared_parameter_is_one():
    layer = nn.Linear(10, 10, bias=False)
    assert params_m(nn.Sequential(layer, layer)) == pytest.approx(1e-4)


def test_buffers_are_no_parameters():
    assert params_m(nn.BatchNorm2d(8, affine=False)) == 0


class Attention(nn.Module):
    def forward(self, image):
        tokens = image.flatten(2).transpose(1, 2)[:, None]
        return nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)


@pytest.mark.parametrize(
    ("network", "shape", "macs"),
    [
        (nn.Conv2d(3, 8, 3, 2, 1), (1, 3, 32, 48), 16 * 24 * 8 * 3 * 9),
        (nn.Conv2d(3, 8, 3, 2, 1), (2, 3, 32, 48), 2 * 16 * 24 * 8 * 3 * 9),
        (nn.Conv2d(8, 8, 3, 1, 1, groups=8), (1, 8, 10, 10), 100 * 8 * 9),
        (nn.ConvTranspose2d(4, 6, 2, 2), (1, 4, 5, 7), 5 * 7 * 4 * 6 * 4),
        (nn.Linear(16, 4), (1, 3, 7, 16), 21 * 16 * 4),
        (Attention(), (1, 8, 4, 6), 2 * 24 * 24 * 8),
        (nn.ReLU(), (1, 3, 8, 8), 0),
    ],
)
def test_multiply_accumulates_by_hand(network, shape, macs):
    assert macs_g(network, shape) == pytest.approx(macs / 1e9)


def test_counting_leaves_the_network_alone():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).train()
    before = copy.deepcopy(network.state_dict())
    macs_g(network, (2, 3, 8, 8))
    assert network.training
    torch.testing.assert_close(network.state_dict(), before)


def test_a_file_and_what_lies_beside_it(tmp_path):
    for name, num_bytes in {"net.onnx": 1500, "net.xml": 500, "net.bin": 2000}.items():
        (tmp_path / name).write_bytes(bytes(num_bytes))
    assert file_mb(tmp_path / "net.onnx") == 0.0015
    assert file_mb(tmp_path / "net.xml") == 0.0025
