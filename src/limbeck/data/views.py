"""Augmented views of a dataset: each a pure function of (seed, index, view)."""

import multiprocessing
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from limbeck.data.ahead import Ahead
from limbeck.data.cache import Remembered
from limbeck.data.sample import Sample
from limbeck.data.sampler import Batches
from limbeck.data.transforms import Augmentation
from limbeck.data.unlabelled import Joined

__all__ = ["Batch", "Views", "load"]

Batch = dict[str, Tensor]
"""``image`` [n, c, h, w] in 0..1, ``target`` [n, h, w] or [n] (absent without truth), ``labelled`` [n] (whether the
target's classes are meant), ``index`` [n], ``view`` [n]; of views that come again, ``check`` [n], which tells images
apart."""


class Samples(Protocol):
    """Anything with samples."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


class Views(Dataset[Batch]):
    """One augmented view of a sample for every ``(index, view)``, the same in every process and order.

    Args:
        samples: The dataset.
        augmentation: What a view may change.
        seed: Of the whole run.
        count: Views of a sample, after which the first comes again; None draws a new one every time.
    """

    def __init__(self, samples: Samples, augmentation: Augmentation, seed: int, count: int | None = None) -> None:
        self.samples, self.augmentation, self.seed, self.count = samples, augmentation, seed, count

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: tuple[int, int]) -> Batch:
        """Draw the view ``key[1]`` of sample ``key[0]`` without touching the global random stream."""
        index, view = key[0], key[1] % self.count if self.count else key[1]
        drawn = int(np.random.SeedSequence([self.seed, index, view]).generate_state(1, np.uint64)[0] >> 1)
        sample = self.samples[index]
        image, target = _augmented(self.augmentation, sample, torch.Generator().manual_seed(drawn))
        found = {"image": image, "index": torch.tensor(index), "view": torch.tensor(view)}
        found["labelled"] = torch.tensor(sample.labelled)
        if self.count:
            found["check"] = torch.tensor(_check(image))
        return found if target is None else found | {"target": target}


def _check(image: Tensor) -> int:
    """A checksum of every fourth row and column: any other crop, colour or library shows there."""
    return zlib.crc32(image[:, ::4, ::4].contiguous().numpy().tobytes())


def _augmented(augmentation: Augmentation, sample: Sample, rng: torch.Generator) -> tuple[Tensor, Tensor | None]:
    """Image and target; a map moves with the image, a class stays what it is."""
    if sample.target is None or sample.target.ndim:
        return augmentation(sample, rng)
    image, _ = augmentation(replace(sample, target=None), rng)
    return image, torch.tensor(int(sample.target))


def load(views: Views, batches: Batches | Sequence[list[tuple[int, int]]], workers: int) -> Iterable[Batch]:
    """The given batches; ``workers`` processes prepare them ahead, or threads where there are none."""
    if not workers:
        return Ahead(views, batches)
    if isinstance(views.samples, Remembered | Joined) and multiprocessing.get_start_method() == "fork":
        views.samples.fill()
    return DataLoader(
        views,
        batch_sampler=batches,
        num_workers=workers,
        persistent_workers=False,
        pin_memory=torch.cuda.is_available(),
        prefetch_factor=4,
        worker_init_fn=_one_thread,
        generator=torch.Generator().manual_seed(0),  # its own stream: the global one belongs to training
    )


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)
