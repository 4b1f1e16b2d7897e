"""Images and masks on disk: found, paired by stem, read and checked."""

import hashlib
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from limbeck.data.sample import VOID
from limbeck.data.stats import cache_folder
from limbeck.record import UserError, digest, read_json, write_json

__all__ = ["Pair", "find_files", "listed", "noting", "pair", "pairs_digest", "read_image", "read_mask"]

IMAGES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})


@dataclass(frozen=True, slots=True)
class Pair:
    """An image file and its mask file, if it has one."""

    image: Path
    mask: Path | None
    name: str


def find_files(folder: Path, pattern: str) -> list[Path]:
    """Image files that a path or glob inside ``folder`` names, sorted; empty if there are none."""
    place = folder / pattern
    if place.is_dir():
        found: Iterable[Path] = place.rglob("*")
    elif any(sign in pattern for sign in "*?["):
        found = (
            Path(place.anchor).glob(str(place.relative_to(place.anchor)))
            if place.is_absolute()
            else Path().glob(str(place))
        )
    else:
        found = [place]
    return sorted(path for path in found if path.suffix.lower() in IMAGES and path.is_file())


def listed(files: list[Path], names: Path) -> list[Path]:
    """The files that a list names, in its order: a path a line, such as ``drive/0001``; a second column is left out.

    Raises:
        UserError: If the list is missing, or a line names no file or several.
    """
    try:
        wanted = [line.strip() for line in names.read_text(encoding="utf-8").splitlines() if line.strip()]
    except OSError as error:
        raise UserError(f"{names}: this list of samples cannot be read ({error.strerror}).") from error
    by_tail: dict[str, list[Path]] = {}
    for path in files:
        parts = path.with_suffix("").parts
        for depth in range(1, min(5, len(parts)) + 1):
            by_tail.setdefault("/".join(parts[-depth:]), []).append(path)
    found = [by_tail.get(_tail(line)) or by_tail.get(_tail(line.split()[0]), []) for line in wanted]
    missing = [line for line, paths in zip(wanted, found, strict=True) if not paths]
    if missing:
        raise UserError(f"{names}: {len(missing)} of {len(wanted)} names have no image, first {missing[0]!r}.")
    for line, paths in zip(wanted, found, strict=True):
        if len(paths) > 1:
            raise UserError(f"{names}: {line!r} fits {len(paths)} images, such as {paths[1]}; write its folder too.")
    return [paths[0] for paths in found]


def _tail(line: str) -> str:
    path = Path(line)
    return path.with_suffix("").as_posix() if path.suffix.lower() in IMAGES else path.as_posix()


_noted: ContextVar[list[str] | None] = ContextVar("noted", default=None)


@contextmanager
def noting() -> Iterator[list[str]]:
    """Within the block, images and masks without a partner are left out and listed, a line each, not refused."""
    lines: list[str] = []
    token = _noted.set(lines)
    try:
        yield lines
    finally:
        _noted.reset(token)


def pair(images: list[Path], masks: list[Path], image_suffix: str = "", mask_suffix: str = "") -> list[Pair]:
    """Pair images with masks of the same stem, less the suffixes; equal stems are told apart by their folder.

    Raises:
        UserError: If an image has no mask; names the first few and counts masks without an image too.
    """
    by_stem: dict[str, list[Path]] = {}
    for mask in masks:
        by_stem.setdefault(mask.stem.removesuffix(mask_suffix), []).append(mask)
    pairs = [Pair(i, _closest(i, by_stem.get(i.stem.removesuffix(image_suffix), [])), i.stem) for i in images]
    lonely = [p.image for p in pairs if p.mask is None]
    if lonely:
        stems = {i.stem.removesuffix(image_suffix) for i in images}
        unused = sum(stem not in stems for stem in by_stem)
        if (noted := _noted.get()) is not None:
            noted += [f"{path}: no mask of the same name." for path in lonely]
            noted += [f"{mask}: no image of the same name." for s, m in by_stem.items() if s not in stems for mask in m]
            return [p for p in pairs if p.mask is not None]
        shown = ", ".join(str(path) for path in lonely[:3])
        raise UserError(
            f"{len(lonely)} of {len(images)} images have no mask of the same name "
            f"({shown}{', ...' * (len(lonely) > 3)}); {unused} masks have no image. Add the masks, or set "
            "image_suffix and mask_suffix if the names differ."
        )
    return pairs


def _closest(image: Path, masks: list[Path]) -> Path | None:
    if len(masks) < 2:
        return masks[0] if masks else None
    return max(masks, key=lambda mask: len(set(mask.parts) & set(image.parts)))


