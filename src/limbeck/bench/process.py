"""A child process that answers one request at a time, and never outlives the ``with`` block it is used in."""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

__all__ = ["NoAnswerError", "Process", "running"]

Json = dict[str, Any]
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# Threads that wait sleep, in PyTorch too: the other rows' idle processes must not take cores from the one that works.
ASLEEP = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"}


class NoAnswerError(Exception):
    """A child did not do what it was asked; one line says why."""


@contextmanager
def running(module: str, threads: int, timeout_s: float) -> Iterator["Process"]:
    """Run ``python -m module`` until the block ends, however it ends.

    It gets a session of its own, so that Ctrl-C reaches only this process, which then kills it. Should this process be
    killed itself, the child reads the end of its input and ends.

    Args:
        threads: Value of the environment variables by which numerical libraries choose their number of threads.
        timeout_s: How long an answer may take.
    """
    with (
        tempfile.TemporaryFile() as stderr,
        subprocess.Popen(
            [sys.executable, "-P", "-m", module],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=os.environ | dict.fromkeys(THREADS, str(threads)) | ASLEEP,
            start_new_session=True,
        ) as popen,
    ):
        child = Process(popen, stderr, timeout_s)
        try:
            yield child
        finally:
            child.kill()


class Process:
    """The asking end of a child that reads a JSON line and answers by one."""

    def __init__(self, popen: subprocess.Popen[bytes], stderr: IO[bytes], timeout_s: float) -> None:
        assert popen.stdin is not None
        assert popen.stdout is not None
        self._popen, self._stderr, self._timeout_s = popen, stderr, timeout_s
        self._requests, self._answers = popen.stdin, popen.stdout

    def kill(self) -> None:
        """End the child and whatever it started, now."""
        if self._popen.poll() is None:
            os.killpg(self._popen.pid, signal.SIGKILL)
            self._popen.wait()

    def ask(self, request: Json) -> Json:
        """The child's answer.

        Raises:
            NoAnswerError: If it answers with an error, ends, or takes too long; in the last case it is killed.
        """
        try:
            self._requests.write(json.dumps(request).encode() + b"\n")
        except BrokenPipeError:
            raise NoAnswerError(self._last_words()) from None
        if not select.select([self._answers], [], [], self._timeout_s)[0]:
            self.kill()
            raise NoAnswerError(f"no answer within {self._timeout_s:g} s")
        line = self._answers.readline()
        if not line:
            raise NoAnswerError(self._last_words())
        answer: Json = json.loads(line)
        if "error" in answer:
            raise NoAnswerError(_one_line(answer["error"]))
        return answer

    def _last_words(self) -> str:
        code = self._popen.wait()
        how = f"crashed with {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        if code == -signal.SIGKILL:
            how += " (out of memory?)"
        self._stderr.seek(0)
        said = self._stderr.read().decode(errors="replace").strip()
        return _one_line(f"{how}: {said.splitlines()[-1]}" if said else how)


def _one_line(text: str) -> str:
    return " ".join(text.split())
