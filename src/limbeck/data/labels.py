"""Names and colours of classes that a checkpoint carries beside its tensors."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limbeck.record import UserError

__all__ = ["Labels", "read_labels"]


@dataclass(frozen=True)
class Labels:
    """What a checkpoint says of its classes; empty where it says nothing.

    Attributes:
        classes: Names, by id.
        palette: Colours [r, g, b], by id.
    """

    classes: tuple[str, ...] = ()
    palette: tuple[tuple[int, int, int], ...] = ()


def read_labels(path: Path) -> Labels:
    """What a .pth of mmsegmentation or mmengine says: ``meta.CLASSES`` before release 1.0, ``meta.dataset_meta`` since.

    Raises:
        UserError: If the file is missing or broken.
    """
    from limbeck.data.inert_pickle import as_mapping, read_pickle  # late: it needs torch

    if path.suffix not in (".pth", ".pt", ".ckpt", ".bin"):
        return Labels()
    try:
        content = read_pickle(path, values=False)
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: no checkpoint that can be read ({error}).") from error
    meta = as_mapping((as_mapping(content) or {}).get("meta")) or {}
    found = as_mapping(meta.get("dataset_meta")) or {"classes": meta.get("CLASSES"), "palette": meta.get("PALETTE")}
    return Labels(_names(found.get("classes")), _colours(found.get("palette")))


def _names(value: Any) -> tuple[str, ...]:
    listed = value if isinstance(value, list | tuple) else ()
    return tuple(listed) if all(isinstance(name, str) for name in listed) else ()


def _colours(value: Any) -> tuple[tuple[int, int, int], ...]:
    rows = value if isinstance(value, list | tuple) else ()
    fits = all(isinstance(row, list | tuple) and len(row) == 3 and all(type(n) is int for n in row) for row in rows)
    return tuple((row[0] % 256, row[1] % 256, row[2] % 256) for row in rows) if fits else ()
