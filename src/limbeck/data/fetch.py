"""A published data set, from its archive to a finished folder."""

from pathlib import Path

from limbeck import show
from limbeck.data.archives import BY_HAND, SOURCES, Source
from limbeck.data.download import checksum_of, download
from limbeck.data.unpack import unpack
from limbeck.place import nearest
from limbeck.record import UserError

__all__ = ["fetch", "source_of"]

ARCHIVES = ".archives"
"""Where archives lie until they are unpacked, inside the folder that holds data sets."""


def source_of(name: str) -> Source:
    """What is known of a data set's archive.

    Raises:
        UserError: If it is unknown, or has to be fetched by hand: then the message says how.
    """
    if name in BY_HAND:
        raise UserError(f"{BY_HAND[name]} named {name} inside the folder LIMBECK_DATA names.")
    if name not in SOURCES:
        known = [*SOURCES, *BY_HAND]
        raise UserError(f"{name}: no such data set to fetch.{nearest(name, known)} Known: {', '.join(known)}.")
    return SOURCES[name]


def fetch(source: Source, root: Path) -> Path:
    """Download, check and unpack a data set into ``root``; a finished one is left as it is, the archive goes.

    Returns:
        Its folder.

    Raises:
        UserError: If it cannot be had, is not what was published, or something else is in its place.
    """
    folder = root / source.folder
    if _finished(source, root):
        show.say(f"{folder}: there already; move it away to fetch it again.")
        return folder
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder}: holds something else, not all of the data set; move it away.")
    if source.needs and not _finished(SOURCES[source.needs], root):
        raise UserError(f"{folder}: adds to a data set that is not there; run `limbeck data get {source.needs}` first.")
    archive = root / ARCHIVES / source.file
    if archive.is_file():
        _refuse_other(archive, source.checksum)
    else:
        found = download(source.urls, archive, source.checksum)
        known = "as published" if source.checksum else "no published checksum is known to compare it with"
        show.say(f"{source.file}: {found}, {known}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    unpack(archive, folder, source.places, source.counts)
    archive.unlink()
    if not any(archive.parent.iterdir()):
        archive.parent.rmdir()
    return folder


def _finished(source: Source, root: Path) -> bool:
    places = [root / source.folder / place for place in source.counts]
    return all(place.is_dir() and any(place.iterdir()) for place in places)


def _refuse_other(archive: Path, checksum: str | None) -> None:
    """An archive that was put there by hand has to be the published one too."""
    if checksum is not None:
        found = checksum_of(archive, checksum.partition(":")[0])
        if found != checksum:
            raise UserError(f"{archive}: not the published archive ({found} instead of {checksum}); remove it.")