def pairs_digest(pairs: list[Pair]) -> str:
    """A hash of the images' names and of what is in all files; a copy of the data elsewhere has the same one."""
    contents = _contents(sorted({path for p in pairs for path in (p.image, p.mask) if path}))
    return digest([(p.image.name, contents[p.image], contents[p.mask] if p.mask else None) for p in pairs])


STILL_NS = 2_000_000_000
"""A file changed more recently could change again within the clock's tick: its hash is not remembered."""


def _contents(paths: list[Path]) -> dict[Path, str]:
    """A hash of every file's bytes; one whose size and time of change are known is not read again."""
    file = cache_folder() / "files" / f"{digest([str(path.absolute()) for path in paths])}.json"
    known: dict[str, str] = read_json(file) if file.is_file() else {}
    now, stats = time.time_ns(), {path: path.stat() for path in paths}
    keys = {path: f"{path.absolute()} {stats[path].st_size} {stats[path].st_mtime_ns}" for path in paths}
    unknown = [path for path in paths if keys[path] not in known]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        hashes = dict(zip(unknown, pool.map(_hash, unknown), strict=True))
    found = {path: hashes.get(path) or known[keys[path]] for path in paths}
    if any(now - stats[path].st_mtime_ns > STILL_NS for path in unknown):
        write_json(file, {keys[path]: found[path] for path in paths if now - stats[path].st_mtime_ns > STILL_NS})
    return found


def _hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def read_image(path: Path, *, alpha: bool = False, data: bytes | None = None) -> NDArray[np.uint8]:
    """RGB pixels [h, w, 3], turned upright as the camera says; with ``alpha``, [h, w, 4], opaque where it has none.

    Args:
        path: The file or, with ``data``, what messages call it.
        alpha: Give the fourth channel too.
        data: Its bytes, where it is part of another file.

    Raises:
        UserError: If the file is truncated or no image, or its one channel has more than 8 bits.
    """
    try:
        with Image.open(path if data is None else BytesIO(data)) as image:
            if image.mode[0] in "IF":  # Pillow would cut all above 255 off
                raise ValueError(f"mode {image.mode} has more than 8 bits a pixel and no known white; convert it")
            return np.asarray(ImageOps.exif_transpose(image).convert("RGBA" if alpha else "RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: not a readable image ({error}); restore or remove it.") from error


def read_mask(
    path: Path,
    num_classes: int,
    size: tuple[int, int],
    zero_label: bool = False,
    void: Sequence[int] = (),
    data: bytes | None = None,
) -> NDArray[np.uint8]:
    """Class ids [h, w] of an index or palette image; 255 is void.

    Args:
        path: The mask.
        num_classes: Ids from 0 to this minus 1 are valid.
        size: Height and width of the image it belongs to.
        zero_label: Reduce: 0 becomes void, n becomes n - 1, once, here.
        void: Other values that mean void, before any reduction.
        data: Its bytes, where it is part of another file; ``path`` is then what messages call it.

    Raises:
        UserError: If the mask is unreadable, coloured, of another size or holds other ids, or 255 would be a class.
    """
    if num_classes > VOID:
        raise UserError(f"{path}: index masks hold at most {VOID} classes, as id 255 is void; found {num_classes}.")
    try:
        with Image.open(path if data is None else BytesIO(data)) as image:
            mode, pixels = image.mode, np.asarray(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path}: not a readable mask ({error}); restore or remove it.") from error
    if pixels.ndim != 2 or pixels.dtype.kind not in "bui":
        coloured = " `kind: folder` reads colours with data.colours." if mode in ("RGB", "RGBA") else ""
        raise UserError(f"{path}: a mask holds one class id a pixel (mode L or P), found mode {mode}.{coloured}")
    if pixels.shape != size:
        raise UserError(f"{path}: the mask is {pixels.shape[0]}x{pixels.shape[1]}, its image is {size[0]}x{size[1]}.")
    pixels = pixels.astype(np.int64)  # as wide as any file: 300 must not become 44
    if void:
        pixels = np.where(np.isin(pixels, void), VOID, pixels)
    if zero_label:
        pixels = np.where((pixels == 0) | (pixels == VOID), VOID, pixels - 1)
    wrong = np.unique(pixels[((pixels < 0) | (pixels >= num_classes)) & (pixels != VOID)])
    if wrong.size:
        ids = ", ".join(str(i) for i in wrong[:5])
        raise UserError(
            f"{path}: class ids {ids} are out of range: there are {num_classes} classes (0-{num_classes - 1}; 255 is "
            "void); data.void lists other values that mean void."
        )
    return pixels.astype(np.uint8)
