import pytest
import torch
from torch import Tensor, nn

from limbeck.graph.capture import capture
from limbeck.graph.modes import set_mode
from limbeck.record import UserError


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Block(nn.Module):
    """Writes in place, reads what was written, and drops paths while training."""

    def __init__(self, drop: nn.Module | None = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.act = nn.Hardswish(inplace=True)
        self.drop = drop or nn.Dropout(0.3)

    def forward(self, image: Tensor) -> Tensor:
        x = self.conv(image)
        y = self.act(x)
        y += self.drop(image)
        return y * x


class Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Module()
        self.inner.forward = lambda x: x + torch.rand_like(x)  # type: ignore[method-assign]

    def forward(self, image: Tensor) -> Tensor:
        return self.inner(image)


def test_graph_computes_what_the_model_computes_for_any_batch() -> None:
    model = Block().eval()
    graph = capture(model, noise(2, 3, 8, 8))
    for batch in (1, 3):
        image = noise(batch, 3, 8, 8, seed=batch)
        assert torch.equal(graph(image), model(image))


def test_in_place_calls_become_pure_and_later_readers_still_see_the_write() -> None:
    graph = capture(Block(), noise(2, 3, 8, 8))
    names = [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]
    assert not [name for name in names if name.split(".")[1].endswith("_")]
    assert names.count("aten.hardswish.default") == 1


def test_callers_model_is_left_alone() -> None:
    model = Block().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    capture(model, noise(2, 3, 8, 8))
    assert model.training
    assert all(module.training for module in model.modules())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_stochastic_depth_is_left_out_even_of_a_training_graph() -> None:
    torchvision = pytest.importorskip("torchvision")
    model = Block(torchvision.ops.StochasticDepth(0.9, "row"))
    graph = capture(model.train(), noise(2, 3, 8, 8))
    set_mode(graph, True)
    image = noise(4, 3, 8, 8)
    assert torch.equal(graph(image), model.eval()(image))


def test_two_runs_of_a_segformer_are_equal() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.SegformerConfig(
        hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], decoder_hidden_size=8, drop_path_rate=0.5, num_labels=3
    )

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = transformers.SegformerForSemanticSegmentation(config)

        def forward(self, image: Tensor) -> Tensor:
            logits: Tensor = self.net(pixel_values=image).logits
            return logits

    graph = capture(Logits().train(), noise(2, 3, 32, 32))
    image = noise(1, 3, 32, 32)
    assert torch.equal(graph(image), graph(image))


@pytest.mark.parametrize(
    ("model", "images", "message"),
    [
        (Block(), 1, "at least 2"),
        (Noisy(), 2, "rand_like"),
    ],
)
def test_refuses(model: nn.Module, images: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        capture(model, noise(images, 3, 8, 8))


def test_refuses_more_than_one_output() -> None:
    class Two(nn.Module):
        def forward(self, image: Tensor) -> dict[str, Tensor]:
            return {"out": image, "aux": image + 1}

    with pytest.raises(UserError, match="returns 2 values"):
        capture(Two(), noise(2, 3, 8, 8))


def test_names_what_cannot_be_exported() -> None:
    class Looks(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return image if image.sum() > 0 else -image

    with pytest.raises(UserError, match="cannot export Looks"):
        capture(Looks(), noise(2, 3, 8, 8))
