"""Weights for the encoder alone: which part they go to, under which names they come, what is refused."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models import resnet18, resnet34

from limbeck.build import build
from limbeck.data.weight_file import state_digest
from limbeck.data.weights import encoder_parts, load_backbone
from limbeck.recipe import read
from limbeck.record import UserError
from limbeck.stages.context import Context
from limbeck.stages.plan import plan

SMP = {"kind": "smp", "arch": "fpn", "encoder": "resnet18"}


def _built(**spec: object) -> nn.Module:
    return build("models", spec, "student", num_classes=4, pretrained=None, root=None)


@pytest.mark.parametrize("prefix", ["", "backbone.", "encoder.", "module.backbone.", "model.encoder."])
def test_a_library_s_classifier_fills_the_encoder(prefix: str) -> None:
    classifier, ours = resnet18(), _built(**SMP)
    head = state_digest(ours.segmentation_head)
    report = load_backbone(ours, {prefix + n: v for n, v in classifier.state_dict().items()}, "resnet18.pth")
    assert torch.equal(ours.encoder.layer4[1].conv2.weight, classifier.layer4[1].conv2.weight)
    assert torch.equal(ours.encoder.bn1.running_var, classifier.bn1.running_var)
    assert (report.missing, report.mismatched, report.unexpected) == ([], [], [])
    assert state_digest(ours.segmentation_head) == head


def test_a_mobilenet_classifier_and_a_segmenter_fill_a_backbone() -> None:
    from torchvision.models import mobilenet_v3_large

    classifier, ours = mobilenet_v3_large(), _built(kind="lightweight_deeplabv3")
    load_backbone(ours, classifier.state_dict(), "mobilenet.pth")
    assert torch.equal(ours.backbone["16"][0].weight, classifier.features[16][0].weight)
    other = _built(kind="lightweight_deeplabv3")
    load_backbone(other, ours.state_dict(), "whole.pth")
    assert state_digest(other.backbone) == state_digest(ours.backbone)
    assert state_digest(other.classifier) != state_digest(ours.classifier)


def test_an_encoder_of_transformers_fills_a_segformer() -> None:
    from transformers import SegformerConfig, SegformerForImageClassification

    classifier, ours = SegformerForImageClassification(SegformerConfig(num_labels=1000)), _built(kind="segformer")
    assert encoder_parts(ours) == ("segformer",)
    load_backbone(ours, classifier.state_dict(), "mit-b0")
    assert torch.equal(ours.segformer.stages[2].patch_embeddings.proj.weight,
                       classifier.segformer.stages[2].patch_embeddings.proj.weight)  # fmt: skip


def test_a_deeper_encoder_is_another_one() -> None:
    """A ResNet-34 holds every tensor of a ResNet-18, of the same shape: loading them would be an accident."""
    with pytest.raises(UserError, match=r"in it, but not in the model .*encoder\.layer1\.2\.conv1"):
        load_backbone(_built(**SMP), resnet34().state_dict(), "resnet34.pth")
    with pytest.raises(UserError, match=r"not in it, as initialised .*encoder\.layer1\.2\.conv1"):
        load_backbone(_built(**SMP | {"encoder": "resnet34"}), resnet18().state_dict(), "resnet18.pth")
    report = load_backbone(_built(**SMP), resnet34().state_dict(), "resnet34.pth", partial=True)
    assert len(report.matched) == 100  # of a ResNet-18: 62 parameters less 2 of its classifier, 40 statistics


def test_nothing_that_matches_is_an_error_even_where_part_is_enough() -> None:
    ours = _built(**SMP)
    before = state_digest(ours)
    with pytest.raises(UserError, match="only 0 of"):
        load_backbone(ours, {"stem.weight": torch.ones(1)}, "other.pth", partial=True)
    assert state_digest(ours) == before


def test_a_network_says_what_its_encoder_is_called() -> None:
    net = nn.ModuleDict({"stem": nn.Conv2d(3, 4, 3), "head": nn.Conv2d(4, 2, 1)})
    with pytest.raises(UserError, match="encoder_path"):
        load_backbone(net, nn.Conv2d(3, 4, 3).state_dict(), "stem.pth")
    net.encoder_path = "stem"
    stem = nn.Conv2d(3, 4, 3)
    load_backbone(net, stem.state_dict(), "stem.pth")
    assert torch.equal(net["stem"].weight, stem.weight)


@pytest.mark.parametrize(
    ("spec", "head"),
    [
        ({"kind": "ddrnet23_slim"}, ("pyramid", "head", "aux_head")),
        ({"kind": "pidnet_s"}, ("pyramid", "fuse", "head", "aux_head", "aux_boundary")),
        ({"kind": "residual_cnn", "blocks": 2}, ("head",)),
        ({"kind": "timm", "arch": "vit_tiny_patch16_224"}, ("head",)),
        ({"kind": "torchvision_classifier", "arch": "resnet18"}, ("fc",)),
        ({"kind": "compact_unet"}, ("lateral", "decoder", "classifier")),
        ({"kind": "upernet_swin"}, ("decode_head", "auxiliary_head")),
        ({"kind": "pspnet"}, ("decode_head", "auxiliary_head")),
        ({"kind": "sceneseg"}, ("context", "neck", "head")),
    ],
)
def test_all_but_the_head_comes_from_a_network_of_other_classes(spec: dict[str, object], head: tuple[str, ...]) -> None:
    ours, theirs = _built(**spec), build("models", spec, "student", num_classes=7, pretrained=None, root=None)
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    load_backbone(ours, theirs.state_dict(), "other.pth")
    source = theirs.state_dict()
    for name, value in ours.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            expected = before if name.partition(".")[0] in head else source
            assert torch.equal(value, expected[name]), name


RECIPE = """
name: mine
data: {kind: scenes, size: [48, 64], training: 4, validation: 2, batch: 2}
student: {kind: smp, arch: fpn, encoder: resnet18, backbone_weights: body.pth}
train: {steps: 1}
bench: null
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    torch.save(resnet18().state_dict(), tmp_path / "body.pth")
    (tmp_path / "r.yaml").write_text(RECIPE)
    return tmp_path / "r.yaml"


