"""Keep a pool of child processes busy until every run is done, and stop them all when asked to."""

import signal
import time
from collections.abc import Callable, Mapping, Sequence

from limbeck.stop import STOPPED, Evicted, between_steps, error_of
from limbeck.sweep.board import Board
from limbeck.sweep.cluster import Cluster
from limbeck.sweep.pool import LOOK_SECONDS, Pool, state_of

__all__ = ["do", "obey"]


def do(pool: Pool | Cluster, commands: Mapping[str, Sequence[str]], finished: Callable[[str], bool]) -> dict[str, int]:
    """Exit code of every command by the name of its run.

    A run that another process has is waited for: it may be dropped, and is then taken up here.

    Args:
        pool: Where they run.
        commands: What to start, by name, in order.
        finished: Whether a run is done, for one that another process had.

    Raises:
        KeyboardInterrupt, Evicted: After a signal to this process or to a run, once every run has saved.
    """
    left, others, codes = list(commands), set[str](), dict[str, int]()
    board = Board(pool.folder, len(left), pool.size)
    with between_steps() as asked:
        try:
            while left or pool.running:
                codes |= _fill(pool, left, others, commands, finished, board)
                ended = pool.ended()
                for name, code in ended.items():
                    board.ended(name, code)
                codes |= ended
                obey(asked.signum, ended)
                board.beat(pool.running, len(left) if others.issuperset(left) else 0)
                time.sleep(LOOK_SECONDS)
        except BaseException:
            for name, code in pool.stop(asked.signum or signal.SIGTERM).items():
                board.ended(name, code)
            raise
    return codes


def _fill(
    pool: Pool | Cluster,
    left: list[str],
    others: set[str],
    commands: Mapping[str, Sequence[str]],
    finished: Callable[[str], bool],
    board: Board,
) -> dict[str, int]:
    """Begin runs as long as there is room; exit codes of those that another process had and brought to an end."""
    codes: dict[str, int] = {}
    for name in list(left):
        if not pool.free:
            break
        if not pool.claim(name):
            others.add(name)
            continue
        left.remove(name)
        code = _elsewhere(pool, name, finished) if name in others else None
        if code is None:
            board.begins(name)
            pool.begin(name, commands[name])
            continue
        pool.let_go(name)
        board.elsewhere(name, code)
        codes[name] = code
    return codes


def _elsewhere(pool: Pool | Cluster, name: str, finished: Callable[[str], bool]) -> int | None:
    """Exit code of a run that another process brought to an end; None if it only dropped it."""
    entry = pool.folder.entry(name)
    if entry["state"] == "failed":
        return int(entry["code"])
    return 0 if finished(name) else None


def obey(signum: int, ended: Mapping[str, int]) -> None:
    """Raise if this process was asked to stop, or one of the runs that ended."""
    if signum:
        raise error_of(signum)
    stopped = [code for code in ended.values() if state_of(code) == "stopped"]
    if stopped:
        raise KeyboardInterrupt if stopped[0] in (STOPPED, -signal.SIGINT) else Evicted
