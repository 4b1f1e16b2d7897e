import pytest
from _fake_run import row, rows

from limbeck.report.rows import TIMES, UNKNOWN
from limbeck.report.verdict import verdict


def one(**named):
    """A student's usual rows; what is named replaces (score, latency) of one of them, None removes it."""
    known = {"fp32": (62.2, 20.0), "ov": (62.2, 17.0), "bf16": (62.1, 10.0), "int8": (61.9, 8.0)} | named
    made = {
        "fp32": lambda miou, p50: row("student", "fp32", "onnxruntime", miou, p50, 12.9),
        "ov": lambda miou, p50: row("student", "fp32", "openvino", miou, p50, 12.9),
        "bf16": lambda miou, p50: row("student", "fp32", "openvino", miou, p50, 12.9, inference_precision="bf16"),
        "int8": lambda miou, p50: row("student", "int8", "openvino", miou, p50, 3.5),
    }
    return [made[key](*pair) for key, pair in known.items() if pair is not None]


def test_networks_are_compared_in_fp32_alone():
    lucky = [one | {"miou": 62.9} if one["inference_precision"] == "bf16" else one for one in rows()]
    assert "Distillation gained 2.1 mIoU over the same student trained without a teacher." in verdict(lucky).caveats


def test_int8_wins_when_it_is_fastest_and_keeps_the_score():
    judged = verdict(rows())
    assert judged.headline == "Ship student.int8.onnx with OpenVINO"
    assert judged.reason == (
        "It is the fastest student file within 0.5 mIoU of the best (61.9 against 62.2): 7.84 ms an image (cpu, "
        f"2 threads) and 3.50 MB. Against the FP32 student in ONNX Runtime it is 2.7{TIMES} faster, 3.7{TIMES} smaller "
        f"and 0.3 mIoU lower; against the FP32 teacher it is 41{TIMES} faster, 48{TIMES} smaller and 6.4 mIoU lower."
    )
    assert judged.caveats == (
        "Quantization-aware training (QAT) scores 2.5 mIoU more than quantization without training (PTQ).",
        "Distillation gained 2.1 mIoU over the same student trained without a teacher.",
        "1 row failed; the table says why.",
    )


def test_bf16_wins_when_int8_loses_too_much():
    judged = verdict(one(int8=(61.5, 8.0)))
    assert judged.headline == "Ship student.fp32.onnx with OpenVINO bf16"
    assert judged.caveats[0] == (
        "INT8 costs too much here: student.int8.onnx in OpenVINO takes 8.00 ms but loses 0.7 mIoU, "
        "more than the 0.5 allowed."
    )
    assert "AMX" in judged.caveats[1]


def test_bf16_wins_when_int8_is_not_faster():
    judged = verdict(one(int8=(62.1, 11.0)))
    assert judged.headline == "Ship student.fp32.onnx with OpenVINO bf16"
    assert judged.caveats[0].startswith("INT8 keeps the score but is not faster here")


def test_fp32_wins_when_nothing_else_holds():
    judged = verdict(one(ov=(62.2, 22.0), bf16=(60.0, 10.0), int8=(58.0, 8.0)))
    assert judged.headline == "Ship student.fp32.onnx with ONNX Runtime"
    assert judged.student is judged.pick
    assert "against the FP32 student" not in judged.reason


def test_half_a_point_is_within_and_a_little_more_is_not():
    assert verdict(one(int8=(61.7, 8.0))).pick["precision"] == "int8"
    assert verdict(one(int8=(61.69, 8.0))).pick["precision"] == "fp32"


def test_nearly_equal_speed_goes_to_the_better_score():
    assert verdict(one(int8=(61.8, 9.9))).pick["inference_precision"] == "bf16"


def test_a_near_bf16_is_told_when_int8_wins():
    judged = verdict(one(bf16=(62.2, 8.8)))
    assert judged.pick["precision"] == "int8"
    assert judged.caveats[0] == (
        "The FP32 file in OpenVINO bf16 is nearly as fast (8.80 against 8.00 ms) with 62.2 mIoU "
        "and needs no quantization."
    )


def test_the_best_student_counts_even_if_it_ran_only_in_pytorch():
    listed = [row("student", "fp32", "eager", 70.0, 40.0, 12.9), *one()]
    judged = verdict(listed)
    assert judged.reason.startswith(
        "No file stays within 0.5 mIoU of the best student (70.0); this one loses least (62.2)"
    )


