"""Archives unpacked with care: nothing outside the folder, no links, all of it or nothing."""

import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from limbeck import show
from limbeck.record import UserError, whole

__all__ = ["unpack"]

JUNK = ("__MACOSX",)


@dataclass(frozen=True, eq=False)
class _Member:
    """Something in an archive: its name, its length in bytes, whether it is a plain file, and what opens it."""

    name: PurePosixPath
    length: int
    plain: bool
    entry: Any


def unpack(archive: Path, folder: Path, places: Mapping[str, str], counts: Mapping[str, int]) -> None:
    """Unpack folders of a .zip or .tar archive into ``folder``, which appears only once it is complete.

    Args:
        archive: The archive.
        folder: Where its files go; must not exist.
        places: Folders in the archive, and where each goes inside ``folder``.
        counts: Number of files that folders inside ``folder`` must hold at the end.

    Raises:
        UserError: If a member lies outside the archive's folder or is a link or device, the archive is damaged, lacks
            something, or does not fit on the disk.
    """
    try:
        with _opened(archive) as (members, opened), whole(folder) as beside:
            wanted = {member: _place(member.name, places) for member in members}
            chosen = {member: place for member, place in wanted.items() if place is not None}
            _refuse_links(archive, chosen)
            _refuse_too_large(folder, chosen)
            _write(beside, chosen, opened, archive.name)
            _refuse_incomplete(archive, beside, places, counts)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, RuntimeError, NotImplementedError) as error:
        raise UserError(f"{archive}: a damaged archive ({error}); remove it and fetch it again.") from error


@contextmanager
def _opened(archive: Path) -> Iterator[tuple[list[_Member], Any]]:
    """The files of an archive, and a function that opens one of them."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            yield [_of_zip(archive, info) for info in packed.infolist() if not info.is_dir()], packed.open
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as packed_tar:
            yield [_of_tar(archive, info) for info in packed_tar if not info.isdir()], packed_tar.extractfile
    else:
        raise UserError(f"{archive}: neither a .zip nor a .tar archive; remove it and fetch it again.")


def _of_zip(archive: Path, info: zipfile.ZipInfo) -> _Member:
    plain = stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG)
    return _Member(_inside(archive, info.filename), info.file_size, plain, info)


def _of_tar(archive: Path, info: tarfile.TarInfo) -> _Member:
    return _Member(_inside(archive, info.name), info.size, info.isreg(), info)


def _inside(archive: Path, name: str) -> PurePosixPath:
    """The name of a member, which stays inside the folder it is unpacked to.

    Raises:
        UserError: If it does not.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\\" in name or "\0" in name:
        raise UserError(f"{archive}: its member {name!r} would be written outside its folder; nothing was unpacked.")
    return path


def _place(name: PurePosixPath, places: Mapping[str, str]) -> str | None:
    """Where a member goes inside the folder; None where it is left."""
    for inside, place in places.items():
        if name.parts[0] not in JUNK and name.is_relative_to(inside):
            return str(PurePosixPath(place) / name.relative_to(inside))
    return None


def _refuse_links(archive: Path, chosen: Mapping[_Member, str]) -> None:
    links = [member.name for member in chosen if not member.plain]
    if links:
        raise UserError(f"{archive}: its member {str(links[0])!r} is a link or device, no file; nothing was unpacked.")


def _refuse_too_large(folder: Path, chosen: Mapping[_Member, str]) -> None:
    needed, free = sum(member.length for member in chosen), shutil.disk_usage(folder.parent).free
    if needed > free:
        raise UserError(f"{folder}: {needed / 1e9:.1f} GB to unpack, {free / 1e9:.1f} GB free on this disk.")


def _write(folder: Path, chosen: Mapping[_Member, str], opened: Any, what: str) -> None:
    folder.mkdir(parents=True)
    with show.bar(what, len(chosen), unit="files") as bar:
        for done, (member, place) in enumerate(chosen.items(), 1):
            target = folder / place
            target.parent.mkdir(parents=True, exist_ok=True)
            source: IO[bytes]
            with opened(member.entry) as source, target.open("xb") as file:
                shutil.copyfileobj(source, file, 2**20)
            bar.advance(done)


def _refuse_incomplete(archive: Path, folder: Path, places: Mapping[str, str], counts: Mapping[str, int]) -> None:
    for inside, place in places.items():
        if not (folder / place).is_dir() or not any((folder / place).iterdir()):
            raise UserError(f"{archive}: nothing in it lies under {inside}; another version of the data set?")
    for place, count in counts.items():
        found = sum(path.is_file() for path in (folder / place).glob("*"))
        if found != count:
            raise UserError(
                f"{archive}: {found} files for {place or folder.name} instead of {count}; remove it and fetch it again."
            )
