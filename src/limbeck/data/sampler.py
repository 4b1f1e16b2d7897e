"""The order of samples: a function of the seed and the epoch, cut into batches, shared between processes."""

from collections.abc import Iterator

import torch

__all__ = ["Batches"]


class Batches:
    """Batches of ``(index, view)`` from any batch of the training on; view is the epoch.

    The order of an epoch depends on ``seed`` and the epoch alone. Every process takes every ``world``-th sample of a
    batch, so that the same images form a step whatever the number of processes. A last, smaller batch is dropped.

    Args:
        length: Number of samples.
        batch: Images a batch over all processes.
        seed: Of the whole run.
        first: Batch of the training to start at, counted from 0.
        last: Batch to stop before.
        rank: This process.
        world: Number of processes.

    Raises:
        ValueError: If there are fewer samples than a batch takes, or the batch cannot be shared evenly.
    """

    def __init__(
        self, length: int, batch: int, seed: int, first: int, last: int, rank: int = 0, world: int = 1
    ) -> None:
        if length < batch:
            raise ValueError(f"{length} training samples are fewer than one batch of {batch}")
        if batch % world:
            raise ValueError(f"a batch of {batch} cannot be shared by {world} processes")
        self.length, self.batch, self.seed = length, batch, seed
        self.first, self.last, self.rank, self.world = first, last, rank, world

    @property
    def per_epoch(self) -> int:
        """Batches an epoch."""
        return self.length // self.batch

    def __len__(self) -> int:
        return self.last - self.first

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order: list[int] = []
        for number in range(self.first, self.last):
            epoch, position = divmod(number, self.per_epoch)
            if not order or position == 0:
                order = self._order(epoch)
            chosen = order[position * self.batch : (position + 1) * self.batch]
            yield [(index, epoch) for index in chosen[self.rank :: self.world]]

    def _order(self, epoch: int) -> list[int]:
        rng = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        return torch.randperm(self.length, generator=rng).tolist()
