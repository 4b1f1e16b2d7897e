"""The table of a sweep: a row for every method, its mean over seeds, its gain and what it cost."""

from collections.abc import Iterable, Mapping
from typing import Any

from limbeck.report.rows import identity, latency, number
from limbeck.sweep.compare import Drawn, compare, in_equal_time
from limbeck.sweep.methods import Method, control_of, longer_control_of, methods
from limbeck.sweep.notes import notes
from limbeck.sweep.results import STUDENT, Run, Sweep
from limbeck.sweep.statistics import DRAWS, mean_and_deviation

__all__ = ["tabulate"]

Json = dict[str, Any]


def tabulate(sweep: Sweep, draws: int = DRAWS, block: int = 1) -> Json:
    """Everything that a sweep says, as plain values.

    Args:
        sweep: Its runs.
        draws: Sets of images of the bootstrap.
        block: Consecutive images that are drawn together.

    Returns:
        ``name``, ``score``, ``split``, ``images``; ``rows``, one a method; ``files``, one a method and exported row;
        ``missing``, the runs that have no score; ``shared_hours`` of stages that several runs have in common;
        ``notes``, what to keep in mind, in words.
    """
    found, drawn = methods(sweep), Drawn(draws, block)
    rows = [_row(method, found, drawn, sweep) for method in found]
    leader = _lead(rows, found, drawn)
    reports = [run.report for run in sweep.runs if run.report]
    split = next((str(row["split"]) for report in reports for row in report.rows if row.get("split")), None)
    table: Json = {
        "name": sweep.name, "score": sweep.score, "split": split, "block": block, "draws": draws,
        "images": next((len(n.images) for method in found for n in method.networks.values()), None),
        "rows": rows, "leader": leader, "files": [line for method in found for line in _files(method, sweep.score)],
        "missing": [_missing(run) for run in sweep.runs if STUDENT not in run.networks],
        "shared_hours": _hours(_shared(sweep.runs).values()),
    }  # fmt: skip
    return table | {"notes": notes(table)}


def _missing(run: Run) -> Json:
    return {"name": run.name, "state": run.state, "code": run.code}


def _row(method: Method, found: list[Method], drawn: Drawn, sweep: Sweep) -> Json:
    networks = list(method.networks.values())
    scores = [network.score for network in networks]
    mean, deviation = mean_and_deviation(scores)
    control = control_of(method, found)
    longer = longer_control_of(method, control, found) if control else None
    step_ms = _mean(network.step_ms for network in networks)
    control_ms = _mean(n.step_ms for n in control.networks.values()) if control else None
    in_time = compare(method, longer, drawn) if longer else None
    seconds = _mean(network.seconds for network in networks)
    shared = _shared(sweep.runs)
    return {
        "method": method.label, "axes": dict(method.axes), "plain": method.plain, "longer": method.longer,
        "seeds": list(method.networks), "wanted": len(method.runs), "scores": scores, "mean": mean, "sd": deviation,
        "missing": [run.name for run in method.missing],
        "gain": compare(method, control, drawn) if control else None,
        "equal_time": in_time, "at_control_end": in_equal_time(method, control, sweep.score) if control else None,
        "steps": next((network.steps for network in networks), None),
        "step_ms": step_ms, "step_ratio": step_ms / control_ms if step_ms and control_ms else None,
        "training_hours": None if seconds is None else seconds / 3600,
        "device_hours": _hours(_own(method, shared)),
        "params_m": _mean(number(network.row, "params_m") for network in networks),
        "file_mb": _mean(number(network.row, "file_mb") for network in networks),
    }  # fmt: skip


def _mean(values: Iterable[float | None]) -> float | None:
    return mean_and_deviation([value for value in values if value is not None])[0]


def _shared(runs: Iterable[Run]) -> dict[tuple[str, str], float]:
    """Stages that more than one run holds a copy of, each once."""
    seen: dict[tuple[str, str], float] = {}
    twice: dict[tuple[str, str], float] = {}
    for run in runs:
        for key, seconds in run.stages.items():
            (twice if key in seen else seen)[key] = seconds
    return twice


def _own(method: Method, shared: Mapping[tuple[str, str], float]) -> list[float]:
    """Seconds of the stages that the method's runs have to themselves; of a baseline its training alone."""
    baseline = method.role != STUDENT
    return [
        seconds
        for run in method.runs
        for key, seconds in run.stages.items()
        if key not in shared and (key[0] == method.role or (not baseline and not key[0].startswith("student-")))
    ]


def _hours(seconds: Iterable[float]) -> float | None:
    known = list(seconds)
    return sum(known) / 3600 if known else None


def _lead(rows: list[Json], found: list[Method], drawn: Drawn) -> Json | None:
    """The method with the highest mean, if its gain is resolved, and those it is not told apart from."""
    known = [(row, method) for row, method in zip(rows, found, strict=True) if row["mean"] is not None]
    if len(known) < 2:
        return None
    best, method = max(known, key=lambda pair: pair[0]["mean"])
    rivals = [(other, compare(method, other, drawn)) for _, other in known if other is not method]
    apart = [other.label for other, gain in rivals if gain and gain["resolved"]]
    close = [other.label for other, gain in rivals if not (gain and gain["resolved"])]
    own = best["gain"]
    resolved = bool(own and own["resolved"] and own["value"] > 0)
    return {"method": best["method"], "resolved": resolved, "ahead_of": apart, "level_with": close}


def _files(method: Method, score: str) -> list[Json]:
    """Means over the seeds for every row of the student but its fp32 one in PyTorch."""
    runs = [run for run in method.runs if method.role in run.networks and run.report]
    rows = [row for run in runs for row in (run.report.rows if run.report else ()) if row.get("model") == method.role]
    names = list(dict.fromkeys(identity(row) for row in rows))
    kept = [(name, [row for row in rows if identity(row) == name and not row.get("error")]) for name in names]
    reference = {run.name: run.networks[method.role].score for run in runs}
    base = mean_and_deviation(list(reference.values()))[0]
    return [_file(method, mine, score, base) for name, mine in kept if mine and not name.endswith(".fp32.eager")]


def _file(method: Method, rows: list[Json], score: str, base: float | None) -> Json:
    mean, deviation = mean_and_deviation([value for row in rows if (value := number(row, score)) is not None])
    return {
        "method": method.label, "row": rows[0], "runs": len(rows), "mean": mean, "sd": deviation,
        "change": mean - base if mean is not None and base is not None and len(rows) == len(method.networks) else None,
        "latency_ms": _mean(latency(row) for row in rows), "file_mb": _mean(number(row, "file_mb") for row in rows),
    }  # fmt: skip
