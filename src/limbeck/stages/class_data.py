"""A classifier that comes without a recipe, and images that lie in a folder for each class."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from limbeck.artifact.metadata import Metadata
from limbeck.build import find
from limbeck.datasets.image_folder import LAYOUTS

__all__ = ["KIND", "class_section", "gives_classes", "has_class_folders"]

KIND = "image_folder"


def gives_classes(student: Mapping[str, Any], metadata: Metadata | None, data: str) -> bool:
    """Whether a network gives one class an image: its file says so, or its kind, or the data do."""
    if metadata is not None:
        return metadata.task == "classification"
    kind = str(student["kind"])
    module = find("models", kind, "--arch").__module__ if ":" not in kind else ""
    if getattr(sys.modules.get(module), "TASK", None) == "classification":
        return True
    return bool(":" in kind) and (data.partition(",")[0] == KIND or has_class_folders(Path(data)))


def has_class_folders(folder: Path) -> bool:
    """Whether a folder is laid out for classification: folders, and no masks, in a training folder of a usual name."""
    training = next((folder / name for name in LAYOUTS["training"] if (folder / name).is_dir()), None)
    if training is None or any((folder / name).is_dir() for name in ("images", "annotations")):
        return False
    return any(path.is_dir() for path in training.iterdir())


def class_section(folder: Path, classes: Sequence[str]) -> dict[str, Any]:
    """The data section for a folder in whatever layout it has: splits, classes alone, or images alone."""
    found: dict[str, Any] = {"kind": KIND, "path": str(folder.resolve())}
    if classes:
        found["classes"] = list(classes)
    laid_out = any((folder / name).is_dir() for names in LAYOUTS.values() for name in names)
    return found if laid_out else found | {"folders": {"training": "."}, "holdout": 0.2}
