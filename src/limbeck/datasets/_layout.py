"""Where published data sets lie, which splits they have labels of, and how one is shared out."""

from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path

from limbeck.record import UserError

__all__ = ["folder_of_split", "held_out", "located", "without_overlap"]


def located(places: Iterable[Path], inside: str, name: str, kind: str) -> Path:
    """The first of ``places`` that holds ``inside``.

    Raises:
        UserError: If none does; ``name`` and ``kind`` are what the data set and its kind are called.
    """
    tried = list(places)
    for place in tried:
        if (place / inside).is_dir():
            return place
    raise UserError(
        f"{tried[0]}: {name} is not there: no folder {inside} in it. Fetch it with `limbeck data get {kind}`, or set "
        "LIMBECK_DATA to the folder above, or data.path."
    )


def folder_of_split(split: str, folders: Mapping[str, str], name: str) -> str:
    """What the data set itself calls a split.

    Raises:
        UserError: If it has none of that name, or publishes no labels of it.
    """
    if split in folders:
        return folders[split]
    reason = "its labels are not published" if split == "test" else f"known: {', '.join(folders)}"
    raise UserError(f"{name}: no split {split!r}: {reason}. Published results score validation.")


def without_overlap(training: Iterable[str], scored: Iterable[str], where: Path) -> None:
    """Refuse to train on what is scored.

    Raises:
        UserError: If a name is in both.
    """
    both = sorted(set(training) & set(scored))
    if both:
        raise UserError(
            f"{where}: {len(both)} of its images are in the validation split too, such as {both[0]}; scores on images "
            "that were trained on say nothing. Take them out of one of the two lists."
        )


def held_out(number: int, share: float) -> bool:
    """Whether the sample of this number, from 0, is validation's: with a share of 0.2 every fifth one is."""
    exact = Fraction(str(share))
    return (number + 1) * exact // 1 > number * exact // 1
