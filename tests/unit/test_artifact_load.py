import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from limbeck.artifact.load import Predictor, load
from limbeck.artifact.metadata import Metadata
from limbeck.artifact.preprocess import Preprocess
from limbeck.record import UserError

PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1 / 255, 1 / 255, 1 / 255)}

RUNTIME = """
import numpy as np

class Stride:
    reads = frozenset({".fake"})

    def __init__(self, path, *, threads=0, device="cpu", precision="fp32"):
        if device == "none":
            raise ValueError("no device 'none'")
        self.info = {"threads": threads, "device": device, "precision": precision}

    def __call__(self, pixel_values):
        return pixel_values[:, :, ::4, ::4]
"""


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def channels(pixel_values):
    """A network whose logits are its input."""
    return pixel_values


def test_an_image_at_size_passes_untouched():
    image = picture(20, 30)
    predictor = Predictor(channels, Preprocess((20, 30), **PLAIN), ("r", "g", "b"))
    prediction = predictor(image)
    assert np.array_equal(prediction.mask, image.argmax(-1))
    assert np.array_equal(prediction.logits.round().transpose(1, 2, 0), image)
    assert prediction.classes == ("r", "g", "b")
    assert len(prediction.palette) == 3
    assert np.array_equal(predictor.mask(image), prediction.mask)


@pytest.mark.parametrize("keep_ratio", [False, True])
@pytest.mark.parametrize("image_hw", [(40, 60), (31, 90), (90, 31)])
def test_masks_lie_on_the_image(keep_ratio, image_hw):
    height, width = image_hw
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, :, 0], image[height // 2 :, :, 1] = 255, 255
    image[:, width // 2 :, 2] = 254
    image[:, width // 2 :, :2] //= 2
    predictor = Predictor(channels, Preprocess((64, 96), keep_ratio, 32, **PLAIN))
    mask = predictor.mask(image)
    assert mask.shape == image_hw
    expected = image.argmax(-1)
    assert (mask == expected).mean() > 0.98
    assert np.array_equal(mask[0], expected[0])
    assert np.array_equal(mask[-1], expected[-1])
    assert np.array_equal(mask[:, -1], expected[:, -1])


def test_padding_does_not_show_at_the_border():
    image = np.full((10, 20, 3), 9, np.uint8)

    def where_padding(pixel_values):
        padding = (pixel_values.sum(1, keepdims=True) == 0).astype(np.float32)
        return np.concatenate([1 - padding, padding], 1)

    predictor = Predictor(where_padding, Preprocess((32, 32), keep_ratio=True, **PLAIN))
    assert not predictor.mask(image).any()
    assert not predictor.mask(np.full((50, 100, 3), 9, np.uint8)).any()


def test_masks_come_from_one_batch():
    batches = []

    def counting(pixel_values):
        batches.append(pixel_values.shape)
        return pixel_values

    predictor = Predictor(counting, Preprocess((16, 16)))
    images = [picture(16, 16), picture(20, 9), picture(5, 40)]
    masks = predictor.masks(images)
    assert batches == [(3, 3, 16, 16)]
    for image, mask in zip(images, masks, strict=True):
        assert np.array_equal(mask, predictor.mask(image))
    assert predictor.masks([]) == []


def test_a_mask_of_another_size_than_its_image():
    predictor = Predictor(channels, Preprocess((16, 16)))
    (logits,) = predictor.logits(predictor.preprocess(picture(8, 12))[None])
    assert predictor.mask_of(logits, (8, 12)).shape == (8, 12)
    assert predictor.mask_of(logits, (8, 12), (24, 36)).shape == (24, 36)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda x: x * np.nan, "gives NaN"),
        (lambda x: x[:, 0, 0], r"\[1, 8\] for \[1, 3, 8, 8\]"),
        (lambda x: np.concatenate([x, x]), r"\[2, 3, 8, 8\] for"),
    ],
)
def test_a_broken_network_is_named(answer, message):
    with pytest.raises(UserError, match=message):
        Predictor(answer, Preprocess((8, 8)))(picture(8, 8))


