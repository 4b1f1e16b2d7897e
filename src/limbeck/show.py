"""Progress that a person can read: a bar with rate and time left on a terminal, a line now and then in a log file."""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["Bar", "aligned", "bar", "is_first_process", "say"]

QUIET_SECONDS = 20.0
"""Between two lines where there is no terminal."""


def _console() -> Console:
    return Console(stderr=True, highlight=False, soft_wrap=True)


def is_first_process() -> bool:
    """True in the process that writes and speaks: the only one, or the first of several."""
    return os.environ.get("RANK", "0") == "0"


def say(text: str) -> None:
    """Print a line to standard error, on the first process only."""
    if is_first_process():
        _console().print(text, markup=False)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of equally many cells as lines in which the columns stand below one another."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]


class Bar:
    """Progress of one job; set :attr:`note` to show a number beside it."""

    def __init__(self, what: str, total: int | None, done: int, unit: str, live: Progress | None) -> None:
        self.what, self.total, self.done, self.unit, self.note = what, total, done, unit, ""
        self._live, self._first, self._start, self._said = live, done, time.monotonic(), time.monotonic()
        self._task = live.add_task(what, total=total, completed=done, note="", rate="") if live else None

    @property
    def rate(self) -> float:
        """Units a second since the start; 0 before the first."""
        return (self.done - self._first) / max(1e-9, time.monotonic() - self._start)

    def advance(self, done: int) -> None:
        """Say that ``done`` units are done in all."""
        self.done = done
        if self._live is not None and self._task is not None:
            self._live.update(self._task, completed=done, note=self.note, rate=f"{self.rate:.1f} {self.unit}/s")
        elif time.monotonic() - self._said > QUIET_SECONDS:
            self._said = time.monotonic()
            say(f"{self.what}: {done}{self._of_all(done)}  {self.note}".rstrip())

    def _of_all(self, done: int) -> str:
        """Out of how many, how fast and how long still, as far as that is known."""
        total = "" if self.total is None else f"/{self.total}"
        left = "" if self.total is None or not self.rate else f", {(self.total - done) / self.rate:.0f} s left"
        return f"{total} {self.unit}" + (f", {self.rate:.1f}/s{left}" if self.rate else "")


@contextmanager
def bar(what: str, total: int | None, *, done: int = 0, unit: str = "steps") -> Iterator[Bar]:
    """Show the progress of a job for the time of the block; ``total`` is None where nobody knows it."""
    if not is_first_process() or not sys.stderr.isatty():
        yield Bar(what, total, done, unit, None)
        return
    columns = [
        TextColumn("{task.description}"), BarColumn(24), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[note]}"),
    ]  # fmt: skip
    with Progress(*columns, console=_console(), transient=True) as live:
        yield Bar(what, total, done, unit, live)
