import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

from limbeck.artifact.metadata import Metadata
from limbeck.artifact.preprocess import Preprocess
from limbeck.record import UserError

METADATA = Metadata(
    task="segmentation",
    model="student",
    classes=("sky", "Straße"),
    palette=((1, 2, 3), (4, 5, 6)),
    preprocess=Preprocess((32, 48), keep_ratio=True),
    precision="int8",
    target="openvino",
    recipe="0123",
    licences={"weights": "MIT"},
)
TEXT = json.dumps(METADATA.to_json(), ensure_ascii=False)


def onnx_model(*props):
    weight = numpy_helper.from_array(np.ones((3, 3, 64, 64), np.float32), "weight")
    image = helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["n", 3, 64, 64])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)
    node = helper.make_node("Conv", ["pixel_values", "weight"], ["logits"])
    graph = helper.make_graph([node], "g", [image], [logits], [weight])
    model = helper.make_model(graph, producer_name="test", doc_string="doc")
    for key, value in props:
        model.metadata_props.add(key=key, value=value)
    return model


def test_json_round_trip():
    value = METADATA.to_json()
    assert value["version"] == 1
    assert value["classes"] == ["sky", "Straße"]
    assert value["palette"] == [[1, 2, 3], [4, 5, 6]]
    assert not {"architecture", "quantizer", "manifest"} & value.keys()
    assert Metadata.from_json(json.loads(json.dumps(value)), "here") == METADATA


def test_weight_files_say_how_to_build():
    more = {"architecture": {"kind": "x", "num_classes": 2}, "quantizer": {"kind": "q"}, "manifest": {"a": 1}}
    metadata = Metadata.from_json(METADATA.to_json() | more | {"unknown": 1}, "here")
    assert metadata.to_json() == METADATA.to_json() | more


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (METADATA.to_json() | {"version": 2}, "here: metadata version 2, this Limbeck reads up to 1"),
        ({}, "no version"),
        ([], "no version"),
        ({"version": 1}, "broken: KeyError: 'palette'"),
        (METADATA.to_json() | {"palette": [1]}, "broken: TypeError"),
        (METADATA.to_json() | {"preprocess": {"size": [4, 0], "mean": [0], "std": [1]}}, "broken: ValueError: size"),
        ({k: v for k, v in METADATA.to_json().items() if k != "task"}, "broken: TypeError.*task"),
    ],
)
def test_what_cannot_be_used_is_refused(value, message):
    with pytest.raises(UserError, match=message):
        Metadata.from_json(value, "here")


def test_onnx_is_read_without_onnx(tmp_path):
    path = tmp_path / "a.onnx"
    onnx.save(onnx_model(("other", "x" * 300), ("limbeck", TEXT), ("last", "")), path)
    assert Metadata.read(path) == METADATA
    onnx.save(onnx_model(("other", "limbeck")), path)
    assert Metadata.read(path) is None


@pytest.mark.parametrize("length", [1, 100, -1, -30])
def test_a_cut_off_onnx_is_refused(tmp_path, length):
    path = tmp_path / "a.onnx"
    path.write_bytes(onnx_model(("limbeck", TEXT)).SerializeToString()[:length])
    with pytest.raises(UserError, match=r"not a readable \.onnx file"):
        Metadata.read(path)


def test_openvino_is_read_without_openvino(tmp_path):
    openvino = pytest.importorskip("openvino")
    image = openvino.opset13.parameter([1, 3, 4, 4], np.float32, name="pixel_values")
    model = openvino.Model([openvino.opset13.relu(image)], [image], "m")
    model.set_rt_info("elsewhere", ["other", "limbeck"])
    path = tmp_path / "a.xml"
    openvino.save_model(model, path)
    assert Metadata.read(path) is None
    model.set_rt_info(TEXT, ["limbeck"])
    openvino.save_model(model, path)
    assert Metadata.read(path) == METADATA


def test_xml_with_entities_is_refused(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text('<!DOCTYPE net [<!ENTITY a "b">]><net><rt_info><limbeck value="&a;"/></rt_info></net>')
    with pytest.raises(UserError, match="declares a document type"):
        Metadata.read(path)
    path.write_text("<net>")
    with pytest.raises(UserError, match=r"not a readable \.xml file"):
        Metadata.read(path)


def test_safetensors_header(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"w": np.zeros(3)}, path, metadata={"limbeck": TEXT, "format": "pt"})
    assert Metadata.read(path) == METADATA
    save_file({"w": np.zeros(3)}, path)
    assert Metadata.read(path) is None
    for broken in (b"", b"\xff" * 64, b"\x02" + 7 * b"\0" + b"[]"[:1], b"\x03" + 7 * b"\0" + b"{a}"):
        path.write_bytes(broken)
        with pytest.raises(UserError, match=r"not a readable \.safetensors file"):
            Metadata.read(path)


def test_a_json_file_speaks_for_files_that_cannot(tmp_path):
    path = tmp_path / "a.pte"
    path.write_bytes(b"anything")
    assert Metadata.read(path) is None
    (tmp_path / "a.pte.json").write_text(TEXT, encoding="utf-8")
    assert Metadata.read(path) == METADATA
    foreign = tmp_path / "b.onnx"
    onnx.save(onnx_model(), foreign)
    (tmp_path / "b.onnx.json").write_text(TEXT, encoding="utf-8")
    assert Metadata.read(foreign) == METADATA


def test_missing_file_and_metadata_that_are_no_json(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        Metadata.read(tmp_path / "a.onnx")
    save_file({"w": np.zeros(3)}, tmp_path / "a.safetensors", metadata={"limbeck": "{"})
    with pytest.raises(UserError, match="metadata are not JSON"):
        Metadata.read(tmp_path / "a.safetensors")
