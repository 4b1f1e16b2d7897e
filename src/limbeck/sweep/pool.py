"""Runs as child processes, so many at once, each with its claim, its log and its part of the machine."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO

from limbeck.runtimes._cores import physical_cores
from limbeck.stages.share import SHARED
from limbeck.stop import LATER, STOPPED
from limbeck.sweep.folder import Folder

__all__ = ["LOOK_SECONDS", "Pool", "slots", "state_of", "tail"]

LOOK_SECONDS = 0.2
"""Between two looks at the child processes."""

ASKED = (STOPPED, LATER, -signal.SIGINT, -signal.SIGTERM, -signal.SIGUSR1)
"""Exit codes of a run that was asked to stop."""


@dataclass
class _Child:
    name: str
    slot: int
    process: subprocess.Popen[bytes]
    began: float


class Pool:
    """Child processes of a sweep."""

    def __init__(self, folder: Folder, slots: Sequence[Mapping[str, str]], done: str = "done") -> None:
        """Take the sweep's folder, what is set for each process at once, and the state after exit code 0."""
        self.folder, self._slots, self._done = folder, list(slots), done
        self._children: list[_Child] = []
        self._claims: dict[str, IO[str]] = {}

    @property
    def running(self) -> list[str]:
        """Names of the runs that are being done, in the order in which they began."""
        return [child.name for child in self._children]

    @property
    def size(self) -> int:
        """Runs at once."""
        return len(self._slots)

    @property
    def free(self) -> bool:
        """Whether another run may begin."""
        return len(self._children) < len(self._slots)

    def claim(self, name: str) -> bool:
        """Take a run, if no other process has it."""
        found = self.folder.claim(name)
        self._claims |= {name: found} if found else {}
        return found is not None

    def let_go(self, name: str) -> None:
        """Give a run back."""
        self.folder.let_go(self._claims.pop(name))

    def begin(self, name: str, command: Sequence[str]) -> None:
        """Start a claimed run; the child holds its claim too: it is not done twice if this process alone is killed."""
        slot = min(set(range(len(self._slots))) - {child.slot for child in self._children})
        log = self.folder.log(name)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as stream:
            stream.write(f"--- {datetime.now().isoformat(' ', 'seconds')}\n".encode())
            stream.flush()
            environment = (
                os.environ | self._slots[slot] | {"PYTHONUNBUFFERED": "1", SHARED: str(self.folder.shared.resolve())}
            )
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT, env=environment,
                pass_fds=[self._claims[name].fileno()],
            )  # fmt: skip
        self._children.append(_Child(name, slot, process, time.monotonic()))
        self.folder.note(name, state="running", code=None)

    def ended(self) -> dict[str, int]:
        """Exit codes of the runs that ended since the last look; their claims are let go of."""
        over = [child for child in self._children if child.process.poll() is not None]
        self._children = [child for child in self._children if child not in over]
        return {child.name: self._close(child) for child in over}

    def stop(self, signum: int) -> dict[str, int]:
        """Ask every run to save and stop, and wait until it has; exit codes.

        After Ctrl-C on a terminal they have been asked already; a second and other signal does not hurry them.
        """
        for child in self._children:
            child.process.send_signal(signal.SIGTERM if signum == signal.SIGINT else signum)
        for child in self._children:
            child.process.wait()
        return self.ended()

    def _close(self, child: _Child) -> int:
        code = int(child.process.returncode)
        before = self.folder.entry(child.name)["seconds"] or 0.0
        seconds = round(before + time.monotonic() - child.began, 1)
        self.folder.note(child.name, state=state_of(code, self._done), code=code, seconds=seconds)
        self.let_go(child.name)
        return code


def state_of(code: int, done: str = "done") -> str:
    """``done``, ``stopped`` or ``failed`` for an exit code."""
    return done if code == 0 else "stopped" if code in ASKED else "failed"


def slots(workers: int, gpus: int) -> list[dict[str, str]]:
    """What is set for each process at once: its share of the cores, its own GPU."""
    share = str(max(1, physical_cores() // workers))
    shared = {"LIMBECK_CORES": share, "OMP_NUM_THREADS": share} if workers > 1 else {}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(index) for index in range(gpus)]
    cards = [{"CUDA_VISIBLE_DEVICES": names[index % gpus]} if gpus else {} for index in range(workers)]
    return [shared | card for card in cards]


def tail(log: Path, lines: int) -> list[str]:
    """The last lines of a log that are not empty; none where it is on another machine."""
    if not log.is_file():
        return []
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - 16384))
        text = stream.read().decode("utf-8", "replace")
    return [line for line in text.replace("\r", "\n").splitlines() if line.strip()][-lines:]
