"""Weights: what loads, what is refused and how, and that refusing changes nothing."""

import argparse
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from limbeck.data.tensor_file import read_tensors
from limbeck.data.weight_file import read_metadata, save_weights, state_digest
from limbeck.data.weights import load_tensors, load_weights
from limbeck.record import UserError


class Net(nn.Module):
    """A body, a classifier and, where wanted, an auxiliary head."""

    old_names = ((r"^trunk\.", "body."), (r"\.scale$", ".weight"))

    @classmethod
    def load(cls, state: dict[str, torch.Tensor]) -> "Net":
        net = cls()
        net.load_state_dict(state)
        return net

    def __init__(self, classes: int = 5, aux: bool = False) -> None:
        super().__init__()
        self.body = nn.Sequential(*(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)) for _ in range(6)))
        self.classifier = nn.Conv2d(3, classes, 1)
        if aux:
            self.aux_classifier = nn.Conv2d(3, classes, 1)
        self.aux = {"aux_classifier": 0.4} if aux else {}


@pytest.mark.parametrize("key", ["model_state_dict", "state_dict", "model", "net", "ema", None])
@pytest.mark.parametrize(
    "prefix", ["", "module.", "_orig_mod.", "model.", "module._orig_mod.", "_orig_mod.module.model."]
)
def test_reads_what_training_scripts_write(tmp_path: Path, key: str | None, prefix: str) -> None:
    ours, theirs = Net(), Net()
    state = {prefix + name: value for name, value in theirs.state_dict().items()}
    moments = {"state": {0: {"exp_avg": torch.ones(3)}}}
    scores = {"args": argparse.Namespace(lr=0.1), "best_miou": np.float64(61.5), "matrix": np.eye(3), "epoch": 3}
    torch.save({key: state, "optimizer": moments, **scores} if key else state, tmp_path / "a.pth")
    report = load_weights(ours, tmp_path / "a.pth")
    assert len(report.matched) == len([name for name in theirs.state_dict() if "num_batches" not in name])
    assert torch.equal(ours.body[0][0].weight, theirs.body[0][0].weight)


def test_reads_the_average_of_swa_utils(tmp_path: Path) -> None:
    theirs = Net()
    torch.save(torch.optim.swa_utils.AveragedModel(theirs).state_dict(), tmp_path / "ema.pt")
    assert load_weights(Net(), tmp_path / "ema.pt").unexpected == []


def test_reads_a_hub_folder(tmp_path: Path) -> None:
    theirs, ours = Net(), Net()
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    load_weights(ours, tmp_path)
    assert state_digest(ours) == state_digest(theirs)
    with pytest.raises(UserError, match=r"none of model.safetensors, pytorch_model.bin"):
        load_weights(ours, _folder(tmp_path / "empty"))


def test_reads_a_hub_folder_in_parts(tmp_path: Path) -> None:
    theirs, ours = Net(), Net()
    state = theirs.state_dict()
    parts = {name: f"model-0000{1 + (index > 5)}-of-00002.safetensors" for index, name in enumerate(state)}
    for part in set(parts.values()):
        save_file({name: state[name] for name in state if parts[name] == part}, tmp_path / part)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": parts}))
    load_weights(ours, tmp_path)
    assert state_digest(ours) == state_digest(theirs)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(UserError, match=r"1 of 2 parts are not beside it, first model-00002"):
        load_weights(ours, tmp_path)
    index.write_text("[]")
    with pytest.raises(UserError, match="lists no parts"):
        load_weights(ours, tmp_path)


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def test_translates_old_names() -> None:
    theirs, ours = Net(), Net()
    old = {
        name.replace("body.", "module.trunk.").replace("1.weight", "1.scale"): v
        for name, v in theirs.state_dict().items()
    }
    load_tensors(ours, old, "old")
    assert state_digest(ours) == state_digest(theirs)


def test_loads_half_precision_and_lacking_counters() -> None:
    theirs, ours = Net(), Net()
    state = {n: v.half() for n, v in theirs.state_dict().items() if not n.endswith("num_batches_tracked")}
    report = load_tensors(ours, state, "half")
    assert report.missing == []
    assert ours.classifier.weight.dtype is torch.float32
    torch.testing.assert_close(ours.classifier.weight, theirs.classifier.weight, atol=1e-3, rtol=1e-3)


def test_auxiliary_heads_are_optional_on_both_sides() -> None:
    assert load_tensors(Net(), Net(aux=True).state_dict(), "with").unexpected == [
        "aux_classifier.weight",
        "aux_classifier.bias",
    ]
    assert load_tensors(Net(aux=True), Net().state_dict(), "without").missing == [
        "aux_classifier.weight",
        "aux_classifier.bias",
    ]


def test_other_classes_are_named_and_nothing_is_changed() -> None:
    ours = Net(classes=5)
    before = state_digest(ours)
    with pytest.raises(UserError, match=r"trained for 21 classes, the model has 5") as refused:
        load_tensors(ours, Net(classes=21).state_dict(), "voc.pth")
    assert "classifier.weight [21, 3, 1, 1] instead of [5, 3, 1, 1]" in str(refused.value)
    assert "partial: true" in str(refused.value)
    assert state_digest(ours) == before


