"""Networks of the user's own: what they may return, one channel for a sigmoid, other channels than three."""

import json
import os
from collections import UserDict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from limbeck.artifact.preprocess import Preprocess
from limbeck.data.pairs import read_image
from limbeck.data.sample import Sample
from limbeck.data.transforms import Augmentation
from limbeck.graph.network import as_logits, with_channels
from limbeck.recipe import Augment, Resize, read
from limbeck.record import UserError
from limbeck.run import run
from limbeck.stages.context import Context


class Returning(nn.Module):
    """Gives what it was told to, made of its input."""

    def __init__(self, form: object) -> None:
        super().__init__()
        self.form = form

    def forward(self, image: Tensor) -> object:
        return self.form(image)


@pytest.mark.parametrize(
    "form",
    [
        lambda x: x, lambda x: [x, x + 1], lambda x: (x,), lambda x: {"out": x, "aux": x + 1},
        lambda x: {"logits": x, "loss": None}, lambda x: {"segmentation": x, "names": ["a"]},
        lambda x: SimpleNamespace(logits=x), lambda x: [{"out": x}], lambda x: UserDict(logits=x, extra=x + 1),
    ],
)  # fmt: skip
def test_what_a_network_may_return(form: object) -> None:
    image = torch.randn(2, 3, 4, 5)
    assert torch.equal(as_logits(Returning(form))(image), image)


@pytest.mark.parametrize("form", [lambda x: {"a": x, "b": x}, lambda x: [], lambda x: 3, lambda x: {"out": 3}])
def test_what_is_no_logits_is_refused(form: object) -> None:
    with pytest.raises(UserError, match="returns"):
        as_logits(Returning(form))(torch.randn(2, 3, 4, 5))


@pytest.mark.parametrize("shape", [(2, 1, 4, 5), (2, 1)])
def test_one_channel_for_a_sigmoid_becomes_two_classes(shape: tuple[int, ...]) -> None:
    z = torch.randn(shape)
    logits = as_logits(Returning(lambda x: x))(z)
    assert logits.shape[1] == 2
    torch.testing.assert_close(logits.softmax(1)[:, 1], z.sigmoid()[:, 0])
    labels = (z[:, 0] > 0).long()
    torch.testing.assert_close(
        nn.functional.cross_entropy(logits, labels),
        nn.functional.binary_cross_entropy_with_logits(z[:, 0], labels.float()),
    )


@pytest.mark.parametrize(
    ("mean", "message"), [((), "is empty"), (0.5, "a list of numbers"), ((0.5,), "each needs one")]
)
def test_normalisation_that_cannot_be(mean: object, message: str) -> None:
    net = Returning(lambda x: x)
    net.mean = mean
    with pytest.raises(UserError, match=message):
        as_logits(net)


def test_grey_is_pillow_s_and_alpha_is_opaque_where_there_is_none(picture) -> None:
    image = picture(9, 7)
    grey = Preprocess((9, 7), mean=(0.0,), std=(1.0,))
    expected = np.asarray(Image.fromarray(image).convert("L"))
    np.testing.assert_allclose(grey(image)[0] * 255, expected, atol=1e-4)
    with_alpha = np.dstack([image, np.full((9, 7, 1), 30, np.uint8)])
    np.testing.assert_array_equal(grey(with_alpha), grey(image))
    four = Preprocess((9, 7), mean=(0.0,) * 4, std=(1.0,) * 4)
    np.testing.assert_allclose(four(image)[3], 1)
    np.testing.assert_allclose(four(with_alpha)[3] * 255, 30, atol=1e-4)
    batch = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    np.testing.assert_allclose(with_channels(batch, 1)[0, 0] * 255, expected, atol=0.51)  # Pillow rounds
    assert torch.equal(with_channels(with_channels(batch, 4), 3), batch)
    with pytest.raises(UserError, match="2 channels, the network takes 3"):
        with_channels(batch[:, :2], 3)
    with pytest.raises(ValueError, match=r"\[h, w, 5\]"):
        Preprocess((9, 7), mean=(0.0,) * 5, std=(1.0,) * 5)(image)


def test_alpha_does_not_mix_into_the_colours(picture) -> None:
    """A resize that weighs colours by alpha would lose those of transparent pixels."""
    image = picture(40, 60)
    clear = np.dstack([image, np.zeros((40, 60, 1), np.uint8)])
    three = Preprocess((20, 30), mean=(0.0,) * 3, std=(1.0,) * 3)
    four = Preprocess((20, 30), mean=(0.0,) * 4, std=(1.0,) * 4)
    np.testing.assert_array_equal(four(clear)[:3], three(image))
    assert not four(clear)[3].any()


