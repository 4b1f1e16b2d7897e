"""What a row of the summary means: its id, its names, its numbers. Every table, chart and sentence reads rows here."""

import math
from collections.abc import Iterable
from typing import Any

__all__ = [
    "POINTS", "SCORES", "TIMES", "UNKNOWN", "Row", "best_teacher", "best_value", "deployable", "file_name",
    "identity", "is_teacher", "latency", "leading", "short", "model_name", "number", "parse", "points",
    "precision_name", "role", "runtime_name", "score_name", "sound", "text", "words",
]  # fmt: skip

Row = dict[str, Any]

UNKNOWN = "\N{EN DASH}"
TIMES = "\N{MULTIPLICATION SIGN}"
MINUS = "\N{MINUS SIGN}"
SCORES = {"miou": "mIoU", "accuracy": "accuracy", "agreement": "agreement"}
POINTS = {"miou": "mIoU", "accuracy": "points of accuracy", "agreement": "points of agreement"}
MODELS = {
    "teacher": "Teacher",
    "student": "Student",
    "student-baseline": "Student, plain",
    "student-longer": "Student, longer",
}
RUNTIMES = {"eager": "PyTorch eager", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
ENGINES = ("onnxruntime", "openvino", "eager")  # the order in which one runtime speaks for all
DEPLOYED = frozenset(RUNTIMES) - {"eager"}


def number(row: Row, key: str) -> float | None:
    """A finite number of the row, or None when it is unknown."""
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def latency(row: Row, quantile: str = "p50") -> float | None:
    """Milliseconds of one inference; the mean stands in for a median that was not kept."""
    times = row.get("latency_ms")
    if not isinstance(times, dict):
        return None
    value = number(times, quantile)
    return number(times, "mean") if value is None and quantile == "p50" else value


def text(value: float | None, digits: int = 1) -> str:
    """A number with a fixed number of decimals; a dash when unknown."""
    return UNKNOWN if value is None else f"{value:,.{digits}f}".replace("-", MINUS)


def points(value: float | None) -> str:
    """A score with one decimal; only a full 100 reads 100.0."""
    return text(99.9 if value is not None and 99.9 < value < 100 else value)


def short(value: float | None) -> str:
    """A measured amount with about three significant digits; a dash when unknown."""
    if value is None:
        return UNKNOWN
    digits = next((digits for above, digits in ((100, 0), (10, 1), (0.1, 2)) if value >= above), 4)
    return text(value, digits)


def identity(row: Row) -> str:
    """The row's id, ``<model>.<precision>[-ptq][-<target>].<runtime>[-<inference_precision>]``."""
    if isinstance(row.get("id"), str):
        return str(row["id"])
    lowered = _lowered(row)
    return f"{_stem(row)}.{row.get('runtime') or 'eager'}" + (f"-{lowered}" if lowered else "")


def _stem(row: Row) -> str:
    model, precision = str(row.get("model") or "student"), str(row.get("precision") or "fp32")
    file = file_name(row)
    if file.startswith(f"{model}.{precision}"):
        return f"{model}.{file[len(model) + 1 :].partition('.')[0]}"
    return f"{model}.{precision}" + ("-ptq" if _beside(row) else "")


def _beside(row: Row) -> bool:
    # PTQ carries its name only where it stands beside a QAT of the same network; without a file nobody can tell.
    return row.get("quantization") == "ptq" and row.get("file") is None


def _lowered(row: Row) -> str:
    """The precision a runtime was asked to compute in, where that is not the file's own."""
    asked = str(row.get("inference_precision") or "")
    return "" if asked in {"", "fp32", "f32", str(row.get("precision"))} else asked


def parse(name: str) -> Row:
    """The fields that an id tells."""
    model, _, rest = name.partition(".")
    kind, _, engine = rest.rpartition(".")
    precision, *marks = kind.split("-")
    runtime, _, asked = engine.partition("-")
    return {
        "id": name,
        "model": model,
        "precision": precision or "fp32",
        "quantization": "ptq" if "ptq" in marks else None,
        "runtime": runtime,
        "inference_precision": asked or None,
    }


def model_name(row: Row) -> str:
    """The network, in words."""
    model = str(row.get("model") or "")
    named = is_teacher(row) and model not in MODELS
    return f"Teacher {model.partition('-')[2]}" if named else MODELS.get(model, model or UNKNOWN)


def is_teacher(row: Row) -> bool:
    """Whether the network is a teacher; one of several has a name, such as ``teacher-big``."""
    return str(row.get("model")).partition("-")[0] == "teacher"


def precision_name(row: Row) -> str:
    """What the file stores and how it was quantized: ``FP32``, ``INT8 QAT``; its target where there are several."""
    words = [str(row.get("precision") or UNKNOWN).upper().replace("BF16", "bf16")]
    if row.get("quantization"):
        words.append(str(row["quantization"]).upper())
    target = row.get("target")
    if target and f"-{target}." in str(row.get("file") or ""):
        words.append(f"for {target}")
    return " ".join(words)


def runtime_name(row: Row) -> str:
    """The engine and, where it computes in another precision than the file's, that precision."""
    runtime = str(row.get("runtime") or "")
    lowered = _lowered(row)
    return RUNTIMES.get(runtime, runtime or UNKNOWN) + (f" {lowered}" if lowered else "")


def file_name(row: Row) -> str:
    """Name of the row's file, without its folder; empty when it has none."""
    return str(row.get("file") or "").replace("\\", "/").rpartition("/")[2]


def words(row: Row) -> str:
    """The network and its precision inside a sentence."""
    name = model_name(row)
    return f"{name[:1].lower()}{name[1:]} {precision_name(row)}"


def role(row: Row) -> str:
    """Which colour the row wears: teacher, plain, student, bf16 or int8."""
    if is_teacher(row):
        return "teacher"
    if str(row.get("precision") or "").startswith("int"):
        return "int8"
    if str(row.get("model")) == "student-baseline":
        return "plain"
    return "bf16" if "bf16" in (row.get("precision"), row.get("inference_precision")) else "student"


def sound(row: Row) -> bool:
    """Whether the row's numbers are a real run's: nothing failed, nothing was simulated."""
    return not row.get("error") and not row.get("simulated")


def deployable(row: Row) -> bool:
    """Whether the row is a student that one could ship: a real run of an exported file, outside PyTorch."""
    return sound(row) and row.get("runtime") in DEPLOYED and str(row.get("model") or "").startswith("student")


def score_name(rows: Iterable[Row]) -> str:
    """The score that decides: mIoU, else accuracy, else agreement with the FP32 student in PyTorch."""
    rows = list(rows)
    return next((key for key in SCORES if any(number(row, key) is not None for row in rows)), "miou")


def best_value(values: Iterable[float | None], highest: bool) -> float | None:
    """The best of the known values; None when there are fewer than two different ones."""
    known = {value for value in values if value is not None}
    return None if len(known) < 2 else max(known) if highest else min(known)


def best_teacher(rows: Iterable[Row]) -> str:
    """Model of the teacher with the best score; ``teacher`` where there is one alone."""
    rows = list(rows)
    score = score_name(rows)
    best = max((row for row in rows if is_teacher(row)), key=lambda row: number(row, score) or 0.0, default={})
    return str(best.get("model") or "teacher")


def leading(names: Iterable[str], shipped: str | None = None, teacher: str = "teacher") -> dict[str, str]:
    """One id for each of teacher, plain student, student and INT8 student; ``shipped`` is preferred where it fits.

    Of several teachers it is the one that ``teacher`` names.
    """
    found: dict[str, str] = {}
    for name in sorted(names, key=lambda n: _preference(n, shipped)):
        row = parse(name)
        if row["model"] in (*MODELS, teacher) and row["model"] != "student-longer" and role(row) != "bf16":
            found.setdefault(role(row), name)
    return {key: found[key] for key in ("teacher", "plain", "student", "int8") if key in found}


def _preference(name: str, shipped: str | None) -> tuple[bool, bool, bool, int]:
    row = parse(name)
    engine = ENGINES.index(row["runtime"]) if row["runtime"] in ENGINES else len(ENGINES)
    unusual = row["precision"] != "fp32" and (row["model"], row["precision"]) != ("student", "int8")
    return name != shipped, unusual or row["inference_precision"] is not None, row["quantization"] == "ptq", engine
