"""Which file to ship, and why: the fastest exported student that scores as well as the best one."""

from dataclasses import dataclass

from limbeck.report.caveats import caveats, failures
from limbeck.report.choice import SAME_SPEED, TOLERANCE, choose, reference, top
from limbeck.report.rows import (
    POINTS,
    SCORES,
    TIMES,
    Row,
    deployable,
    file_name,
    latency,
    number,
    points,
    runtime_name,
    score_name,
    short,
    text,
    words,
)

__all__ = ["Verdict", "ratio", "times", "verdict"]


@dataclass(frozen=True)
class Verdict:
    """The file to ship in words, with the rows it is compared with.

    ``pick`` is None when no exported student ran; ``score`` names the score that decided; ``student`` is the FP32
    student in ONNX Runtime and ``teacher`` the FP32 teacher, each None when unknown.
    """

    pick: Row | None
    score: str
    headline: str
    reason: str
    caveats: tuple[str, ...]
    student: Row | None
    teacher: Row | None


def verdict(rows: list[Row]) -> Verdict:
    """Choose the fastest deployable student within ``choice.TOLERANCE`` of the best student, and say why.

    Scores are mIoU, else accuracy, else agreement with the FP32 student. Without latencies the smallest file is chosen;
    without scores the fastest. With no exported student there is no pick, and the reason says what is missing.
    """
    score = score_name(rows)
    candidates = [row for row in rows if deployable(row) and (score != "agreement" or row.get("model") == "student")]
    if not candidates:
        reason = "No exported student ran in ONNX Runtime or OpenVINO in this run, so there is nothing to choose from."
        return Verdict(None, score, "No file to ship yet", reason, failures(rows), None, None)
    pick = choose([row for row in candidates if latency(row) is not None] or candidates, rows, score)
    student, teacher = reference(rows, "student", pick), reference(rows, "teacher", pick)
    headline = f"Ship {file_name(pick) or words(pick)} with {runtime_name(pick)}"
    told = (*caveats(pick, rows, score), *failures(rows))
    return Verdict(pick, score, headline, _reason(pick, rows, score, student, teacher), told, student, teacher)


def times(own: float | None, other: float | None) -> float | None:
    """How many times ``other`` is of ``own``; None when either is unknown or zero."""
    return None if not own or not other else other / own


def ratio(value: float | None, more: str, less: str, equal: str) -> str:
    """``times`` in words: ``2.1× faster``; nothing when unknown."""
    if value is None:
        return ""
    if 1 / SAME_SPEED < value < SAME_SPEED:
        return equal
    factor = max(value, 1 / value)
    digits = 0 if factor >= 9.95 else 1 if factor >= 1.1 else 2
    return f"{factor:.{digits}f}{TIMES} {more if value > 1 else less}"


def _reason(pick: Row, rows: list[Row], score: str, student: Row | None, teacher: Row | None) -> str:
    others = [("the FP32 student in ONNX Runtime", student), ("the FP32 teacher", teacher)]
    told = [(name, _compare(pick, row, score)) for name, row in others if row is not None and row is not pick]
    compared = "; ".join(f"against {name} it is {words}" for name, words in told if words)
    measured = _measured(pick)
    sentence = f"{_why(pick, rows, score)}{': ' if measured else ''}{measured}."
    return f"{sentence} {compared[0].upper()}{compared[1:]}." if compared else sentence


def _why(pick: Row, rows: list[Row], score: str) -> str:
    highest, own, name = top(rows, score), number(pick, score), POINTS[score]
    rank = "fastest" if latency(pick) is not None else "smallest"
    if highest is None or own is None:
        return f"It is the {rank} exported student; no score was measured"
    if highest - own > TOLERANCE[score] + 1e-9:
        lost = f"this one loses least ({points(own)})"
        return f"No file stays within {TOLERANCE[score]} {name} of the best student ({points(highest)}); {lost}"
    near = f"within {TOLERANCE[score]} {name} of the best"
    if highest - own < 0.05 and _is_first(pick, rows):
        return f"It is the {rank} student file, and none scores better ({points(own)} {name})"
    if highest - own < 0.05:
        return f"No student file scores better ({points(own)} {name}), and it is the {rank} {near}"
    return f"It is the {rank} student file {near} ({points(own)} against {points(highest)})"


def _is_first(pick: Row, rows: list[Row]) -> bool:
    """Whether no deployable file at all is faster; without times, smaller."""
    measure = latency if latency(pick) is not None else file_size
    own = measure(pick)
    others = [value for row in rows if deployable(row) and (value := measure(row)) is not None]
    return own is not None and own <= min(others, default=own) * SAME_SPEED


def file_size(row: Row) -> float | None:
    """Megabytes of a row's file."""
    return number(row, "file_mb")


def _measured(pick: Row) -> str:
    took, size = latency(pick), number(pick, "file_mb")
    parts = [f"{short(took)} ms {_each(pick)}{_where(pick)}"] if took is not None else []
    return " and ".join(parts + ([f"{short(size)} MB"] if size is not None else []))


def _each(pick: Row) -> str:
    shape = pick.get("input")
    batch = shape[0] if isinstance(shape, list) and shape else 1
    return "an image" if batch == 1 else f"a batch of {batch}"


def _where(pick: Row) -> str:
    threads = pick.get("threads")
    device = str(pick.get("device") or "")
    known = [part for part in (device, f"{threads} threads" if threads and device == "cpu" else "") if part]
    return f" ({', '.join(known)})" if known else ""


def _compare(pick: Row, other: Row, score: str) -> str:
    said = [
        ratio(times(latency(pick), latency(other)), "faster", "slower", "equally fast"),
        ratio(times(number(pick, "file_mb"), number(other, "file_mb")), "smaller", "larger", "equally large"),
    ]
    own, theirs = number(pick, score), number(other, score)
    if own is not None and theirs is not None and score != "agreement":
        said.append(_change(own - theirs, score))
    kept = [words for words in said if words]
    return " and ".join(part for part in (", ".join(kept[:-1]), *kept[-1:]) if part)


def _change(points: float, score: str) -> str:
    if abs(points) < 0.05:
        return f"equal in {SCORES[score]}"
    return f"{text(abs(points))} {POINTS[score]} {'higher' if points > 0 else 'lower'}"
