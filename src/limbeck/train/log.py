"""metrics.jsonl: one line for every few steps and every validation, cut back when a training is taken up."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from limbeck.record import write_text
from limbeck.train.fit import Tick

__all__ = ["Averages", "append", "cut_back"]


def append(log: Path, line: Mapping[str, Any]) -> None:
    """Add a line; it is on disk when this returns."""
    with log.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line) + "\n")
        stream.flush()


def cut_back(log: Path, stage: str, step: int) -> None:
    """Remove a stage's lines after ``step``, and a last line that a killed process left unfinished."""
    if not log.is_file():
        return
    kept = [line for text in log.read_text(encoding="utf-8").splitlines() if (line := _parsed(text)) is not None]
    kept = [line for line in kept if line["stage"] != stage or line["step"] <= step]
    write_text(log, "".join(json.dumps(line) + "\n" for line in kept))


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        line: dict[str, Any] = json.loads(text)
    except json.JSONDecodeError:
        return None
    return line


class Averages:
    """What is logged: means of loss and parts, shares of time and images a second since the last line."""

    def __init__(self) -> None:
        self._ticks: list[Tick] = []
        self._since = time.perf_counter()

    def add(self, tick: Tick) -> None:
        """Count a step in."""
        self._ticks.append(tick)

    def line(self) -> dict[str, Any]:
        """The averages, and start anew."""
        ticks, count = self._ticks, len(self._ticks)
        spent = {name: sum(t.seconds.get(name, 0.0) for t in ticks) for name in ("data", "teacher", "student", "loss")}
        whole = sum(spent.values())
        elapsed = time.perf_counter() - self._since
        found = {
            "loss": sum(float(t.loss) for t in ticks) / count,
            "parts": {name: sum(float(t.parts.get(name, 0.0)) for t in ticks) / count for name in ticks[-1].parts},
            "lr": ticks[-1].lr,
            "time": {name: round(seconds / whole, 4) for name, seconds in spent.items()} if whole else None,
            "images_per_s": round(sum(t.images for t in ticks) / elapsed, 2),
        }
        self.reset()
        return found

    def reset(self) -> None:
        """Forget the steps so far, after a pause such as a validation."""
        self._ticks, self._since = [], time.perf_counter()