def test_partial_loads_what_fits() -> None:
    ours, theirs = Net(classes=5), Net(classes=21)
    report = load_tensors(ours, theirs.state_dict(), "voc.pth", partial=True)
    assert [name for name, _, _ in report.mismatched] == ["classifier.weight", "classifier.bias"]
    assert torch.equal(ours.body[5][1].weight, theirs.body[5][1].weight)
    assert "of another shape, as initialised (2): classifier.weight" in str(report)


def test_fresh_layers_are_accepted_only_where_named() -> None:
    load_tensors(Net(5), Net(21).state_dict(), "voc", fresh=("classifier",))
    lacking = {name: value for name, value in Net(21).state_dict().items() if not name.startswith("body.0.")}
    with pytest.raises(UserError, match=r"body\.0\.0\.weight"):
        load_tensors(Net(5), lacking, "voc", fresh=("classifier", "body.00"))


def test_half_a_match_is_refused_and_lists_eight_names() -> None:
    state = {name.replace("body.", "trunk_of.", 1): value for name, value in Net().state_dict().items()}
    with pytest.raises(UserError, match="only 2 of the model's 38 tensors") as refused:
        load_tensors(Net(), state, "half.pth")
    assert "not in it, as initialised (36): body.0.0.weight" in str(refused.value)
    assert "and 28 more" in str(refused.value)
    assert "another architecture" in str(refused.value)


def test_no_match_is_refused_even_when_partial() -> None:
    with pytest.raises(UserError, match="only 0 of"):
        load_tensors(Net(), {"stem.weight": torch.ones(1)}, "other.pth", partial=True)


def test_quantized_weights_are_refused() -> None:
    state = {name: value.char() if name.endswith("0.weight") else value for name, value in Net().state_dict().items()}
    with pytest.raises(UserError, match=r"torch.int8.*quantized"):
        load_tensors(Net(), state, "int8.pt", partial=True)


def test_a_network_pickled_whole_gives_its_tensors(tmp_path: Path) -> None:
    theirs, ours = Net(), Net()
    theirs.body.register_buffer("passing", torch.ones(1), persistent=False)
    torch.save({"epoch": 3, "model": theirs}, tmp_path / "whole.pt")
    load_weights(ours, tmp_path / "whole.pt")
    assert state_digest(ours) == state_digest(Net.load(theirs.state_dict()))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"version https://git-lfs.github.com/spec/v1\n", b"PK\3\4 broken"]
)
def test_broken_files_are_named(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"broken\.\w+: no"):
        read_tensors(path)


def test_torchscript_is_refused(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(nn.Conv2d(1, 1, 1)).save(str(tmp_path / "script.pt"))
    with pytest.raises(UserError, match="TorchScript"):
        read_tensors(tmp_path / "script.pt")


def test_missing_file_suggests_a_neighbour(tmp_path: Path) -> None:
    (tmp_path / "student.pth").touch()
    with pytest.raises(UserError, match=r"no such file\. Did you mean 'student.pth'"):
        load_weights(Net(), tmp_path / "studnet.pth")
    with pytest.raises(UserError, match="no such file"):
        load_weights(Net(), tmp_path / "no" / "folder.pth")


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {"model": {"epoch": 3}}, torch.ones(2), {0: torch.ones(1)}])
def test_a_file_without_named_tensors_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(UserError, match="no state dict in it"):
        read_tensors(tmp_path / "a.pt")


def test_metadata_round_trip_without_tensors(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "a.safetensors"
    save_weights(Net(), path, {"version": 1, "classes": ["Straße", "sky"], "target": None})
    assert read_metadata(path) == {"version": 1, "classes": ["Straße", "sky"], "target": None}
    header = path.read_bytes()[8 : 8 + int.from_bytes(path.read_bytes()[:8], "little")]
    assert json.loads(json.loads(header)["__metadata__"]["limbeck"])["version"] == 1
    save_file({"a": torch.ones(1)}, tmp_path / "foreign.safetensors")
    assert read_metadata(tmp_path / "foreign.safetensors") == {}
    for name in ("absent.safetensors", "text.safetensors"):
        if name.startswith("text"):
            (tmp_path / name).write_text("hello")
        with pytest.raises(UserError, match="no safetensors file"):
            read_metadata(tmp_path / name)


def test_saving_is_reproducible_and_takes_shared_tensors(tmp_path: Path) -> None:
    net = Net()
    net.classifier.bias = nn.Parameter(net.body[0][0].bias[:1].repeat(5))
    net.body[1][0].weight = net.body[0][0].weight
    for name in "ab":
        save_weights(net, tmp_path / name, {"b": 1, "a": 2})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_digest_sees_every_change() -> None:
    net = Net()
    before = state_digest(net)
    assert state_digest(net) == before
    net.body[3][1].running_mean.add_(1e-7)
    assert state_digest(net) != before
    assert state_digest(Net().bfloat16()) != state_digest(Net().half())
