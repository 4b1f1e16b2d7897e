"""What stages leave behind: files that appear whole or not at all, and the error a user can act on."""

import fcntl
import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

__all__ = ["UserError", "digest", "file_digest", "flat", "locked", "read_json", "whole", "write_json", "write_text"]

Json = dict[str, Any]


class UserError(Exception):
    """The user's input is wrong: one clear message that says where, what was found and what would work; exit code 2."""


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a path beside ``path`` to write to; it takes ``path``'s place only once it is complete and on disk.

    Raises:
        UserError: If a folder stands where a file should go, or the disk or a file size limit stops the writing.
    """
    if path.is_dir() and any(path.iterdir()):
        raise UserError(f"{path}: a folder is in the file's place; move it away or choose another run name.")
    beside = path.with_name(f".{path.name}.{os.getpid()}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        _readable(beside)
        _sync(beside)
        beside.replace(path)
    except OSError as error:
        raise UserError(f"{path}: could not be written ({error.strerror or error}). Nothing was replaced.") from error
    finally:
        if beside.is_dir():
            shutil.rmtree(beside)
        elif beside.exists():
            beside.unlink()


def _readable(path: Path) -> None:
    """Give a file the rights that any new file gets; some libraries write theirs for the owner alone."""
    if path.is_file():
        mask = os.umask(0)
        os.umask(mask)
        path.chmod(0o666 & ~mask)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def locked(path: Path, busy: Callable[[], None] | None = None) -> Iterator[None]:
    """Let no other process into the block that locks the same file; one that dies, however, lets go of it.

    Args:
        path: The file; it stays.
        busy: Called once before waiting for another process.

    Raises:
        UserError: If the file system knows no locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        try:
            _lock(stream, busy)
        except OSError as error:
            raise UserError(
                f"{path}: cannot be locked ({error.strerror}); several processes can only share a file system that can."
            ) from error
        try:
            yield
        finally:
            fcntl.flock(stream, fcntl.LOCK_UN)  # processes that were forked meanwhile have the file open too


def _lock(stream: IO[str], busy: Callable[[], None] | None) -> None:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if busy is not None:
            busy()
        fcntl.flock(stream, fcntl.LOCK_EX)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all."""
    with whole(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, whole or not at all; NaN and infinity are written as null."""
    write_text(path, json.dumps(_finite(value), indent=1, ensure_ascii=False) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: If the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a JSON file ({error}).") from None


def digest(value: Any) -> str:
    """A short hash of a JSON-like value: equal values give equal hashes, whatever the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def flat(value: Any, key: str = "") -> dict[str, Any]:
    """Single values of nested ones by their dotted keys."""
    if isinstance(value, dict):
        return {k: v for name, item in value.items() for k, v in flat(item, f"{key}.{name}" if key else name).items()}
    if isinstance(value, list):
        return {k: v for index, item in enumerate(value) for k, v in flat(item, f"{key}.{index}").items()}
    return {key: value}


def file_digest(path: Path) -> str:
    """A short hash of a file's bytes, or of names and bytes for a folder."""
    if path.is_dir():
        return digest({str(p.relative_to(path)): file_digest(p) for p in sorted(path.rglob("*")) if p.is_file()})
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]
