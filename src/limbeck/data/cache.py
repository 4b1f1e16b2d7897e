"""Samples kept in memory once they were read, as long as they fit."""

from typing import Any, Protocol

from limbeck import show
from limbeck.data.sample import Sample

__all__ = ["Remembered"]

BUDGET = 2**30
"""Bytes of pixels kept at most; what does not fit is read again each time."""


class Samples(Protocol):
    """Anything with samples."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


class Remembered:
    """A dataset that reads each sample once; everything else is the dataset's own.

    Args:
        samples: The dataset.
        classes: Class names, where the dataset itself knows none.
        budget: Bytes of pixels to keep at most.
    """

    def __init__(self, samples: Samples, classes: tuple[str, ...], budget: int = BUDGET) -> None:
        self._samples, self._left, self.classes = samples, budget, classes
        self._kept: dict[int, Sample] = {}

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        """The sample at ``index``, from memory where it is known."""
        if index in self._kept:
            return self._kept[index]
        sample = self._samples[index]
        size = sample.image.nbytes + (0 if sample.target is None else sample.target.nbytes)
        if size <= self._left:
            self._left -= size
            sample.image.setflags(write=False)
            self._kept[index] = sample
        return sample

    def fill(self) -> None:
        """Read what there is room for now: worker processes then share it, where each would read its own."""
        with show.bar("reading images", len(self), unit="images") as bar:
            for index in range(len(self)):
                if self._left <= 0:
                    return
                self[index]
                bar.advance(index + 1)

    def __getattr__(self, name: str) -> Any:
        """Palette, digest and the like."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._samples, name)
