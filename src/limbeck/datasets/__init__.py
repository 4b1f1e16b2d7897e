"""Datasets: one file, one kind of source.

A dataset is built for one split (``training``, ``validation`` or ``test``) and yields
:class:`limbeck.data.sample.Sample`. It augments nothing and resizes nothing. Runtime arguments it may ask for:
``split`` and ``root``, the folder that holds data sets. A missing root or an empty split is an error that names the
command or file that would help. A class attribute ``licence`` (:class:`limbeck.data.licence.Licence`) says what terms
published data come under; ``check`` and ``run`` print it, and exported files carry it.
"""

from typing import Protocol

from limbeck.data.sample import Sample


class Dataset(Protocol):
    """What every dataset offers."""

    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    """One RGB colour a class; empty means that any distinct ones will do."""

    def __len__(self) -> int:
        """Number of samples of the split."""
        ...

    def __getitem__(self, index: int) -> Sample:
        """The sample at ``index``, always the same one."""
        ...

    def digest(self) -> str:
        """A short hash that changes when the data of this split change."""
        ...
