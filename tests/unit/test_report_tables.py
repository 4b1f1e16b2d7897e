import io

import pytest
from _fake_run import name_of, row, rows
from rich.console import Console

from limbeck.report.rows import MINUS, UNKNOWN, identity, leading, parse, short, text
from limbeck.report.tables import agreement, console, markdown

GOLDEN = """\
| Model | Precision | Runtime | mIoU | Latency ms | p95 ms | File MB | Agreement | Pixel acc. | Params M | Note |
| :-- | :-- | :-- | --: | --: | --: | --: | --: | --: | --: | :-- |
| Teacher | FP32 | ONNX Runtime | **68.31** | 318 | 350 | 168 | 91.32 | **90.5** | 42.0 |  |
| Student | FP32 | OpenVINO bf16 | 62.19 | 10.6 | 11.7 | 12.9 | 99.71 | 88.7 | 3.22 |  |
| Student | INT8 QAT | PyTorch eager | 61.92 | ~ | ~ | **3.50** | 98.41 | 88.6 | 3.22 | parity reference, not timed |
| Student | INT8 QAT | OpenVINO | 61.91 | **7.84** | **8.62** | **3.50** | 98.39 | 88.6 | 3.22 |  |
| Student | INT8 PTQ | ONNX Runtime | ~ | ~ | ~ | 3.50 | ~ | ~ | 3.22 | failed: no kernel |
""".replace("~", UNKNOWN)


def printed(listed, width=80):
    stream = io.StringIO()
    Console(file=stream, width=width).print(console(listed))
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def test_markdown_is_the_golden_table():
    listed = rows()
    assert markdown([listed[at] for at in (1, 7, 8, 10, 12)]) == GOLDEN


def test_markdown_leaves_out_columns_that_nothing_fills():
    table = markdown([row("student", "fp32", "onnxruntime", None, None, 1.5, agreement=None)])
    assert table.splitlines()[0] == "| Model | Precision | Runtime | File MB | Params M |"


def test_no_rows_is_a_sentence():
    assert markdown([]) == "No rows: nothing was evaluated or benchmarked.\n"
    assert "No rows" in printed([])


def test_names_cannot_break_the_table():
    table = markdown([{"model": "a|b<script>", "runtime": "x\ny", "error": "line 1\nline | 2"}])
    assert "a\\|b&lt;script&gt;" in table
    assert "line 1 line \\| 2" in table


def test_console_fits_eighty_columns():
    shown = printed(rows())
    assert "\N{HORIZONTAL ELLIPSIS}" not in shown
    assert "\nStudent INT8 QAT     OpenVINO       61.91        7.84     3.50      98.39\n" in shown
    assert "Student INT8 PTQ in ONNX Runtime: failed: no kernel" in shown


def test_console_takes_brackets_literally():
    shown = printed([{"model": "[red]x[/red]", "file_mb": 1.0, "error": "[/bold] ["}])
    assert "[red]x[/red]" in shown
    assert "[/bold] [" in shown


def test_ids_are_those_of_the_records():
    assert [identity(each) for each in rows()] == [name_of(each) for each in rows()]
    alone = row("student", "int8", "onnxruntime", 60.0, 9.0, 3.5, quantization="ptq")
    assert identity(alone) == "student.int8.onnxruntime"
    several = row(
        "student", "int8", "openvino", 60.0, 9.0, 3.5, target="openvino", file="export/student.int8-openvino.onnx"
    )
    assert identity(several) == "student.int8-openvino.openvino"


def test_ids_tell_their_fields():
    told = parse("student.int8-ptq-openvino.openvino-bf16")
    assert told["model"] == "student"
    assert (told["precision"], told["quantization"]) == ("int8", "ptq")
    assert (told["runtime"], told["inference_precision"]) == ("openvino", "bf16")


def test_one_row_leads_for_each_network_and_the_shipped_one_is_preferred():
    names = [name_of(each) for each in rows()]
    found = leading(names, "student.int8.openvino")
    assert list(found.items()) == [
        ("teacher", "teacher.fp32.onnxruntime"),
        ("plain", "student-baseline.fp32.onnxruntime"),
        ("student", "student.fp32.onnxruntime"),
        ("int8", "student.int8.openvino"),
    ]
    assert leading(names)["int8"] == "student.int8.onnxruntime"
    assert leading(["student.fp32.openvino-bf16", "nonsense", ""]) == {}


@pytest.mark.parametrize(
    ("value", "written"), [(None, UNKNOWN), (99.999, "99.99"), (100.0, "100.00"), (99.99, "99.99"), (98.4, "98.40")]
)
def test_agreement_is_rounded_down(value, written):
    assert agreement(value) == written


def test_numbers_are_written_the_same_everywhere():
    assert [short(v) for v in (None, 318.42, 21.44, 7.841, 0.0123)] == [UNKNOWN, "318", "21.4", "7.84", "0.0123"]
    assert text(-1.25) == f"{MINUS}1.2"
