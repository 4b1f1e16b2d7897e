"""Every file of the models room keeps the room's contract; a new file is tested the day it appears."""

import copy
import functools
import importlib
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck.build import build, names
from limbeck.data.weight_file import read_metadata, save_weights, state_digest
from limbeck.data.weights import load_weights
from limbeck.graph.network import without_aux

CLASSES = 7
EVEN, ODD = (64, 96), (65, 97)
HEAVY = {"sceneseg", "pspnet", "upernet_swin"}
"""Networks of 40 million parameters and more take minutes here; their own tests are short."""


def _gives_maps(kind: str) -> bool:
    """A file whose networks give one class an image says ``TASK = "classification"``."""
    return getattr(importlib.import_module(f"limbeck.models.{kind}"), "TASK", "segmentation") == "segmentation"


@functools.cache
def _built(kind: str) -> nn.Module:
    return build("models", {"kind": kind}, "student", num_classes=CLASSES, pretrained=None, root=None)


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def _marked(kind: str) -> Any:
    return pytest.param(kind, marks=pytest.mark.slow) if kind in HEAVY else kind


@pytest.fixture(params=[_marked(kind) for kind in names("models")])
def model(request: pytest.FixtureRequest) -> nn.Module:
    """A model of each kind with its default arguments, in inference mode; only copies of it may be changed."""
    return _built(request.param).eval()


def _image(n: int = 2, size: tuple[int, int] = EVEN) -> Tensor:
    return torch.randn(n, 3, *size)


def _seen(model: nn.Module, paths: list[str]) -> dict[str, Tensor]:
    """What the submodules at ``paths`` give in one forward pass."""
    found: dict[str, Tensor] = {}
    hooks = [
        model.get_submodule(path).register_forward_hook(lambda _m, _i, out, path=path: found.__setitem__(path, out))
        for path in paths
    ]
    model(_image())
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize("kind", [_marked(kind) for kind in names("models")])
def test_logits_are_one_tensor_at_a_whole_stride(kind: str) -> None:
    model = _built(kind).eval()
    with torch.no_grad():
        even, odd = model(_image()), model(_image(size=ODD))
    assert torch.isfinite(odd).all()
    if not _gives_maps(kind):
        assert tuple(even.shape) == tuple(odd.shape) == (2, CLASSES)
        return
    stride = EVEN[0] // even.shape[-2]
    assert tuple(even.shape) == (2, CLASSES, EVEN[0] // stride, EVEN[1] // stride)
    assert tuple(odd.shape) == (2, CLASSES, -(-ODD[0] // stride), -(-ODD[1] // stride))


def test_normalisation_is_three_numbers_each(model: nn.Module) -> None:
    assert len(model.mean) == len(model.std) == 3
    assert all(isinstance(number, float) and number > 0 for number in (*model.mean, *model.std))


def test_auxiliary_heads_run_in_training_only(model: nn.Module) -> None:
    trained = copy.deepcopy(model).train()
    seen = _seen(trained, list(trained.aux))
    assert set(seen) == set(trained.aux)
    for path, head in seen.items():  # a head with a task loss of its own has channels of its own
        assert head.shape[0] == 2
        assert head.shape[1] == CLASSES or isinstance(trained.aux[path], Mapping)
    assert isinstance(trained(_image()), Tensor)
    assert _seen(trained.eval(), list(trained.aux)) == {}


def test_training_reaches_every_parameter(model: nn.Module) -> None:
    trained = copy.deepcopy(model).train()
    seen = _seen(trained, list(trained.aux))
    (trained(_image()).square().mean() + sum(head.square().mean() for head in seen.values())).backward()
    assert [name for name, parameter in trained.named_parameters() if parameter.grad is None] == []


def test_inference_is_deterministic(model: nn.Module) -> None:
    trained = copy.deepcopy(model).train()
    trained(_image())
    image = _image()
    with torch.no_grad():
        assert torch.equal(trained.eval()(image), trained(image))


def test_batch_does_not_matter_in_inference(model: nn.Module) -> None:
    image = _image(3)
    with torch.no_grad():
        together, alone = model(image)[1:2], model(image[1:2])
    scale = float(alone.abs().max().clamp(min=1))  # of logits of networks that start without training
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4 * scale)


def test_exported_graph_equals_eager(model: nn.Module) -> None:
    batch = {0: torch.export.Dim("n", min=1, max=64)}
    graph = torch.export.export(model, (_image(size=ODD),), dynamic_shapes=(batch,), strict=False).module()
    image = _image(3, ODD)
    with torch.no_grad():
        torch.testing.assert_close(graph(image), model(image), rtol=0, atol=1e-5)


def test_training_form_exports(model: nn.Module) -> None:
    batch = {0: torch.export.Dim("n", min=1, max=64)}
    trained = copy.deepcopy(model).train()
    graph = torch.export.export(trained, (_image(),), dynamic_shapes=(batch,), strict=False).module()
    assert graph(_image(3)).shape[:2] == (3, CLASSES)


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True])
def test_exports_strictly(model: nn.Module, training: bool) -> None:
    batch = {0: torch.export.Dim("n", min=1, max=64)}
    traced = copy.deepcopy(model).train(training)
    assert torch.export.export(traced, (_image(),), dynamic_shapes=(batch,), strict=True)


def test_copy_is_independent(model: nn.Module) -> None:
    twin = copy.deepcopy(model)
    assert (twin.aux, twin.mean, twin.std) == (model.aux, model.mean, model.std)
    before = state_digest(model)
    with torch.no_grad():
        next(twin.parameters()).add_(1)
    assert state_digest(twin) != before == state_digest(model)


def test_weights_survive_a_file(model: nn.Module, tmp_path) -> None:
    save_weights(model, tmp_path / "a.safetensors", {"version": 1, "classes": ["ä"] * CLASSES})
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    report = load_weights(other, tmp_path / "a.safetensors")
    assert (report.missing, report.unexpected, report.mismatched) == ([], [], [])
    assert state_digest(other) == state_digest(model)
    assert read_metadata(tmp_path / "a.safetensors") == {"version": 1, "classes": ["ä"] * CLASSES}


def test_lives_without_auxiliary_heads(model: nn.Module, tmp_path) -> None:
    bare = without_aux(model)
    assert bare.aux == {}
    assert not any(name.startswith(tuple(f"{head}." for head in model.aux)) for name in bare.state_dict() if model.aux)
    image = _image()
    with torch.no_grad():
        assert torch.equal(bare(image), model(image))
    assert isinstance(bare.train()(image), Tensor)
    save_weights(bare, tmp_path / "bare.safetensors", {})
    load_weights(copy.deepcopy(model), tmp_path / "bare.safetensors")


@pytest.mark.parametrize("kind", names("models"))
def test_architecture_builds_it_again(kind: str) -> None:
    spec = getattr(_built(kind), "architecture", {"kind": kind})
    with torch.device("meta"):
        again = build("models", spec, "again", num_classes=CLASSES, pretrained=None, root=None)
    assert {n: v.shape for n, v in again.state_dict().items()} == {
        n: v.shape for n, v in _built(kind).state_dict().items()
    }