def test_alpha_is_read(tmp_path: Path, picture) -> None:
    image = np.dstack([picture(8, 9), np.arange(72, dtype=np.uint8).reshape(8, 9, 1)])
    Image.fromarray(image).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", alpha=True), image)
    assert read_image(tmp_path / "a.png").shape == (8, 9, 3)


@pytest.mark.parametrize("channels", [4, 6])
def test_augmentation_leaves_further_channels_to_geometry(picture, channels: int) -> None:
    image = np.dstack([picture(16, 24), picture(16, 24, seed=1)])[..., :channels]
    augment = Augment(color=0.5, scale=(0.5, 0.5), photometric=True)
    found, _ = Augmentation((16, 24), Resize(), augment)(Sample(image, None, "a"), torch.Generator().manual_seed(0))
    assert found.shape == (channels, 16, 24)
    plain, _ = Augmentation((16, 24), Resize(), Augment(scale=(0.5, 0.5)))(
        Sample(image, None, "a"), torch.Generator().manual_seed(0)
    )
    assert torch.equal(found[3:], plain[3:])
    assert not torch.equal(found[:3], plain[:3])


MODELS = '''
import torch
from torch import nn

class Binary(nn.Module):
    """One sigmoid channel, {channels} in."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d({channels}, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        )
        self.head = nn.Conv2d(8, 1, 1)

    def forward(self, image):
        return {{"mask": self.head(self.backbone(image))}}

def build():
    return Binary()
'''

RECIPE = """
name: binary
data: {kind: folder, path: PATH, images: images, annotations: masks, holdout: 0.25, classes: [rest, thing], size: [32, 32], batch: 4}
student: {kind: "./models.py:build", mean: MEAN, std: STD}
train: {steps: 4, optimizer: {lr: 1.0e-2}}
quantize: {kind: pt2e, target: onnxruntime, calibration: {samples: 4}, qat: {steps: 3}}
bench: {runs: 2, warmup: 1, rounds: 2, batches: [1], runtimes: [onnxruntime]}
"""


@pytest.mark.parametrize("channels", [pytest.param(1, marks=pytest.mark.slow), 4])
def test_the_whole_line_of_a_binary_network_of_other_channels(tmp_path: Path, picture, channels: int) -> None:
    for kind in ("images", "masks"):
        (tmp_path / "set" / kind).mkdir(parents=True)
    for index in range(8):
        image = np.dstack([picture(32, 32, index), picture(32, 32, index + 50)[..., :1]])
        Image.fromarray(image).save(tmp_path / "set" / "images" / f"{index}.png")
        Image.fromarray((image[..., 3] > 127).astype(np.uint8)).save(tmp_path / "set" / "masks" / f"{index}.png")
    (tmp_path / "models.py").write_text(MODELS.format(channels=channels))
    text = RECIPE.replace("PATH", str(tmp_path / "set"))
    (tmp_path / "r.yaml").write_text(text.replace("MEAN", str([0.5] * channels)).replace("STD", str([0.25] * channels)))
    recipe = read(tmp_path / "r.yaml")
    run(recipe, device="cpu")
    rows = json.loads((Path(os.environ["LIMBECK_RUNS"]) / "binary" / "summary.json").read_text())["rows"]
    assert {row["id"]: row["error"] for row in rows if row["error"]} == {}
    found = {row["id"]: row for row in rows}
    assert found["student.fp32.onnxruntime"]["miou"] == pytest.approx(found["student.fp32.eager"]["miou"], abs=0.5)
    assert found["student.int8.onnxruntime"]["input"] == [1, channels, 32, 32]
    assert found["student.int8.onnxruntime"]["latency_ms"]["p50"] > 0
    image = Context(recipe, tmp_path).dataset("training")[0].image
    assert image.shape == (32, 32, 4 if channels == 4 else 3)


def test_a_network_of_the_library_takes_colour_images(tmp_path: Path) -> None:
    text = "name: x\ndata: {kind: scenes, size: [32, 32]}\nstudent: {kind: compact_unet, mean: [0.5], std: [0.2]}\ntrain: {steps: 1}"
    (tmp_path / "r.yaml").write_text(text)
    context = Context(read(tmp_path / "r.yaml"), tmp_path)
    with pytest.raises(UserError, match=r"student\.mean: the network takes 1 channels.*compact_unet takes RGB"):
        context.network(context.recipe.student, context.recipe.place / "student", 4)
    with pytest.raises(UserError, match="mean has 1 values and std 2"):
        read(tmp_path / "r.yaml", ["student.std=[0.2,0.3]"])
