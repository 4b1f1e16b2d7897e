"""Batches that a thread prepares while the one before is used."""

import threading
from collections.abc import Iterable, Iterator
from queue import Full, Queue
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.data import default_collate

if TYPE_CHECKING:
    from limbeck.data.views import Views

__all__ = ["Ahead"]

Batch = dict[str, Tensor]
Item = Batch | BaseException | None
Ready = Queue[Item]

DEPTH = 2
"""Batches that wait at most."""

PATIENCE = 0.2
"""Seconds between two looks at whether anybody still wants the next batch."""


class Ahead:
    """The batches of views, in order; numpy and torch let go of the interpreter, so that both threads get on.

    Unlike worker processes it needs no shared memory, which containers are often short of, and shares the cache.
    A mistake in a sample is raised where its batch would have come.
    """

    def __init__(self, views: "Views", batches: Iterable[list[tuple[int, int]]]) -> None:
        self.views, self.batches = views, batches

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        ready: Ready = Queue(DEPTH)
        begun, over = threading.Event(), threading.Event()
        threads = torch.get_num_threads()
        thread = threading.Thread(target=self._prepare, args=(ready, begun, over), daemon=True)
        thread.start()
        begun.wait()
        torch.set_num_threads(threads)  # the thread asked for one, for itself, but new ones would follow it
        try:
            while (found := ready.get()) is not None:
                if isinstance(found, BaseException):
                    raise found
                yield found
        finally:
            over.set()
            thread.join()

    def _prepare(self, ready: Ready, begun: threading.Event, over: threading.Event) -> None:
        torch.set_num_threads(1)
        begun.set()
        try:
            for keys in self.batches:
                batch = default_collate([self.views[key] for key in keys])
                if not _put(ready, _pinned(batch), over):
                    return
            _put(ready, None, over)
        except BaseException as error:
            _put(ready, error, over)


def _pinned(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    pin = torch.cuda.is_available()
    return {key: value.pin_memory() for key, value in batch.items()} if pin else batch


def _put(ready: Ready, item: Item, over: threading.Event) -> bool:
    """Wait for room; False if nobody wants the item any more."""
    while not over.is_set():
        try:
            ready.put(item, timeout=PATIENCE)
            return True
        except Full:
            continue
    return False
