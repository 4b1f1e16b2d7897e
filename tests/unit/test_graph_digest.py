import torch
from torch import nn

from limbeck.graph.capture import capture
from limbeck.graph.digest import first_difference, node_lines, nodes_digest
from limbeck.graph.modes import set_mode


def lines(model: nn.Module, train: bool = False) -> list[str]:
    graph = capture(model, torch.zeros(2, 3, 8, 8))
    set_mode(graph, train)
    return node_lines(graph)


def network(stride: int = 1) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride), nn.BatchNorm2d(4), nn.Dropout(0.1))


def test_weights_and_modes_play_no_part() -> None:
    assert nodes_digest(lines(network())) == nodes_digest(lines(network(), train=True))
    assert first_difference(lines(network()), lines(network())) == ""


def test_first_difference_is_named() -> None:
    assert nodes_digest(lines(network())) != nodes_digest(lines(network(stride=2)))
    difference = first_difference(lines(network()), lines(network(stride=2)))
    assert "aten.conv2d.default" in difference
    assert "[2, 2]" in difference
    assert first_difference(["a"], ["a", "b"]) == "saved 1 nodes, found 2"
