"""The order of samples: a function of the seed and the epoch, cut into batches, shared between processes."""

from collections.abc import Iterator, Sequence

import torch

__all__ = ["Batches"]


class Batches:
    """Batches of ``(index, view)`` from any batch of the training on; view is the epoch.

    The order of an epoch depends on ``seed`` and the epoch alone. Every process takes every ``world``-th sample of a
    batch, so that the same images form a step whatever the number of processes. A last, smaller batch is dropped.
    Of several sources each gives as many samples to an epoch as it is told: a new permutation of its own every time,
    cut short, or one after another where it gives more than it has. A sample that can come ``n`` times in an epoch
    counts ``n`` views an epoch, so that it never looks the same twice.

    Args:
        length: Number of samples in an epoch.
        batch: Images a batch over all processes.
        seed: Of the whole run.
        first: Batch of the training to start at, counted from 0.
        last: Batch to stop before.
        rank: This process.
        world: Number of processes.
        sources: Number of samples and samples an epoch of each source, in their order; empty for a single one.

    Raises:
        ValueError: If there are fewer samples than a batch takes, the batch cannot be shared evenly, or the sources
            do not add up to the length.
    """

    def __init__(
        self, length: int, batch: int, seed: int, first: int, last: int, rank: int = 0, world: int = 1,
        sources: Sequence[tuple[int, int]] = (),
    ) -> None:  # fmt: skip
        if length < batch:
            raise ValueError(f"{length} training samples are fewer than one batch of {batch}")
        if batch % world:
            raise ValueError(f"a batch of {batch} cannot be shared by {world} processes")
        if sources and sum(draws for _, draws in sources) != length:
            raise ValueError(f"an epoch of {length} samples is not what the sources give: {list(sources)}")
        self.length, self.batch, self.seed = length, batch, seed
        self.first, self.last, self.rank, self.world = first, last, rank, world
        self.sources = tuple(sources)

    @property
    def per_epoch(self) -> int:
        """Batches an epoch."""
        return self.length // self.batch

    def __len__(self) -> int:
        return self.last - self.first

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order: list[tuple[int, int]] = []
        for number in range(self.first, self.last):
            epoch, position = divmod(number, self.per_epoch)
            if not order or position == 0:
                order = self._order(epoch)
            yield order[position * self.batch : (position + 1) * self.batch][self.rank :: self.world]

    def _order(self, epoch: int) -> list[tuple[int, int]]:
        rng = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        if not self.sources:
            return [(index, epoch) for index in torch.randperm(self.length, generator=rng).tolist()]
        turns = max(_turns(*source) for source in self.sources)
        drawn: list[tuple[int, int]] = []
        start = 0
        for num, draws in self.sources:
            for turn in range(_turns(num, draws)):
                chosen = torch.randperm(num, generator=rng)[: draws - turn * num].tolist()
                drawn += [(start + index, epoch * turns + turn) for index in chosen]
            start += num
        return [drawn[place] for place in torch.randperm(len(drawn), generator=rng).tolist()]


def _turns(num: int, draws: int) -> int:
    """Permutations of ``num`` samples that ``draws`` of them take."""
    return -(-draws // num)
