"""Batches that threads prepare while the one before is used."""

import os
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.data import default_collate

if TYPE_CHECKING:
    from limbeck.data.views import Views

__all__ = ["Ahead"]

Batch = dict[str, Tensor]

DEPTH = 2
"""Batches that wait or are prepared at a time."""

THREADS = 2
"""They share the views of a batch, so that one that is waited for comes in half the time; Python keeps no more busy."""

NICE = 10
"""A low priority. A training on a CPU splits its work evenly among the cores and waits for the last of them, so that a
core it had to share would cost it as if every core were shared; most of the preparing fits into its pauses. The lowest
priority would wait for ever where other programs keep all cores busy: this one gets a tenth of a core from each."""


class Ahead:
    """The batches of views, in order; numpy and torch let go of the interpreter, so that all threads get on.

    Unlike worker processes they need no shared memory, which containers are often short of, and share the cache.
    A mistake in a sample is raised where its batch would have come.
    """

    def __init__(self, views: "Views", batches: Iterable[list[tuple[int, int]]]) -> None:
        self.views, self.batches = views, batches

    def __iter__(self) -> Iterator[Batch]:
        pool, batches = _pool(), iter(self.batches)
        try:
            waiting = deque(self._asked(pool, keys) for keys in islice(batches, DEPTH))
            while waiting:
                found = waiting.popleft().result()
                waiting.extend(self._asked(pool, keys) for keys in islice(batches, 1))
                yield found
        finally:
            pool.shutdown(cancel_futures=True)

    def _asked(self, pool: ThreadPoolExecutor, keys: list[tuple[int, int]]) -> Future[Batch]:
        views = [pool.submit(self.views.__getitem__, key) for key in keys]
        return pool.submit(_together, views)  # its turn comes when all of them are begun


def _together(views: list[Future[Batch]]) -> Batch:
    batch: Batch = default_collate([view.result() for view in views])
    pin = torch.cuda.is_available()
    return {key: value.pin_memory() for key, value in batch.items()} if pin else batch


def _pool() -> ThreadPoolExecutor:
    """Threads of low priority that compute with one thread each, all of them running."""
    threads, begun = torch.get_num_threads(), threading.Barrier(THREADS)
    pool = ThreadPoolExecutor(THREADS, "ahead", _behind)
    list(pool.map(lambda _: begun.wait(), range(THREADS)))
    torch.set_num_threads(threads)  # they asked for one, for themselves, but new ones would follow them
    return pool


def _behind() -> None:
    torch.set_num_threads(1)
    torch.get_num_threads()  # a thread asks once what it may use, and the answer is soon another
    if sys.platform == "linux":  # elsewhere a priority is that of the whole process
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