def metadata(**changes):
    fields = {
        "task": "segmentation",
        "model": "student",
        "classes": ("a", "b", "c"),
        "palette": ((1, 1, 1), (2, 2, 2), (3, 3, 3)),
        "preprocess": Preprocess((16, 16), **PLAIN),
    }
    return Metadata(**fields | changes)


@pytest.fixture
def fake(tmp_path):
    """A file that a user's own runtime reads, with its metadata beside it."""
    (tmp_path / "stride.py").write_text(RUNTIME)
    (tmp_path / "a.fake").write_bytes(b"")
    (tmp_path / "a.fake.json").write_text(json.dumps(metadata().to_json()))
    return tmp_path / "a.fake"


def test_a_users_own_runtime(fake):
    predictor = load(fake, runtime="./stride.py:Stride", threads=2, precision="bf16", root=fake.parent)
    assert predictor.info == {"threads": 2, "device": "cpu", "precision": "bf16"}
    assert predictor.metadata == metadata()
    prediction = predictor(picture(30, 20))
    assert prediction.mask.shape == (30, 20)
    assert prediction.logits.shape == (3, 4, 4)
    assert prediction.palette == ((1, 1, 1), (2, 2, 2), (3, 3, 3))


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("a.fake", {}, r"no runtime known for '\.fake'; readable: \.onnx \(onnxruntime\), \.xml \(openvino\)"),
        ("a.xml", {"runtime": "./stride.py:Stride"}, r"reads \.fake, not '\.xml'; readable: \.onnx"),
        ("b.fake", {"runtime": "./stride.py:Stride"}, "no such file"),
        ("c.fake", {"runtime": "./stride.py:Stride"}, r"no metadata in it; say .* in c\.fake\.json"),
        ("a.fake", {"runtime": "./stride.py:Stride", "device": "none"}, "no device 'none'"),
        ("a.fake", {"runtime": "onnx_runtime"}, "Did you mean 'onnxruntime'"),
    ],
)
def test_what_cannot_be_opened(fake, name, arguments, message):
    fake.with_name("c.fake").write_bytes(b"")
    with pytest.raises(UserError, match=message):
        load(fake.with_name(name), root=fake.parent, **arguments)


def test_one_onnx_file_in_two_runtimes(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("openvino")
    weight = np.random.default_rng(0).normal(size=(3, 3, 2, 2)).astype(np.float32)
    node = onnx.helper.make_node("Conv", ["pixel_values", "weight"], ["logits"], strides=[2, 2])
    kind, size = onnx.TensorProto.FLOAT, ["n", 3, 16, 16]
    graph = onnx.helper.make_graph(
        [node],
        "net",
        [onnx.helper.make_tensor_value_info("pixel_values", kind, size)],
        [onnx.helper.make_tensor_value_info("logits", kind, ["n", 3, 8, 8])],
        [onnx.numpy_helper.from_array(weight, "weight")],
    )
    opset = onnx.helper.make_opsetid("", 18)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10)
    model.metadata_props.add(key="limbeck", value=json.dumps(metadata().to_json()))
    path = tmp_path / "student.fp32.onnx"
    onnx.save(model, path)
    first, second = load(path, threads=1), load(path, runtime="openvino", threads=1)
    assert (first.info["runtime"], second.info["runtime"]) == ("onnxruntime", "openvino")
    image = picture(40, 30)
    np.testing.assert_allclose(first(image).logits, second(image).logits, atol=1e-2)
    assert (first.mask(image) == second.mask(image)).mean() > 0.99
    assert first.metadata == second.metadata == metadata()


def test_predicting_needs_no_torch(fake):
    Image.fromarray(picture(9, 9)).save(fake.with_name("a.png"))
    program = f"""
import sys, numpy, PIL.Image
from pathlib import Path
from limbeck.artifact.load import load
predictor = load(Path({str(fake)!r}), runtime="./stride.py:Stride", root=Path({str(fake.parent)!r}))
predictor(numpy.asarray(PIL.Image.open({str(fake.with_name("a.png"))!r})))
import limbeck.metrics.evaluate
print([name for name in ("torch", "onnx", "onnxruntime", "openvino", "safetensors") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
