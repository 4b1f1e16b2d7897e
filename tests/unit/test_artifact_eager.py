import numpy as np
import pytest
import torch

from limbeck.artifact.load import load
from limbeck.artifact.metadata import Metadata
from limbeck.artifact.preprocess import Preprocess
from limbeck.build import find
from limbeck.data.weight_file import save_weights
from limbeck.record import UserError

MODEL = """
import torch
from torch import nn

def build(*, num_classes: int, width: int = 4, pretrained: str | None = None) -> nn.Module:
    stem = [nn.Conv2d(3, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*stem, nn.Dropout(0.5), nn.Conv2d(width, num_classes, 1))
"""

QUANTIZER = """
import torch
from torch import nn

class Halve:
    def __init__(self, by: float = 2.0) -> None:
        self.by = by

    def restore(self, model, tensors, manifest, example):
        assert tuple(example.shape) == (2, 3, 16, 32)
        assert manifest == {"nodes": 1} and not model.training
        model.load_state_dict({name.removeprefix("float."): value for name, value in tensors.items()})
        return model

    def convert(self, prepared):
        by = self.by
        class Halved(nn.Module):
            def forward(self, image):
                return prepared(image) / by
        return Halved()
"""


@pytest.fixture
def file(tmp_path):
    """A weight file whose architecture is a user's own, and the network it was made of."""
    (tmp_path / "net.py").write_text(MODEL)
    (tmp_path / "quantizer.py").write_text(QUANTIZER)
    network = find("models", "./net.py:build", "test", tmp_path)(num_classes=5, width=6).eval()
    network[1].running_mean.normal_()
    return save(tmp_path / "student.safetensors", network), network


def save(path, network, **changes):
    fields = {
        "task": "segmentation",
        "model": "student",
        "classes": tuple("abcde"),
        "palette": tuple((i, i, i) for i in range(5)),
        "preprocess": Preprocess((12, 32), multiple=16),
        "architecture": {"kind": "./net.py:build", "width": 6, "num_classes": 5},
    }
    save_weights(network, path, Metadata(**fields | changes).to_json())
    return path


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def image(n=2):
    return np.random.default_rng(0).normal(size=(n, 3, 16, 32)).astype(np.float32)


def test_logits_are_the_networks_own(file):
    path, network = file
    predictor = load(path, threads=1, root=path.parent)
    with torch.no_grad():
        expected = network(torch.from_numpy(image())).numpy()
    logits = predictor.logits(image())
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    assert np.array_equal(logits, predictor.logits(image()))
    assert logits.flags.c_contiguous
    assert predictor.info["threads"] == 1 == torch.get_num_threads()
    assert predictor.info["inference_precision"] == "fp32"
    assert predictor.info["simulated"] is False
    assert predictor.classes == tuple("abcde")


def test_bf16_is_near_and_comes_back_as_float32(file):
    path, _ = file
    full, half = (load(path, threads=1, precision=name, root=path.parent).logits(image()) for name in ("fp32", "bf16"))
    assert half.dtype == np.float32
    assert not np.array_equal(half, full)
    np.testing.assert_allclose(half, full, atol=0.1)


def test_an_integer_file_goes_through_its_quantizer(file):
    path, network = file
    integer = save(
        path.with_name("student.int8.safetensors"),
        network,
        precision="int8",
        quantizer={"kind": "./quantizer.py:Halve", "by": 4.0},
        manifest={"nodes": 1},
    )
    predictor = load(integer, threads=1, root=path.parent)
    with torch.no_grad():
        expected = network(torch.from_numpy(image())).numpy() / 4
    np.testing.assert_allclose(predictor.logits(image()), expected, atol=1e-5)
    assert predictor.info["simulated"] is True
    with pytest.raises(UserError, match="runs in 'fp32' only"):
        load(integer, precision="bf16", root=path.parent)


def test_a_file_does_not_choose_the_code_that_runs(file):
    path, network = file
    with pytest.raises(UserError, match=r"needs '\./net\.py:build'; if you trust it"):
        load(path)
    evil = save(path.with_name("evil.safetensors"), network, architecture={"kind": "os:system", "command": "true"})
    with pytest.raises(UserError, match="needs 'os:system'"):
        load(evil)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"precision": "int4"}, "cannot run a file in 'int4'; use fp32 or bf16"),
        ({"device": "tpu"}, "no device 'tpu'; it has cpu and cuda"),
        ({"device": "cuda:99"}, "no device 'cuda:99' here"),
    ],
)
def test_what_there_is_not(file, arguments, message):
    path, _ = file
    with pytest.raises(UserError, match=message):
        load(path, root=path.parent, **arguments)


def test_weights_must_fit_and_say_what_they_are(file):
    path, network = file
    other = save(
        path.with_name("other.safetensors"),
        network,
        architecture={"kind": "./net.py:build", "width": 8, "num_classes": 5},
    )
    with pytest.raises(UserError, match="tensors are in it; nothing was loaded"):
        load(other, root=path.parent)
    silent = save(path.with_name("silent.safetensors"), network, architecture=None)
    with pytest.raises(UserError, match="says nothing of its weights' architecture"):
        load(silent, root=path.parent)
