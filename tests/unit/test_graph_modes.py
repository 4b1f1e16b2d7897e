import pytest
import torch
from torch import Tensor, nn

from limbeck.graph.capture import capture
from limbeck.graph.fold import fold_batch_norm
from limbeck.graph.modes import record_batch_norm, set_mode
from limbeck.graph.patterns import BATCH_NORM, DROPOUT, calls
from limbeck.record import UserError


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def lively(model: nn.Module) -> nn.Module:
    """Batch norms with statistics, gammas and betas of their own."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for tensor in (module.weight, module.running_var):
                tensor.data.uniform_(0.5, 1.5, generator=generator)
            for tensor in (module.bias, module.running_mean):
                tensor.data.uniform_(-0.5, 0.5, generator=generator)
    return model


def network() -> nn.Module:
    return lively(
        nn.Sequential(
            nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6, eps=1e-3, momentum=0.01), nn.ReLU(), nn.Dropout(0.25),
            nn.Conv2d(6, 6, 3, groups=6), nn.BatchNorm2d(6, eps=0.5), nn.ReLU(inplace=True),
            nn.ConvTranspose2d(6, 4, 2, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4, eps=1e-2),
        )
    )  # fmt: skip


def test_mode_switches_flags_and_nothing_else() -> None:
    graph = capture(network(), noise(2, 3, 12, 12))
    recorded = record_batch_norm(graph)
    set_mode(graph, True)
    assert all(node.args[5] is True for node in calls(graph.graph, BATCH_NORM))
    assert [node.args[1:] for node in calls(graph.graph, DROPOUT)] == [(0.25, True)]
    set_mode(graph, True, frozen_batch_norm=True)
    assert all(node.args[5] is False for node in calls(graph.graph, BATCH_NORM))
    set_mode(graph, False)
    assert [node.args[1:] for node in calls(graph.graph, DROPOUT)] == [(0.25, False)]
    assert record_batch_norm(graph) == recorded
    assert sorted(bn.eps for bn in recorded.values()) == [1e-5, 1e-3, 1e-2, 0.5]


def test_training_mode_trains_like_the_eager_network() -> None:
    model = network()
    model[3] = nn.Identity()
    graph = capture(model, noise(2, 3, 12, 12))
    set_mode(graph, True)
    model.train()
    image = noise(4, 3, 12, 12)
    torch.testing.assert_close(graph(image), model(image))
    eager = dict(model.named_buffers())
    for name, value in graph.named_buffers():
        torch.testing.assert_close(value, eager[name]) if "running" in name else None


def test_folding_keeps_the_function_and_what_cannot_fold() -> None:
    model = network().eval()
    graph = capture(model, noise(2, 3, 12, 12))
    assert fold_batch_norm(graph) == 3
    assert len(calls(graph.graph, BATCH_NORM)) == 1
    image = noise(3, 3, 12, 12)
    torch.testing.assert_close(graph(image), model(image), atol=1e-5, rtol=1e-5)
    names = {name for name, _ in graph.named_parameters()}
    assert {"0.weight", "0.bias", "7.weight", "7.bias", "10.weight"} <= names
    assert "1.weight" not in names


def test_folding_a_linear_layer_and_a_gamma_of_zero() -> None:
    model = lively(nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.BatchNorm1d(5), nn.ReLU())).eval()
    model[2].weight.data[1] = 0
    graph = capture(model, noise(2, 3, 2, 2))
    assert fold_batch_norm(graph) == 1
    image = noise(3, 3, 2, 2)
    torch.testing.assert_close(graph(image), model(image))


def test_a_layer_read_twice_keeps_its_batch_norm() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

        def forward(self, image: Tensor) -> Tensor:
            x = self.conv(image)
            return x + self.norm(x)

    model = lively(Twice()).eval()
    graph = capture(model, noise(2, 3, 4, 4))
    assert fold_batch_norm(graph) == 0
    torch.testing.assert_close(graph(noise(2, 3, 4, 4)), model(noise(2, 3, 4, 4)))


def test_float_check_names_the_difference() -> None:
    from limbeck.graph.fixes import same_as_eager

    same_as_eager(lambda x: x * (1 + 1e-6), lambda x: x, noise(2, 3))
    with pytest.raises(UserError, match=r"differs from the float model by 0\.01"):
        same_as_eager(lambda x: x * 1.01, lambda x: x, noise(2, 3))
    with pytest.raises(UserError, match="nan"):
        same_as_eager(lambda x: x * float("nan"), lambda x: x, noise(2, 3))
