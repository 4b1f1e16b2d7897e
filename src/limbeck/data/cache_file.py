"""Decoded samples in one memory-mapped file that all processes share, and all later runs."""

import json
import mmap
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck import show
from limbeck.data.cache import Samples
from limbeck.data.sample import Sample
from limbeck.record import locked

__all__ = ["Stored"]

MADE_BY = 1
"""Changes with the layout of the file."""


@dataclass(frozen=True, slots=True)
class _Record:
    """Where a sample is, and what it is.

    Attributes:
        at: First byte.
        image: Height, width and channels.
        target: Type and shape of the truth; None where there is none.
        check: CRC-32 of the bytes.
        name: Of the sample.
        source: Of the sample.
        labelled: Of the sample.
    """

    at: int
    image: tuple[int, int, int]
    target: tuple[str, tuple[int, ...]] | None
    check: int
    name: str
    source: str | None
    labelled: bool

    @property
    def image_bytes(self) -> int:
        """Length of the pixels, which come first."""
        return int(np.prod(self.image))

    @property
    def end(self) -> int:
        """The byte behind the last."""
        more = 0 if self.target is None else np.dtype(self.target[0]).itemsize * int(np.prod(self.target[1]))
        return self.at + self.image_bytes + more


class Stored:
    """A dataset that decodes each sample once, for all processes and runs; everything else is the dataset's own.

    ``<key>.bin`` holds the pixels of samples in the order in which they were first asked for, at the size they were
    decoded to; ``<key>.jsonl`` says where each is. A sample counts once its line is whole, so that a killed run leaves
    what it had; one whose bytes do not fit its checksum is decoded again.

    Args:
        samples: The dataset.
        folder: Holds the two files.
        key: Hash of what the dataset is; another key is another file.
        budget: Bytes of pixels to write at most; what does not fit is decoded each time.
    """

    def __init__(self, samples: Samples, folder: Path, key: str, budget: int) -> None:
        self._samples, self._budget, self._key = samples, budget, key
        self._pixels, self._index, self._lock = (folder / f"{key}.{suffix}" for suffix in ("bin", "jsonl", "lock"))
        self._records: dict[int, _Record] = {}
        self._checked: set[int] = set()
        self._map: mmap.mmap | bytes = b""
        self._seen, self._end, self._told = 0, 0, False
        folder.mkdir(parents=True, exist_ok=True)
        with locked(self._lock):
            self._begin()

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        """The sample at ``index``, from the file where it is there."""
        if index not in self._records:
            self._refresh()
        found = self._read(index)
        if found is None:
            found = self._samples[index]
            self._write(index, found)
        return found

    def __getattr__(self, name: str) -> Any:
        """Palette, digest and the like."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._samples, name)

    def __getstate__(self) -> dict[str, Any]:
        """Without the mapping, which belongs to one process."""
        return self.__dict__ | {"_map": b""}

    def _begin(self) -> None:
        """Take up what is there, cut off a line that a killed process left; anything else begins anew."""
        header = json.dumps({"made_by": MADE_BY, "key": self._key}) + "\n"
        lines = self._index.read_bytes() if self._index.is_file() else b""
        if not lines.startswith(header.encode()):
            self._pixels.unlink(missing_ok=True)
            self._index.write_bytes(lines := header.encode())
        self._pixels.touch()
        os.truncate(self._index, lines.rfind(b"\n") + 1)
        self._seen = len(header.encode())

    def _refresh(self) -> None:
        """Read the lines that were added since the last look."""
        start = self._seen
        with self._index.open("rb") as stream:
            stream.seek(start)
            lines = stream.read()
        lines = lines[: lines.rfind(b"\n") + 1]
        self._seen = start + len(lines)
        for line in lines.splitlines():
            found = json.loads(line)
            index, target = found.pop("index"), found["target"]
            shapes = {"image": tuple(found["image"]), "target": target and (target[0], tuple(target[1]))}
            self._records[index] = record = _Record(**found | shapes)
            self._end = max(self._end, record.end)

    def _read(self, index: int) -> Sample | None:
        """The sample out of the mapping; None if it is not there, or not whole."""
        record = self._records.get(index)
        mapped = None if record is None else self._mapped(record.end)
        if record is None or mapped is None:
            return None
        if index not in self._checked:
            if zlib.crc32(memoryview(mapped)[record.at : record.end]) != record.check:
                self._records.pop(index, None)
                return None
            self._checked.add(index)
        image: NDArray[np.uint8] = np.frombuffer(mapped, np.uint8, record.image_bytes, record.at)
        target = None
        if record.target is not None:
            kind, shape = record.target
            start = record.at + record.image_bytes
            target = np.frombuffer(mapped, kind, int(np.prod(shape)), start).reshape(shape)
        return Sample(image.reshape(record.image), target, record.name, record.source, record.labelled)

    def _mapped(self, end: int) -> mmap.mmap | bytes | None:
        """A mapping that reaches to ``end``; None if the file does not. Another thread may replace the one kept."""
        found = self._map
        if end > len(found):
            with self._pixels.open("rb") as stream:
                if os.fstat(stream.fileno()).st_size < end:
                    return None
                self._map = found = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        return found

    def _write(self, index: int, sample: Sample) -> None:
        """Add a sample behind the others, pixels first, unless another process has or there is no room."""
        target = sample.target
        data = sample.image.tobytes() + (b"" if target is None else target.tobytes())
        with locked(self._lock):
            self._refresh()
            at = self._end
            if index in self._records or at + len(data) > self._budget:
                self._tell(index not in self._records)
                return
            kind = None if target is None else (target.dtype.str, target.shape)
            line = {
                "index": index, "at": at, "image": sample.image.shape, "target": kind, "check": zlib.crc32(data),
                "name": sample.name, "source": sample.source, "labelled": sample.labelled,
            }  # fmt: skip
            with self._pixels.open("r+b") as stream:
                stream.seek(at)
                stream.write(data)
            with self._index.open("ab") as stream:
                stream.write(json.dumps(line).encode() + b"\n")

    def _tell(self, full: bool) -> None:
        if full and not self._told:
            self._told = True
            kept = f"{len(self._records)} of {len(self)} decoded images fit data.cache_gib"
            show.say(f"cache: {kept}; the others are decoded each time")
