"""Rows of a table of images: from parquet files on this machine or from the Hugging Face hub."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset, get_dataset_split_names, load_dataset

from limbeck.data.pairs import Pair, pairs_digest
from limbeck.data.stats import cache_folder
from limbeck.place import nearest
from limbeck.record import UserError

__all__ = ["Rows", "column_of", "names_of", "rows_of"]

NAMES = {
    "training": ("training", "train"),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test",),
}
"""What splits are usually called; the first that is there counts."""

HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


@dataclass(frozen=True)
class Rows:
    """A table of one split.

    Attributes:
        table: The rows.
        called: The split's own name, such as ``train``.
        version: Changes when the rows do.
    """

    table: Any
    called: str
    version: str


def rows_of(
    path: str, root: Path, split: str, splits: Mapping[str, str] | None, config: str | None, revision: str | None
) -> Rows:
    """The rows of a split.

    Args:
        path: Parquet file, folder or glob, absolute or under ``root`` and with ``{split}`` in it if need be; else an
            id on the hub.
        root: Folder that holds data sets.
        split: What Limbeck calls the split.
        splits: What the data call it, where it is not one of the usual names.
        config: Which of the hub's configurations.
        revision: Branch, tag or commit on the hub.

    Raises:
        UserError: If there is no such file, id or split.
    """
    wanted = names_of(split, splits)
    if not _is_local(root, path):
        return _hub(path, root, wanted, split, config, revision)
    if config or revision:
        raise UserError(f"data: config and revision are for the hub; {path} is on this machine.")
    return _parquet(root, path, wanted, split)


def names_of(split: str, splits: Mapping[str, str] | None) -> tuple[str, ...]:
    """What the data may call a split: what they are said to, else the usual names."""
    return (splits[split],) if splits and split in splits else NAMES.get(split, (split,))


def _is_local(root: Path, path: str) -> bool:
    """Whether a path means files: it looks like it, or there is something at it."""
    looks = path.startswith((".", "/")) or path.endswith(".parquet") or not HUB_ID.fullmatch(path)
    return looks or (root / path).exists()


def _parquet(root: Path, path: str, wanted: tuple[str, ...], split: str) -> Rows:
    files = _files(root, path.replace("{split}", "*"))
    if not files:
        raise UserError(
            f"{root / path}: no parquet files there. Set LIMBECK_DATA to the folder that data.path starts from, or "
            "write an id of the hub, such as owner/name."
        )
    for called in wanted:
        own = _files(root, path.replace("{split}", called)) if "{split}" in path else _of_split(files, called)
        if own:
            table = Dataset.from_parquet([str(file) for file in own], cache_dir=str(cache_folder() / "parquet"))
            return Rows(table, called, pairs_digest([Pair(file, None, file.stem) for file in own]))
    raise UserError(
        f"{root / path}: no parquet file of the split {split!r}, which would be called {' or '.join(wanted)}; found "
        f"{', '.join(file.name for file in files[:4])}. data.splits says what yours are called."
    )


def _files(root: Path, path: str) -> list[Path]:
    """Parquet files that a file, folder or glob names, sorted."""
    place = root / path
    if any(sign in path for sign in "*?["):
        start = Path(place.anchor) if place.is_absolute() else Path()
        found: Iterable[Path] = start.glob(str(place.relative_to(place.anchor)) if place.is_absolute() else str(place))
    else:
        found = place.rglob("*.parquet") if place.is_dir() else [place]
    return sorted(file for file in found if file.suffix == ".parquet" and file.is_file())


def _of_split(files: list[Path], called: str) -> list[Path]:
    """By the hub's custom: ``train.parquet``, ``train-00000-of-00002.parquet``, else any name in a folder ``train``."""
    named = [file for file in files if file.stem == called or file.stem.startswith((f"{called}-", f"{called}_"))]
    return named or [file for file in files if file.parent.name == called]


def _hub(path: str, root: Path, wanted: tuple[str, ...], split: str, config: str | None, revision: str | None) -> Rows:
    try:
        known = get_dataset_split_names(path, config, revision=revision)
        called = next((name for name in wanted if name in known), None)
        if called is None:
            hint = nearest(split, known)
            raise UserError(f"{path}: no split {split!r} ({', '.join(wanted)}).{hint} It has {', '.join(known)}.")
        table = load_dataset(path, config, split=called, revision=revision)
    except UserError:
        raise
    except Exception as error:  # whatever the hub, the network or the data set's own files do
        raise UserError(
            f"{path}: neither parquet files under LIMBECK_DATA ({root / path}) nor a data set on the Hugging Face hub "
            f"that can be read ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason'}). "
            "Where there is a network, `hf download --repo-type dataset ID --local-dir DIR` fetches one."
        ) from error
    return Rows(table, called, f"{path} {config} {revision} {table._fingerprint}")


def column_of(table: Any, name: str, what: str) -> Any:
    """The feature of a column.

    Raises:
        UserError: If there is no such column.
    """
    if name not in table.features:
        known = list(table.features)
        raise UserError(f"data.{what}: no column {name!r}.{nearest(name, known)} It has {', '.join(known)}.")
    return table.features[name]
