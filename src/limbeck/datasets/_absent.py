"""Whether the files that a data set reads are on this machine."""

import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from limbeck.build import find

__all__ = ["absent"]


def absent(spec: Mapping[str, Any], root: Path, code: Path | None = None) -> list[Path]:
    """Folders that a data set's arguments name, those of its sources too, and that are not there.

    Args:
        spec: ``kind`` and the arguments, as the recipe gives them.
        root: Folder that holds data sets.
        code: Folder that a relative file of the user's own code is looked up in.
    """
    parameters = inspect.signature(find("datasets", str(spec.get("kind")), "data", code)).parameters
    inner = [source.get("data") for source in spec.get("sources") or () if isinstance(source, Mapping)]
    found = [path for data in inner if isinstance(data, Mapping) for path in absent(data, root, code)]
    if "root" not in parameters or inner:
        return found
    path = str(spec.get("path", parameters["path"].default if "path" in parameters else ""))
    own = root / re.split(r"[^/]*[*?\[{]", path)[0]
    return [] if own.exists() else [own]
