"""Choosing among rows: the score to beat, what a row loses against it, the fastest row that loses little."""

import math

from limbeck.report.rows import Row, best_teacher, deployable, latency, number, sound

__all__ = ["SAME_SPEED", "TOLERANCE", "choose", "loss", "reference", "top"]

# Points below the best student that speed may cost. Agreement counts changed pixels, most of them on borders that are
# wrong before and after, so it moves by more than mIoU does.
TOLERANCE = {"miou": 0.5, "accuracy": 0.5, "agreement": 2.0}
SAME_SPEED = 1.03  # medians closer than this are one speed: the better score decides


def top(rows: list[Row], score: str) -> float | None:
    """The best score of the networks that one could ship, PyTorch included; None when none is known.

    A control that was never exported sets no mark, nor does agreement but that of the exported student.
    """
    shippable = {row.get("model") for row in rows if deployable(row)}
    real = [row for row in rows if sound(row) and row.get("model") in shippable]
    if score == "agreement":
        real = [row for row in real if row.get("model") == "student" and row.get("runtime") != "eager"]
    return max((value for row in real if (value := number(row, score)) is not None), default=None)


def loss(row: Row, rows: list[Row], score: str) -> float:
    """Points below the best student; 0 when no score is known at all, infinite when only this row's is unknown."""
    highest, own = top(rows, score), number(row, score)
    if highest is None:
        return 0.0
    return math.inf if own is None else highest - own


def choose(candidates: list[Row], rows: list[Row], score: str) -> Row:
    """The fastest candidate within ``TOLERANCE`` of the best of ``rows``; if none is, the one that loses least.

    Among equally fast ones the better score decides; where none was timed, the smaller file.
    """
    near = [row for row in candidates if loss(row, rows, score) <= TOLERANCE[score] + 1e-9]
    if not near:
        return min(candidates, key=lambda row: (loss(row, rows, score), latency(row) or math.inf))
    fastest = min((value for row in near if (value := latency(row)) is not None), default=None)
    if fastest is None:
        return min(near, key=lambda row: (number(row, "file_mb") or math.inf, loss(row, rows, score)))
    quick = [row for row in near if (latency(row) or math.inf) <= fastest * SAME_SPEED]
    return min(quick, key=lambda row: (loss(row, rows, score), number(row, "file_mb") or math.inf))


def reference(rows: list[Row], model: str, pick: Row) -> Row | None:
    """The FP32 row that ``pick`` is compared with: ONNX Runtime only for the student, preferred for the teacher.

    Of several teachers it is the best, by the score that decides.
    A row on the pick's device and threads comes before others, and a timed one before the rest; times taken elsewhere
    are dropped, since they compare with nothing.
    """
    if model == "teacher":
        model = best_teacher(rows)
    plain = [row for row in rows if row.get("model") == model and row.get("precision") == "fp32" and sound(row)]
    plain = [row for row in plain if row.get("inference_precision") in (None, "", "fp32", "f32")]
    if model == "student":
        plain = [row for row in plain if row.get("runtime") == "onnxruntime"]
    nearest = min(plain, key=lambda row: _distance(row, pick), default=None)
    elsewhere = nearest is not None and _elsewhere(nearest, pick)
    return {**nearest, "latency_ms": None, "end_to_end_ms": None} if nearest and elsewhere else nearest


def _elsewhere(row: Row, pick: Row) -> bool:
    return any(row.get(key) != pick.get(key) for key in ("device", "threads"))


def _distance(row: Row, pick: Row) -> tuple[bool, bool, bool]:
    return _elsewhere(row, pick), latency(row) is None, row.get("runtime") != "onnxruntime"
