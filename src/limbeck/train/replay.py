"""A teacher that is asked once about each view of an image: from then on its answers are read."""

from collections.abc import Mapping

from torch import Tensor

from limbeck.data.views import Batch
from limbeck.train.cache import Entries
from limbeck.train.keep import Form
from limbeck.train.teacher import Source

__all__ = ["Replayed"]


class Replayed:
    """Reads what the teacher said, in 16 bits; what is not there yet is asked for, written, and used as written.

    A training is therefore the same whether the outputs were there before or not.

    Args:
        teacher: Asked about batches with a view that is not there; the whole batch, as online.
        kept: The outputs of each place that terms look at, and their form.
    """

    def __init__(self, teacher: Source, kept: Mapping[str, tuple[Entries, Form]]) -> None:
        self._teacher, self._kept = teacher, kept

    def __call__(self, batch: Batch) -> Mapping[str, Tensor]:
        """What the teacher said about the batch's views at each place.

        Raises:
            UserError: If the outputs are of another image, do not fit 16 bits, or the disk is full.
        """
        keys = list(zip(batch["index"].tolist(), batch["view"].tolist(), strict=True))
        checks = batch["check"].tolist()
        found = {place: entries.read(keys, checks) for place, (entries, _) in self._kept.items()}
        missing = [place for place, block in found.items() if block is None]
        said = self._teacher(batch) if missing else {}
        for place in missing:
            entries, form = self._kept[place]
            entries.write(keys, checks, form.pack(said[place], place))
            found[place] = entries.read(keys, checks)
        device = batch["image"].device
        forms = {place: form for place, (_, form) in self._kept.items()}
        return {place: forms[place].unpack(block).to(device) for place, block in found.items() if block is not None}

    def close(self) -> None:
        """Take the teacher's hooks off."""
        self._teacher.close()