def test_a_control_that_was_not_exported_sets_no_mark_but_is_told():
    judged = verdict([row("student-longer", "fp32", "eager", 64.0, None, 12.9), *one()])
    assert judged.pick["precision"] == "int8"
    assert "Trained on in FP32 for as long as QAT, the student reaches 64.0 mIoU." in judged.caveats


@pytest.mark.parametrize("flaw", [{"error": "no kernel"}, {"simulated": True}])
def test_failed_and_simulated_rows_are_never_chosen(flaw):
    listed = one()
    listed[-1] |= flaw
    assert verdict(listed).pick["precision"] == "fp32"


def test_without_masks_agreement_decides_and_the_page_says_so():
    listed = [r | {"miou": None, "agreement": 98.4 if r["precision"] == "int8" else 99.9} for r in one()]
    judged = verdict([row("student", "fp32", "eager", None, 40.0, 12.9), *listed])
    assert (judged.score, judged.pick["precision"]) == ("agreement", "int8")
    assert "within 2.0 points of agreement of the best (98.4 against 99.9)" in judged.reason
    assert judged.caveats[0].startswith("There was no truth:")
    changed = [r | {"agreement": 90.0} if r["precision"] == "int8" else r for r in listed]
    assert verdict(changed).pick["inference_precision"] == "bf16"


def test_without_latency_the_smallest_file_within_reach_is_chosen():
    judged = verdict([r | {"latency_ms": None, "end_to_end_ms": None} for r in one()])
    assert judged.pick["precision"] == "int8"
    assert "smallest" in judged.reason
    assert judged.caveats[0].startswith("Nothing was timed")


def test_without_any_score_the_fastest_is_chosen():
    judged = verdict([r | {"miou": None, "agreement": None} for r in one()])
    assert judged.pick["precision"] == "int8"
    assert "no score was measured" in judged.reason
    assert judged.caveats[0].startswith("Nothing was evaluated")


@pytest.mark.parametrize("listed", [[], [row("teacher", "fp32", "onnxruntime", 68.0, 300.0, 168.0)], [{}]])
def test_without_an_exported_student_there_is_no_pick(listed):
    judged = verdict(listed)
    assert judged.pick is None
    assert judged.headline == "No file to ship yet"


def test_rows_with_hardly_a_field_are_judged_too():
    judged = verdict([{"model": "student", "runtime": "onnxruntime"}])
    assert judged.headline == f"Ship student {UNKNOWN} with ONNX Runtime"


def test_times_of_another_device_are_not_compared():
    teacher = row("teacher", "fp32", "onnxruntime", 68.3, 5.0, 168.0, device="cuda")
    judged = verdict([teacher, *one()])
    assert judged.teacher["latency_ms"] is None
    assert f"against the FP32 teacher it is 48{TIMES} smaller and 6.4 mIoU lower" in judged.reason


def test_accuracy_decides_where_there_is_no_miou():
    listed = [{**r, "accuracy": r["miou"], "miou": None} for r in one(int8=(60.0, 8.0))]
    judged = verdict(listed)
    assert judged.score == "accuracy"
    assert judged.pick["inference_precision"] == "bf16"


def test_unsteady_timing_and_low_coverage_are_told():
    listed = one()
    listed[-1] |= {"int8_coverage": 0.62, "latency_ms": {"mean": 9.0, "p50": 8.0, "p95": 14.0}}
    told = verdict(listed).caveats
    assert "Only 62% of the multiply-adds run in integer kernels; the rest is still computed in float." in told
    assert "Timing was unsteady: one inference in twenty took more than 14.0 ms." in told


def test_views_that_the_times_do_not_hold_are_told():
    told = "Scores are of whole images, plain and mirrored; times are of one whole image, which may score lower."
    shown = [given | {"protocol": "whole images, plain and mirrored"} for given in one()]
    assert told in verdict(shown).caveats
    assert not any(
        "Scores are of" in said for said in verdict([r | {"protocol": "whole images"} for r in one()]).caveats
    )


def test_the_fastest_is_only_called_so_where_it_is():
    slow = verdict(one(fp32=(61.0, 2.0), ov=(61.0, 3.0), bf16=(61.0, 3.0), int8=(62.0, 8.0)))
    assert slow.reason.startswith("No student file scores better (62.0 mIoU), and it is the fastest within 0.5 mIoU")
    quick = verdict(one(fp32=(61.0, 20.0), ov=(61.0, 30.0), bf16=(61.0, 30.0), int8=(62.0, 8.0)))
    assert quick.reason.startswith("It is the fastest student file, and none scores better (62.0 mIoU)")
