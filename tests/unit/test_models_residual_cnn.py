"""The scene classifiers of the CSE 5368 project, and any other depth."""

import pytest
import torch

from limbeck.build import build
from limbeck.record import UserError
from limbeck.train.objective import eager_modes


def make(**more):
    return build("models", {"kind": "residual_cnn", **more}, "student", num_classes=6)


@pytest.mark.parametrize(
    ("blocks", "parameters"), [(4, 98_294), (6, 408_854), (8, 1_648_470), (10, 6_601_686), (12, 26_534_358)]
)
def test_parameters_as_published(blocks: int, parameters: int) -> None:
    with torch.device("meta"):
        model = make(blocks=blocks)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def test_the_teacher_has_31_convolutions_and_three_linear_layers() -> None:
    with torch.device("meta"):
        layers = [type(module).__name__ for module in make(blocks=12).modules()]
    assert layers.count("Conv2d") == 31
    assert layers.count("Linear") == 3


@pytest.mark.parametrize("size", [(150, 150), (32, 32), (17, 40)])
def test_any_size(size: tuple[int, int]) -> None:
    assert make(blocks=5).eval()(torch.zeros(2, 3, *size)).shape == (2, 6)


def test_widths_strides_and_hidden_layers_of_ones_own() -> None:
    model = make(blocks=3, width=8, widths=[8, 16, 24], strides=[2, 1, 2], hidden=[20, 10])
    assert [block.conv1.stride[0] for block in model.blocks] == [2, 1, 2]
    assert [tuple(p.shape) for n, p in model.head.named_parameters() if p.ndim == 2] == [(20, 24), (10, 20), (6, 10)]
    assert model.blocks(model.stem(torch.zeros(1, 3, 16, 16))).shape == (1, 24, 4, 4)
    assert len(make(blocks=0, hidden=[]).blocks) == 0


def test_one_image_a_step_is_refused_in_plain_words() -> None:
    model = make(blocks=2).train()
    with pytest.raises(UserError, match="at least two images"):
        model(torch.zeros(1, 3, 32, 32))
    eager_modes(model, freeze_batch_norm=0.5)(True, 0.6)  # frozen statistics need no batch
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 6)
    assert make(blocks=2, hidden=[]).train()(torch.zeros(1, 3, 32, 32)).shape == (1, 6)


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ({"widths": [8]}, "widths has 1 entries for 8 blocks"),
        ({"strides": [1, 1]}, "strides has 2 entries for 8 blocks"),
        ({"blocks": -1}, "blocks must be at least 0"),
        ({"hidden": [0]}, "must be at least 1"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_impossible_numbers(more: dict[str, object], wanted: str) -> None:
    with pytest.raises(UserError, match=wanted):
        make(**more)
