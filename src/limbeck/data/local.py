"""Weights that are on this machine already: a block in which nothing is downloaded."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["NotHereError", "may_download", "no_downloads"]

_allowed: ContextVar[bool] = ContextVar("allowed", default=True)


class NotHereError(Exception):
    """What is wanted would have to be downloaded, which :func:`no_downloads` forbids; that is nobody's mistake."""


@contextmanager
def no_downloads() -> Iterator[None]:
    """Within the block, what the hub or a library would send raises :class:`NotHereError` unless it was sent before."""
    token = _allowed.set(False)
    try:
        yield
    finally:
        _allowed.reset(token)


def may_download() -> bool:
    """Whether this is no such block."""
    return _allowed.get()
