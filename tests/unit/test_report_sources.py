"""Scores source by source, on the page and as lines."""

import re
from pathlib import Path

from limbeck.report.folder import Folder
from limbeck.report.sources import by_source, lines

ROW = {
    "id": "student.int8.openvino", "model": "student", "precision": "int8", "quantization": "qat",
    "runtime": "openvino", "miou": 61.25,
    "sources": {
        "dusk": {"miou": 50.5, "images": 18, "per_class": {"iou": [70.0, 31.0]}},
        "a<b": {"miou": 72.0, "images": 1032, "per_class": {"iou": [72.0, None]}},
    },
}  # fmt: skip
OTHER = {"id": "student.fp32.eager", "model": "student", "precision": "fp32", "runtime": "eager", "miou": 63.0}


def folder(rows):
    return Folder(
        path=Path(), name="x", environment={}, rows=rows, recipe="", steps=[], checks=[], unread=0,
        classes=["sky", "road"], palette=[], frequency=[],
        evaluated={"student.int8.openvino": {"per_class": {"iou": [71.0, 51.5]}}}, samples=[], evaluation=Path(), parity=[],
    )  # fmt: skip


def cells(page):
    return [re.sub("<[^>]+>", "", cell) for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", page)]


def test_the_table_has_a_column_for_all_and_for_each():
    page = by_source(folder([OTHER, ROW]), "miou", ROW)
    rows, classes = page.split("<details>")
    assert cells(rows) == ["Model", "Overall", "dusk", "a&lt;b", "Student INT8 QATOpenVINO", "61.25", "50.50", "72.00"]
    assert "dusk 18, a&lt;b 1,032" in page
    assert "student INT8 QAT in OpenVINO" in classes
    assert cells(classes) == [
        "IoU", "Overall", "dusk", "a&lt;b", "sky", "71.00", "70.00", "72.00", "road", "51.50", "31.00", "\N{EN DASH}",
    ]  # fmt: skip


def test_one_source_needs_no_table():
    assert by_source(folder([OTHER]), "miou", None) == ""
    assert lines([OTHER], "miou") == []


def test_a_line_for_every_row_that_has_sources():
    assert lines([OTHER, ROW], "miou") == ["Student INT8 QAT in OpenVINO: dusk 50.50, a<b 72.00"]
