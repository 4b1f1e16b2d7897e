"""Biases on the grid that runtimes add them on."""

import torch
from torch import nn

from limbeck.graph.fixes import biases_on_grid
from limbeck.graph.modes import set_mode
from limbeck.graph.ranges import freeze_observers, observe
from limbeck.quantizers.pt2e import Pt2e


def prepared(target: str) -> torch.fx.GraphModule:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1)
    )
    graph = Pt2e(target).prepare(net.eval(), torch.randn(2, 3, 16, 16))  # type: ignore[arg-type]
    set_mode(graph, False)
    observe(graph)
    graph(torch.randn(4, 3, 16, 16))
    freeze_observers(graph)
    return graph


def test_each_bias_is_a_whole_number_of_steps() -> None:
    graph = prepared("openvino")
    before = {name: value.clone() for name, value in graph.named_parameters() if name.endswith("bias")}
    assert biases_on_grid(graph) == 3
    parts = dict(graph.named_modules())
    for node in graph.graph.nodes:
        if node.target is torch.ops.aten.conv2d.default:
            name = str(node.args[2].target)
            bias = graph.get_parameter(name)
            step = parts[str(node.args[0].target)].scale * parts[str(node.args[1].target)].scale
            torch.testing.assert_close(bias / step, torch.round(bias / step), atol=1e-2, rtol=0)
            assert ((bias - before[name]).abs() <= step / 2 + 1e-9).all()


def test_doing_it_twice_changes_nothing() -> None:
    graph = prepared("openvino")
    biases_on_grid(graph)
    once = {name: value.clone() for name, value in graph.named_parameters()}
    biases_on_grid(graph)
    for name, value in graph.named_parameters():
        torch.testing.assert_close(value, once[name], atol=1e-9, rtol=1e-6)


def test_float_layers_keep_theirs() -> None:
    graph = prepared("onnxruntime")  # the last layer makes the output and stays float
    assert biases_on_grid(graph) == 2


def test_a_sum_inside_a_convolution_is_not_rounded_before_it() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.body, self.head = nn.Conv2d(3, 8, 3, 1, 1), nn.Conv2d(8, 8, 3, 1, 1), nn.Conv2d(8, 4, 1)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            x = self.stem(image).relu()
            return self.head((self.body(x) + x).relu())

    def inputs_of_sum(target: str) -> list[str]:
        graph = Pt2e(target).prepare(Residual().eval(), torch.randn(2, 3, 16, 16))  # type: ignore[arg-type]
        (total,) = [node for node in graph.graph.nodes if node.target is torch.ops.aten.add.Tensor]
        return [node.op for node in total.args]

    assert inputs_of_sum("openvino") == ["call_function", "call_module"]
    assert inputs_of_sum("onnxruntime") == ["call_module", "call_module"]
