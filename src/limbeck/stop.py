"""Being asked to stop: by Ctrl-C, or by SIGTERM or SIGUSR1, which a cluster sends before it takes the machine away."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

__all__ = ["LATER", "SIGNALS", "STOPPED", "Asked", "Evicted", "at_once", "between_steps", "error_of"]

STOPPED = 130
"""Exit code after Ctrl-C."""

LATER = os.EX_TEMPFAIL
"""Exit code, 75, after SIGTERM or SIGUSR1: nothing is wrong, the same command goes on."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Evicted(BaseException):
    """SIGTERM or SIGUSR1: stop, and be started again later."""


@dataclass
class Asked:
    """The first signal that asked to stop; 0 before one did."""

    signum: int = 0


_asked = Asked()


def error_of(signum: int) -> BaseException:
    """What is raised for a signal."""
    return KeyboardInterrupt() if signum == signal.SIGINT else Evicted()


@contextmanager
def at_once() -> Iterator[None]:
    """Raise where the program stands at the first signal; after it, only another Ctrl-C interrupts the tidying up."""

    def handle(signum: int, frame: FrameType | None) -> None:
        if not _asked.signum or signum == signal.SIGINT:
            _asked.signum = _asked.signum or signum
            raise error_of(signum)

    with _handled_by(handle):
        yield


@contextmanager
def between_steps() -> Iterator[Asked]:
    """Turn the first signal into a note that is looked at between steps; a second Ctrl-C interrupts at once."""

    def handle(signum: int, frame: FrameType | None) -> None:
        if _asked.signum and signum == signal.SIGINT:
            raise KeyboardInterrupt
        _asked.signum = _asked.signum or signum

    with _handled_by(handle):
        yield _asked
    if _asked.signum:  # it came after the last look
        raise error_of(_asked.signum)


@contextmanager
def _handled_by(handle: object) -> Iterator[None]:
    """Let a function handle the signals within the block; only a process's main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signum: signal.signal(signum, handle) for signum in SIGNALS}  # type: ignore[arg-type]
    _asked.signum = 0
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
