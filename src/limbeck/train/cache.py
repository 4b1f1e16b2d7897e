"""What a teacher said about each view of each image, in one memory-mapped file for all processes and runs."""

import json
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck import show
from limbeck.record import UserError, digest, flat, locked, whole

__all__ = ["Entries", "gib"]

MADE_BY = 1
"""Changes with the layout of the file."""

PAGE = 4096
LONGEST_HEADER = 16 * PAGE
SUMS = np.dtype([("data", "<u4"), ("view", "<u4")])
"""Checksums of an entry, and of the view that it is about; those of an entry that is not there are 0."""

Key = tuple[int, int]
"""Image and view."""

Block = NDArray[np.uint16]


class Entries:
    """Blocks of 16-bit numbers by image and view, each written once; several processes may read and write.

    The file begins with a page that says what it is of, then two checksums an entry, then the entries, each at a place
    of its own. An entry counts once its checksums are there, which come after its data: a killed run leaves what it
    had. One whose data do not fit their checksum counts as not there.

    Args:
        folder: Where the file is.
        about: All that decides what the teacher says; the file's name has a hash of it.
        images: Number of images.
        views: Number of views of each.
        shape: Of an entry.

    Raises:
        UserError: If there is a file of the name that is about something else, or too little room on the disk.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any], images: int, views: int, shape: tuple[int, ...]) -> None:
        self.count, self.shape = (images, views), shape
        whole_key = {"made_by": MADE_BY, **about, "images": images, "views": views, "shape": shape}
        key = digest(whole_key)
        self.path, self._lock = folder / f"{key}.bin", folder / f"{key}.lock"
        self._header = json.dumps(whole_key).encode()
        self._table = -(-(len(self._header) + 1) // PAGE) * PAGE
        self._data = self._table + -(-images * views * SUMS.itemsize // PAGE) * PAGE
        self.size = self._data + images * views * int(np.prod(shape)) * 2
        self._sound: NDArray[np.bool_] = np.zeros(self.count, bool)
        with locked(self._lock):
            self._begin()
        self._sums = np.memmap(self.path, SUMS, "r", self._table, self.count)
        self._entries: Any = np.memmap(self.path, np.uint16, "r", self._data, (*self.count, *shape))

    def _begin(self) -> None:
        """Make the file, at its full size but without contents, unless it is there."""
        if self.path.is_file():
            with self.path.open("rb") as stream:
                head = stream.read(self._table).rstrip(b"\0")
            if head == self._header and self.path.stat().st_size == self.size:
                return
            _refuse_other(self.path, head, json.loads(self._header))
            show.say(f"{self.path}: damaged; the teacher is asked again")
            self.path.unlink()
        _say_why_not(self.path.parent, json.loads(self._header))
        with whole(self.path) as part, part.open("wb") as stream:
            stream.write(self._header)
            stream.truncate(self.size)

    @property
    def known(self) -> int:
        """Entries that are there."""
        return int(np.count_nonzero(self._sums["data"]))

    @property
    def missing_bytes(self) -> int:
        """What the disk still needs room for."""
        return max(0, self.size - self.path.stat().st_blocks * 512)

    def read(self, keys: Sequence[Key], checks: Sequence[int]) -> Block | None:
        """The entries of a batch, or None if one of them is not there.

        Raises:
            UserError: If an entry is about another image than the one that is shown now.
        """
        found = np.empty((len(keys), *self.shape), np.uint16)
        for row, (key, check) in enumerate(zip(keys, checks, strict=True)):
            sums = self._sums[key]
            if not sums["data"]:
                return None
            if sums["view"] != check:
                raise UserError(
                    f"{self.path}: view {key[1]} of image {key[0]} is not the one that the teacher saw, so something "
                    "prepares images otherwise than it did (another version, or a data set that does not give the same "
                    "image every time); remove the file to ask the teacher again."
                )
            found[row] = self._entries[key]
            if not self._sound[key] and not self._fits(key, found[row]):
                return None
        return found

    def _fits(self, key: Key, data: Block) -> bool:
        """Whether data and checksum agree; looked at once in a process."""
        self._sound[key] = _sum(data) == self._sums[key]["data"]
        if not self._sound[key]:
            show.say(f"{self.path}: view {key[1]} of image {key[0]} is damaged; the teacher is asked again")
            with locked(self._lock):
                self._put(self._table, key, np.zeros((), SUMS))
        return bool(self._sound[key])

    def write(self, keys: Sequence[Key], checks: Sequence[int], blocks: Block) -> None:
        """Add the entries of a batch that are not there; those that are stay as they are.

        Raises:
            UserError: If the disk is full.
        """
        try:
            with locked(self._lock):
                new = [row for row, key in enumerate(keys) if not self._sums[key]["data"]]
                for row in new:
                    self._put(self._data, keys[row], blocks[row])
                for row in new:
                    self._put(self._table, keys[row], np.array((_sum(blocks[row]), checks[row]), SUMS))
        except OSError as error:
            raise UserError(f"{self.path}: could not be written ({error.strerror or error}).") from error

    def _put(self, start: int, key: Key, data: NDArray[Any]) -> None:
        """Write what belongs to an entry; by the file, as a mapping would end the process where the disk is full."""
        number = key[0] * self.count[1] + key[1]
        with self.path.open("r+b", buffering=0) as stream:
            os.pwrite(stream.fileno(), np.ascontiguousarray(data).tobytes(), start + number * data.nbytes)


def _sum(data: Block) -> int:
    """A checksum that is never 0."""
    return zlib.crc32(data.tobytes()) or 1


def _refuse_other(path: Path, head: bytes, about: dict[str, Any]) -> None:
    """Name what a file is about if that is something else; a header that cannot be read is damage."""
    try:
        before = json.loads(head)
    except (json.JSONDecodeError, UnicodeDecodeError):
        return
    other = {name: before.get(name) for name, value in about.items() if before.get(name) != value}
    if other:
        shown = "; ".join(f"{name} {value!r}, not {about[name]!r}" for name, value in other.items())
        raise UserError(f"{path}: holds the outputs of something else ({shown}); remove it.")


def _say_why_not(folder: Path, about: dict[str, Any]) -> None:
    """Say why the outputs that are there for this place are none for this training, from the nearest ones."""
    new, known = flat(about), {path: head for path in folder.glob("*.bin") if (head := _head(path))}
    same = {path: flat(head) for path, head in known.items() if head.get("place") == about.get("place")}
    if not same:
        return
    others = {path: [key for key in {**new, **old} if old.get(key) != new.get(key)] for path, old in same.items()}
    near = min(others, key=lambda path: len(others[path]))
    shown = "; ".join(f"{key} {same[near].get(key)!r} then, {new.get(key)!r} now" for key in others[near][:4])
    show.say(f"{near}: kept outputs that are not used, of something else: {shown}")


def _head(path: Path) -> dict[str, Any]:
    """What a file of outputs is about; nothing where that cannot be read."""
    try:
        with path.open("rb") as stream:
            found, _ = json.JSONDecoder().raw_decode(stream.read(LONGEST_HEADER).decode(errors="replace"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def gib(size: int) -> str:
    """Bytes as people read them."""
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 / 100 else f"{size / 2**20:.1f} MiB"
