"""Datasets: one file, one kind of source.

A dataset is built for one split (``training``, ``validation`` or ``test``) and yields
:class:`limbeck.data.sample.Sample`. It augments nothing and resizes nothing. Runtime arguments it may ask for:
``split``, ``root``, the folder that holds data sets, and ``where``, its place in the recipe. A missing root or an empty
split is an error that names the command or file that would help. A class attribute ``licence``
(:class:`limbeck.data.licence.Licence`) says what terms published data come under; ``check`` and ``run`` print it, and
exported files carry it. One that is made of several sources has ``sources``, their names, and ``draws``, the samples of
each and how many of them an epoch of training draws; its samples come source by source.
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


def drawn(dataset: Dataset) -> tuple[int, tuple[tuple[int, int], ...]]:
    """Samples in an epoch of training, and the same source by source: its samples, and how many of them are drawn."""
    sources: tuple[tuple[int, int], ...] = getattr(dataset, "draws", ())
    return (sum(draws for _, draws in sources) if sources else len(dataset)), sources
