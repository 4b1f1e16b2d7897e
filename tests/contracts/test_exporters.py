"""What every exporter keeps to; a new file in the room is tested the day it appears."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from limbeck.artifact.load import load
from limbeck.artifact.metadata import Metadata
from limbeck.artifact.preprocess import Preprocess
from limbeck.build import build, names

EXPORTERS = names("exporters")
METADATA = Metadata(
    task="segmentation",
    model="student",
    classes=("road", "Straße"),
    palette=((1, 2, 3), (4, 5, 6)),
    preprocess=Preprocess((24, 32)),
    recipe="0123456789abcdef",
    licences={"data": "CC BY 4.0"},
)


class Net(nn.Module):
    """Training adds noise; evaluation must not."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))

    def forward(self, image):
        logits = self.layer(image)
        return logits + torch.randn_like(logits) if self.training else logits


@pytest.fixture(params=EXPORTERS, scope="module")
def exporter(request):
    return build("exporters", {"kind": request.param}, "export")


@pytest.fixture(scope="module")
def exported(exporter, tmp_path_factory):
    """A network in training mode and its file, alone in a new folder."""
    torch.manual_seed(0)
    network, path = Net().train(), tmp_path_factory.mktemp("export") / "deep" / f"student.fp32{exporter.suffix}"
    exporter(network, torch.zeros(1, 3, 24, 32), path, metadata=METADATA.to_json())
    return network, path


def test_the_network_stays_as_it_is(exported):
    network, _ = exported
    assert all(module.training for module in network.modules())
    assert {parameter.device.type for parameter in network.parameters()} == {"cpu"}


def test_the_file_says_what_it_is(exported):
    _, path = exported
    assert Metadata.read(path) == METADATA


@pytest.mark.parametrize("batch", [1, 3])
def test_the_file_runs_as_the_network_does_in_evaluation(exported, batch):
    network, path = exported
    image = torch.randn(batch, 3, 24, 32)
    expected = copy.deepcopy(network).eval()(image).detach().numpy()
    np.testing.assert_allclose(load(path, threads=1).logits(image.numpy()), expected, atol=1e-5)


def test_nothing_of_this_machine_is_in_it(exported):
    _, path = exported
    here = Path(__file__)
    for words in (here.parents[2], Path.home(), path.parent, "site-packages", ".py", here.stem, "forward"):
        for written in path.parent.iterdir():
            assert str(words).encode() not in written.read_bytes(), written


def test_again_it_is_quiet_and_the_same_bytes(exporter, exported, tmp_path, capfd, recwarn):
    network, path = exported
    exporter(network, torch.zeros(1, 3, 24, 32), tmp_path / path.name, metadata=METADATA.to_json())
    first, second = sorted(path.parent.iterdir()), sorted(tmp_path.iterdir())
    assert [written.name for written in first] == [written.name for written in second]
    assert [written.read_bytes() for written in first] == [written.read_bytes() for written in second]
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list
