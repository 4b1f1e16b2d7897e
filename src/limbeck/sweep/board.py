"""What a sweep says while it goes on: which run begins and ends, how many are left, how long still."""

import time
from collections.abc import Sequence
from statistics import mean

from limbeck import show
from limbeck.sweep.folder import Folder
from limbeck.sweep.pool import state_of, tail

__all__ = ["Board"]

QUIET_SECONDS = 60.0
"""Between two lines while nothing begins or ends."""


class Board:
    """Progress of a sweep, in lines on standard error."""

    def __init__(self, folder: Folder, left: int, workers: int) -> None:
        self.folder, self.left, self._workers = folder, left, workers
        self._took: list[float] = []
        self._began: dict[str, float] = {}
        self._said, self._waits = time.monotonic(), False

    def begins(self, name: str) -> None:
        """Say that a run begins."""
        self._began[name] = time.monotonic()
        self._say(f"{name} begins; {self.left} to do; its output is in {self.folder.log(name)}")

    def ended(self, name: str, code: int) -> None:
        """Say how a run ended, and how long the others will take."""
        took = time.monotonic() - self._began.pop(name)
        self.left -= 1
        if code == 0:
            self._took.append(took)
        how = {"done": "done", "stopped": "stopped"}.get(state_of(code), f"FAILED with exit code {code}")
        self._say(f"{name} {how} after {_span(took)}; {self.left} left{self._still()}")

    def elsewhere(self, name: str, code: int) -> None:
        """Say that another process brought a run to its end."""
        self.left -= 1
        self._say(f"{name} {'done' if code == 0 else 'FAILED'} in another process; {self.left} left")

    def beat(self, running: Sequence[str], waiting: int) -> None:
        """Say what the runs print, now and then; with none of its own, what it waits for."""
        quiet = time.monotonic() - self._said < QUIET_SECONDS
        if waiting and not running and not (quiet and self._waits):
            self._waits = True
            self._say(f"other processes have the {waiting} runs that are left; waiting for them")
        if quiet:
            return
        for name in running:
            last = tail(self.folder.log(name), 1)
            self._say(f"{name}: {last[0].strip() if last else 'begins'}")

    def _still(self) -> str:
        if not self._took or not self.left:
            return ""
        each = mean(self._took)
        return f", {_span(each)} each, about {_span(each * self.left / self._workers)} in all"

    def _say(self, text: str) -> None:
        self._said = time.monotonic()
        show.say(f"sweep: {text}")


def _span(seconds: float) -> str:
    """A time as a person says it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
