"""SegFormer: transformers' numbers, its files of all ages, and refusals before a download."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import SegformerConfig, SegformerForImageClassification, SegformerForSemanticSegmentation

from limbeck.data.weights import load_weights
from limbeck.models.segformer import SIZES, segformer
from limbeck.record import UserError

CLASSES = 5


@pytest.fixture(scope="module")
def original() -> SegformerForSemanticSegmentation:
    """A B0 as transformers builds it, with statistics that are not those of a new batch norm."""
    torch.manual_seed(0)
    net = SegformerForSemanticSegmentation(SegformerConfig(num_labels=CLASSES)).eval()
    net.decode_head.batch_norm.running_mean.normal_()
    return net


@pytest.fixture(scope="module")
def folder(original: SegformerForSemanticSegmentation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The original as a hub folder."""
    path = tmp_path_factory.mktemp("hub") / "b0"
    original.save_pretrained(path)
    (path / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.25] * 3}))
    return path


def test_files_on_the_hub_use_the_old_names(folder: Path) -> None:
    """What the translation is for; if this fails, transformers writes other names now."""
    assert "segformer.encoder.block.0.0.attention.self.query.weight" in load_file(folder / "model.safetensors")


def test_logits_are_transformers_at_any_size(original: SegformerForSemanticSegmentation, folder: Path) -> None:
    ours = segformer(num_classes=CLASSES, pretrained=str(folder)).eval()
    assert (ours.loaded.missing, ours.loaded.unexpected, ours.loaded.mismatched) == ([], [], [])
    for size in ((64, 96), (65, 97), (47, 33)):
        image = torch.randn(2, 3, *size)
        with torch.no_grad():
            torch.testing.assert_close(ours(image), original(image).logits, rtol=0, atol=1e-5)


def test_mean_and_std_come_with_the_checkpoint(folder: Path) -> None:
    ours = segformer(num_classes=CLASSES, pretrained=folder.name, root=folder.parent)
    assert (ours.mean, ours.std) == ((0.5,) * 3, (0.25,) * 3)


def test_old_and_new_names_load_as_a_weight_file(
    original: SegformerForSemanticSegmentation, folder: Path, tmp_path: Path
) -> None:
    torch.save({"state_dict": original.state_dict()}, tmp_path / "new.pth")
    for path in (folder, tmp_path / "new.pth"):
        ours = segformer(num_classes=CLASSES)
        load_weights(ours, path)
        stage = ours.segformer.stages[3].blocks[1].mlp.fc2.weight
        assert torch.equal(stage, original.segformer.stages[3].blocks[1].mlp.fc2.weight)


def test_other_classes_start_the_last_layer_afresh(folder: Path) -> None:
    ours = segformer(num_classes=9, pretrained=str(folder))
    assert [name for name, _, _ in ours.loaded.mismatched] == [
        "decode_head.classifier.weight",
        "decode_head.classifier.bias",
    ]


def test_an_encoder_alone_starts_the_decoder_afresh(tmp_path: Path) -> None:
    encoder = SegformerForImageClassification(SegformerConfig(num_labels=1000))
    encoder.save_pretrained(tmp_path)
    ours = segformer(num_classes=CLASSES, pretrained=str(tmp_path))
    assert all(name.startswith("decode_head.") for name in ours.loaded.missing)
    assert (ours.loaded.unexpected, ours.loaded.mismatched) == ([], [])
    fused = ours.segformer.stages[0].blocks[0].attention.sequence_reduction.sequence_reduction.weight
    theirs = encoder.segformer.stages[0].blocks[0].attention.sequence_reduction.sequence_reduction.weight
    assert torch.equal(fused, theirs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depths": [3, 4, 6, 3], "hidden_sizes": [64, 128, 320, 512]}, "write `size: b2`"),
        ({"depths": [1, 1, 1, 1]}, "none of b0, b1"),
        ({"hidden_act": "relu"}, "hidden_act is relu, B0 to B5 have gelu"),
        ({"model_type": "upernet"}, "'upernet', not 'segformer'"),
    ],
)
def test_other_sizes_are_refused_by_their_configuration(
    folder: Path, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    config = json.loads((folder / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=message):
        segformer(num_classes=CLASSES, pretrained=str(tmp_path))


def test_a_pickle_alone_is_not_enough(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"no model.safetensors.*pytorch_model.bin"):
        segformer(num_classes=CLASSES, pretrained=str(tmp_path))


def test_without_network_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="hf download somebody/never-there --local-dir"):
        segformer(num_classes=CLASSES, pretrained="somebody/never-there", root=tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        segformer(num_classes=CLASSES, pretrained="./a/folder/that/is/not", root=tmp_path)


def test_stochastic_depth_is_off_in_inference() -> None:
    model = segformer(num_classes=CLASSES).eval()
    dropping = [module for module in model.modules() if type(module).__name__ == "SegformerDropPath"]
    assert len(dropping) == 7  # all but the first of eight blocks
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(image), model(image))
        assert not torch.equal(model.train()(image), model(image))


@pytest.mark.parametrize(("size", "millions"), [*zip(SIZES, [3.8, 13.7, 27.5, 47.3, 64.1, 84.7], strict=True)])
def test_parameters_are_those_of_the_paper(size: str, millions: float) -> None:
    """Table 1 of Xie et al. 2021 (encoder and decoder, ADE20K's 150 classes), to a tenth of a million."""
    with torch.device("meta"):
        model: nn.Module = segformer(num_classes=150, size=size)
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)
