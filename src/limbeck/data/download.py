"""One file over HTTP: taken up where it broke off, from the next mirror if one fails, checked before it counts."""

import hashlib
import time
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from ssl import SSLError
from typing import NamedTuple
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from limbeck import __version__, show
from limbeck.record import UserError, read_json, write_json

__all__ = ["checksum_of", "download"]

TIMEOUT_S = 30
ATTEMPTS = 4
"""Times in a row that an address may fail without a single new byte."""

PAUSE_S = 1.0
BLOCK = 2**20


class _BrokenError(Exception):
    """The server did not send what it announced."""


UNREACHABLE = (_BrokenError, URLError, HTTPException, TimeoutError, ConnectionError, SSLError)


class _Answer(NamedTuple):
    """What a server says before it sends: where in the file it begins, and how long the file is if it knows."""

    first: int
    total: int | None
    validator: str | None


def download(urls: tuple[str, ...], path: Path, checksum: str | None = None) -> str:
    """Fetch a file to ``path`` from the first address that has it; what an earlier try left is kept and continued.

    Args:
        urls: Addresses of the same file.
        path: Where it goes, once it is complete and its checksum is right.
        checksum: ``md5:...`` or ``sha256:...``; None takes the file as it comes.

    Returns:
        The checksum of the file, with its algorithm: sha256 where none was given.

    Raises:
        UserError: If no address delivers, naming what each one answered, or the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    failures = []
    for url in urls:
        try:
            _from_one(url, path, anywhere=checksum is not None)
            found = checksum_of(_part(path), (checksum or "sha256:").partition(":")[0])
            if checksum is None or found == checksum:
                _part(path).replace(path)
                _state(path).unlink(missing_ok=True)
                return found
            _forget(path)
            failures.append(f"{url}: another file than the published one ({found} instead of {checksum})")
        except UNREACHABLE as error:
            failures.append(f"{url}: {error or type(error).__name__}")
        except OSError as error:
            raise UserError(f"{_part(path)}: could not be written ({error.strerror or error}).") from error
    raise UserError(
        f"{path.name} could not be fetched:\n" + "\n".join(f"  {failure}" for failure in failures) + f"\nWhat came is "
        f"kept and continued next time. Or fetch it in any other way, put it at {path}, and run this again."
    )


def checksum_of(path: Path, algorithm: str) -> str:
    """``algorithm:hexadecimal`` of a file's bytes."""
    with path.open("rb") as stream:
        return f"{algorithm}:{hashlib.file_digest(stream, algorithm).hexdigest()}"


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _state(path: Path) -> Path:
    """Beside the part: which address it is from, and how that address tells versions of the file apart."""
    return path.with_name(f"{path.name}.part.json")


def _forget(path: Path) -> None:
    _part(path).unlink(missing_ok=True)
    _state(path).unlink(missing_ok=True)


def _from_one(url: str, path: Path, anywhere: bool) -> None:
    """Fetch all of the file from one address, asking again while each try brings new bytes.

    Args:
        url: The address.
        path: Where the whole file will be.
        anywhere: A part from another address may be continued, as a checksum will tell.
    """
    left = ATTEMPTS
    while True:
        before = _length(path)
        try:
            return _once(url, path, anywhere)
        except HTTPError as error:
            if error.code < 500 and error.code not in (408, 429):
                raise
            problem: Exception = error
        except UNREACHABLE as error:
            problem = error
        left = ATTEMPTS if _length(path) > before else left - 1
        if not left:
            raise problem
        time.sleep(PAUSE_S)


def _length(path: Path) -> int:
    return _part(path).stat().st_size if _part(path).is_file() else 0


def _once(url: str, path: Path, anywhere: bool) -> None:
    known = read_json(_state(path)) if _state(path).is_file() else {}
    validator = known.get("validator") if known.get("url") == url else None
    start = _length(path) if validator or anywhere else 0
    headers = {"User-Agent": f"limbeck/{__version__}", "Accept-Encoding": "identity"}
    if start:
        headers |= {"Range": f"bytes={start}-"} | ({"If-Range": validator} if validator else {})
    try:
        with urlopen(Request(url, headers=headers), timeout=TIMEOUT_S) as response:
            _receive(response, path, start, url)
    except HTTPError as error:
        if error.code != 416 or not start:
            raise
        if error.headers.get("Content-Range", "") != f"bytes */{start}":  # else all of it was there already
            _forget(path)
            raise _BrokenError("its file is shorter than the part that is here") from error


def _receive(response: HTTPResponse, path: Path, start: int, url: str) -> None:
    answer = _answer(response, start)
    write_json(_state(path), {"url": url, "validator": answer.validator})
    done, total_mb = answer.first, None if answer.total is None else answer.total // BLOCK
    with (
        _part(path).open("r+b" if answer.first else "wb") as file,
        show.bar(path.name, total_mb, done=done // BLOCK, unit="MB") as bar,
    ):
        file.truncate(answer.first)
        file.seek(answer.first)
        while block := response.read(BLOCK):
            file.write(block)
            done += len(block)
            bar.advance(done // BLOCK)
    if answer.total is not None and done != answer.total:
        raise _BrokenError(f"the connection ended after {done:,} of {answer.total:,} bytes")


def _answer(response: HTTPResponse, start: int) -> _Answer:
    """Where the answer begins: at ``start`` if the server continues, at 0 if it sends the whole file."""
    headers = response.headers
    validator = headers.get("ETag") or headers.get("Last-Modified")
    validator = None if validator and validator.startswith("W/") else validator  # weak: equal looks, other bytes
    length = int(headers["Content-Length"]) if (headers.get("Content-Length") or "").isdigit() else None
    if response.status != 206:
        return _Answer(0, length, validator)
    if not headers.get("Content-Range", "").startswith(f"bytes {start}-"):
        raise _BrokenError(f"it was asked for bytes from {start} and sent {headers.get('Content-Range')!r}")
    return _Answer(start, None if length is None else start + length, validator)
