"""What one should know before shipping the chosen file: one plain sentence each, or nothing."""

import math

from limbeck.report.choice import TOLERANCE, loss, top
from limbeck.report.rows import (
    POINTS,
    SCORES,
    Row,
    deployable,
    file_name,
    latency,
    number,
    points,
    runtime_name,
    short,
    sound,
    text,
    words,
)

__all__ = ["caveats", "failures"]


def caveats(pick: Row, rows: list[Row], score: str) -> tuple[str, ...]:
    """The sentences that apply to ``pick``, the most important first."""
    told = (
        _no_truth(rows, score),
        _no_latency(pick),
        _views(pick),
        _against_int8(pick, rows, score),
        _against_bf16(pick, rows, score),
        _needs_bf16(pick),
        _coverage(pick),
        _training(pick, rows, score),
        _longer(rows, score),
        _distillation(rows, score),
        _noise(pick),
    )
    return tuple(sentence for sentence in told if sentence)


def failures(rows: list[Row]) -> tuple[str, ...]:
    """How many rows failed, or nothing."""
    failed = sum(bool(row.get("error")) for row in rows)
    return (f"{failed} row{'s' if failed > 1 else ''} failed; the table says why.",) if failed else ()


def _no_truth(rows: list[Row], score: str) -> str:
    if score != "agreement" and top(rows, score) is not None:
        return ""
    if top(rows, "agreement") is None:
        return "Nothing was evaluated: check the predictions before shipping."
    stands = "There was no truth: agreement with the FP32 student stands in for a score"
    return f"{stands}. It says how much a file changes, not how much is right."


def _views(pick: Row) -> str:
    shown = str(pick.get("protocol") or "whole images")
    if shown == "whole images" or latency(pick) is None:
        return ""
    return f"Scores are of {shown}; times are of one whole image, which may score lower."


def _no_latency(pick: Row) -> str:
    if latency(pick) is not None:
        return ""
    return "Nothing was timed, so size decided: run `limbeck bench` on the machine that will serve the model."


def _students(rows: list[Row], precision: str) -> list[Row]:
    return [r for r in rows if deployable(r) and r.get("model") == "student" and r.get("precision") == precision]


def _against_int8(pick: Row, rows: list[Row], score: str) -> str:
    """Why no INT8 file was chosen."""
    integer = _students(rows, "int8")
    if pick.get("precision") == "int8" or not integer:
        return ""
    near = [row for row in integer if loss(row, rows, score) <= TOLERANCE[score] + 1e-9]
    if not near:
        return _lossy(min(integer, key=lambda row: loss(row, rows, score)), rows, score)
    quickest, own = _quickest(near), latency(pick)
    if quickest is None or own is None:
        return ""
    return f"INT8 keeps the score but is not faster here: {_at(quickest)}, the chosen file {short(own)} ms."


def _lossy(row: Row, rows: list[Row], score: str) -> str:
    lost, name = loss(row, rows, score), POINTS[score]
    if math.isinf(lost):
        return f"INT8 was left aside: {_at(row)} but has no {SCORES[score]}."
    return (
        f"INT8 costs too much here: {_at(row)} but loses {text(lost)} {name}, more than the {TOLERANCE[score]} allowed."
    )


def _quickest(rows: list[Row]) -> Row | None:
    return min((r for r in rows if latency(r) is not None), key=lambda r: latency(r) or math.inf, default=None)


def _at(row: Row) -> str:
    took = f" takes {short(latency(row))} ms" if latency(row) is not None else ""
    return f"{file_name(row) or words(row)} in {runtime_name(row)}{took}"


def _against_bf16(pick: Row, rows: list[Row], score: str) -> str:
    """Whether the FP32 file, computed in bf16, would nearly do: it spares the quantization."""
    lowered = _quickest([row for row in _students(rows, "fp32") if row.get("inference_precision") == "bf16"])
    own, other = latency(pick), latency(lowered or {})
    if pick.get("precision") != "int8" or lowered is None or not own or other is None or other / own > 1.15:
        return ""
    kept = number(lowered, score)
    scored = f" with {points(kept)} {POINTS[score]}" if kept is not None else ""
    pair = f"{short(other)} against {short(own)} ms"
    return f"The FP32 file in {runtime_name(lowered)} is nearly as fast ({pair}){scored} and needs no quantization."


def _needs_bf16(pick: Row) -> str:
    if pick.get("inference_precision") != "bf16":
        return ""
    return "bf16 is fast only on processors with AMX or AVX-512 BF16 instructions; on others measure again."


def _coverage(pick: Row) -> str:
    share = number(pick, "int8_coverage")
    if pick.get("precision") != "int8" or share is None or share >= 0.9:
        return ""
    return f"Only {share:.0%} of the multiply-adds run in integer kernels; the rest is still computed in float."


def _training(pick: Row, rows: list[Row], score: str) -> str:
    """What quantization-aware training brought over post-training quantization, in the runtime of the pick."""
    here = [row for row in _students(rows, "int8") if row.get("runtime") == pick.get("runtime")]
    scores = {row.get("quantization"): number(row, score) for row in here}
    trained, post = scores.get("qat"), scores.get("ptq")
    if trained is None or post is None:
        return ""
    if abs(trained - post) < 0.15:
        return "Quantization without training (PTQ) scores the same as quantization-aware training (QAT) here."
    amount = f"{text(abs(trained - post))} {POINTS[score]} {'more' if trained > post else 'less'}"
    return f"Quantization-aware training (QAT) scores {amount} than quantization without training (PTQ)."


def _longer(rows: list[Row], score: str) -> str:
    """What training on in FP32, for as long as QAT took, would have brought."""
    control = _fp32_score(rows, "student-longer", score)
    if control is None or score == "agreement":
        return ""
    return f"Trained on in FP32 for as long as QAT, the student reaches {points(control)} {POINTS[score]}."


def _distillation(rows: list[Row], score: str) -> str:
    """What the teacher brought over training the same student without it."""
    alone, taught = _fp32_score(rows, "student-baseline", score), _fp32_score(rows, "student", score)
    if alone is None or taught is None or score == "agreement":
        return ""
    change = taught - alone
    chance = " With one seed, a difference this small may be chance." if abs(change) < 2 else ""
    amount = f"{'gained' if change >= 0 else 'cost'} {text(abs(change))} {POINTS[score]}"
    return f"Distillation {amount} over the same student trained without a teacher.{chance}"


def _fp32_score(rows: list[Row], model: str, score: str) -> float | None:
    kept = [row for row in rows if row.get("model") == model and row.get("precision") == "fp32" and sound(row)]
    kept = [row for row in kept if row.get("inference_precision") in (None, "", "fp32", "f32")]  # as both were trained
    return max((value for row in kept if (value := number(row, score)) is not None), default=None)


def _noise(pick: Row) -> str:
    typical, slow = latency(pick), latency(pick, "p95")
    if not typical or slow is None or slow < 1.5 * typical:
        return ""
    return f"Timing was unsteady: one inference in twenty took more than {short(slow)} ms."
