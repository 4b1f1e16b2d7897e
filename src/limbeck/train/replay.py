"""A teacher that is asked once about each view of an image: from then on its answers are read."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from limbeck.data.views import Batch
from limbeck.record import UserError
from limbeck.train.cache import Block, Entries
from limbeck.train.teacher import Source

__all__ = ["Replayed", "entry_shape"]


class Replayed:
    """Reads what the teacher said, in 16 bits; what is not there yet is asked for, written, and used as written.

    A training is therefore the same whether the outputs were there before or not.

    Args:
        teacher: Asked about batches with a view that is not there; the whole batch, as online.
        kept: The outputs of each place that terms look at.
    """

    def __init__(self, teacher: Source, kept: Mapping[str, Entries]) -> None:
        self._teacher, self._kept = teacher, kept

    def __call__(self, batch: Batch) -> Mapping[str, Tensor]:
        """What the teacher said about the batch's views at each place.

        Raises:
            UserError: If the outputs are of another image, do not fit 16 bits, or the disk is full.
        """
        keys = list(zip(batch["index"].tolist(), batch["view"].tolist(), strict=True))
        checks = batch["check"].tolist()
        found = {place: entries.read(keys, checks) for place, entries in self._kept.items()}
        missing = [place for place, block in found.items() if block is None]
        said = self._teacher(batch) if missing else {}
        for place in missing:
            self._kept[place].write(keys, checks, _packed(said[place], place))
            found[place] = self._kept[place].read(keys, checks)
        device = batch["image"].device
        return {place: _unpacked(block, device) for place, block in found.items() if block is not None}

    def close(self) -> None:
        """Take the teacher's hooks off."""
        self._teacher.close()


def entry_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of what is kept of an output [1, c, h, w] or [1, c]: channels come last, as they do where it is used."""
    return (*shape[2:], shape[1])


def _packed(tensor: Tensor, place: str) -> Block:
    """An output in 16 bits, channels last.

    Raises:
        UserError: If a value is too large for that.
    """
    half = tensor.movedim(1, -1).half()
    if not torch.isfinite(half).all():
        worst = float(tensor.abs().max())
        raise UserError(
            f"teacher.{place}: values up to {worst:.3g} do not fit the 16 bits that distil.cache: replay keeps "
            "(65504); compare another place, or write distil.cache: online."
        )
    return half.contiguous().cpu().view(torch.int16).numpy().view(np.uint16)


def _unpacked(block: Block, device: torch.device) -> Tensor:
    return torch.from_numpy(block.view(np.int16)).view(torch.float16).to(device).movedim(-1, 1)