def test_the_recipe_s_key_loads_and_says_so(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    context = Context(read(recipe), tmp_path / "run")
    section = context.recipe.student
    model = context.network(section, context.recipe.place / "student", 4)
    context.weigh(model, section, context.recipe.place / "student")
    body = torch.load(tmp_path / "body.pth", weights_only=True)
    assert torch.equal(model.encoder.conv1.weight, body["conv1.weight"])
    assert "body.pth (encoder): 100 of 100 tensors loaded" in capsys.readouterr().err


def test_the_file_counts_by_its_content(recipe: Path, tmp_path: Path) -> None:
    def fingerprint() -> str:
        return plan(Context(read(recipe), tmp_path / "run"))["student"].fingerprint

    before = fingerprint()
    assert fingerprint() == before
    torch.save(resnet18().state_dict(), tmp_path / "body.pth")
    assert fingerprint() != before


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("none.pth", "no such file"),
        ("ResNet18_Wights.DEFAULT", "no such folder"),
        ("ResNet19_Weights.DEFAULT", r"no weights of this name\. Did you mean 'ResNet1?\d+_Weights'"),
        ("ResNet18_Weights.NONE", "no weights of this name"),
    ],
)
def test_a_source_that_is_none(recipe: Path, tmp_path: Path, source: str, message: str) -> None:
    context = Context(read(recipe, [f"student.backbone_weights={source}"]), tmp_path / "run")
    with pytest.raises(UserError, match=message):
        context.weigh(_built(**SMP), context.recipe.student, context.recipe.place / "student")


def test_weights_would_overwrite_it(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="weights would overwrite backbone_weights"):
        read(recipe, ["student.weights=body.pth"])
    assert read(recipe, ["student.weights=body.pth", "student.partial=true"]).student.partial
