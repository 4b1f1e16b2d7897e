"""Images without labels beside the training split: a teacher has something to say about them too."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from limbeck.data.cache import Remembered
from limbeck.data.pairs import Pair, find_files, pairs_digest, read_image
from limbeck.data.sample import Sample
from limbeck.record import UserError

__all__ = ["Joined", "Unlabelled"]


class Samples(Protocol):
    """Anything with samples."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


class Unlabelled:
    """The images of a folder and of all folders in it, in the order of their paths.

    A sample's target is of class 0 all over, so that padding can be told from picture, and ``labelled`` is False.

    Args:
        folder: Where the images are.
        where: Place in the recipe, for messages.
        like: A sample of the training split: whether images have alpha, and targets are maps, classes of whole images,
            or none.
        scored: Files that must not be among them.

    Raises:
        UserError: If there is no such folder, no image in it, or one that is scored.
    """

    classes: tuple[str, ...] = ()

    def __init__(self, folder: Path, where: object, like: Sample, scored: Sequence[Path] = ()) -> None:
        if not folder.is_dir():
            raise UserError(f"{where}: no such folder {folder}; a folder of images is needed.")
        found = find_files(folder, "")
        if not found:
            raise UserError(f"{where}: no images in {folder}.")
        shared = {file.resolve() for file in found} & {file.resolve() for file in scored}
        if shared:
            raise UserError(
                f"{where}: {len(shared)} of {len(found)} images are also scored ({min(shared)}); keep them apart."
            )
        self.pairs = [Pair(file, None, file.relative_to(folder).as_posix()) for file in found]
        self._axes = None if like.target is None else like.target.ndim
        self._alpha = like.image.shape[2] == 4

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        """The image at ``index``."""
        found = self.pairs[index]
        image = read_image(found.image, alpha=self._alpha)
        target = None if self._axes is None else np.zeros(image.shape[: self._axes], np.uint8)
        return Sample(image, target, found.name, labelled=False)

    def digest(self) -> str:
        """Names and contents of the files."""
        return pairs_digest(self.pairs)


class Joined:
    """A training split and unlabelled images after it; classes, palette and the like are the split's.

    An epoch is all of both; where the split says how much it draws, that and all unlabelled images.
    """

    def __init__(self, labelled: Samples, unlabelled: Samples) -> None:
        self._labelled, self._unlabelled = labelled, unlabelled
        draws: tuple[tuple[int, int], ...] = getattr(labelled, "draws", ())
        self.draws = (*draws, (len(unlabelled), len(unlabelled))) if draws else ()

    def __len__(self) -> int:
        return len(self._labelled) + len(self._unlabelled)

    def __getitem__(self, index: int) -> Sample:
        """The split's sample, or the unlabelled image, at ``index``."""
        count = len(self._labelled)
        return self._labelled[index] if index < count else self._unlabelled[index - count]

    def fill(self) -> None:
        """Read what is to be remembered now; see :meth:`limbeck.data.cache.Remembered.fill`."""
        for part in (self._labelled, self._unlabelled):
            if isinstance(part, Remembered):
                part.fill()

    def __getattr__(self, name: str) -> Any:
        """Everything else is the split's."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._labelled, name)
