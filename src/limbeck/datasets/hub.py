"""Images and masks or labels in columns: a data set of the Hugging Face hub, or parquet files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from datasets import ClassLabel, Image
from numpy.typing import NDArray

from limbeck.data.licence import Licence
from limbeck.data.pairs import read_image, read_mask
from limbeck.data.sample import NO_CLASS, VOID, Sample
from limbeck.datasets._hub_rows import column_of, names_of, rows_of
from limbeck.datasets._layout import held_out
from limbeck.record import UserError, digest

__all__ = ["Hub"]


class Hub:
    """Rows with an image and a mask, or an image and a label; without either column there is no truth.

    A row whose mask or label is empty is an image without labels, which only a teacher has something to say about.

    Args:
        split: Which of the splits to read.
        root: Folder that holds data sets.
        path: An id on the hub, such as ``owner/name``; or parquet files: a file, a folder or a glob, absolute or under
            ``root``.
        image_column: The column of images.
        mask_column: The column of masks, which hold class ids.
        label_column: The column of labels, for classification: numbers, or names that ``classes`` has.
        splits: What the data call a split, such as ``{validation: test}``, where that is not one of the usual names.
        classes: Names in the order of their ids; None takes those that the label column carries.
        zero_label: Label 0 in masks is "unlabelled": it becomes void and all others move down by one.
        void: Label values in masks that count as void, besides 255.
        holdout: Share of the rows that validation takes out of training, where both are the same split of the data.
        config: Which of the data set's configurations on the hub.
        revision: Its branch, tag or commit on the hub.
        licence: Terms that the data come under; None takes what the data set says of itself.

    Raises:
        UserError: If the files, the id, the split, a column or the class names are missing.
    """

    palette: tuple[tuple[int, int, int], ...] = ()

    def __init__(
        self,
        split: str,
        root: Path,
        *,
        path: str,
        image_column: str = "image",
        mask_column: str | None = None,
        label_column: str | None = None,
        splits: Mapping[str, str] | None = None,
        classes: list[str] | None = None,
        zero_label: bool = False,
        void: list[int] | None = None,
        holdout: float = 0.0,
        config: str | None = None,
        revision: str | None = None,
        licence: str | None = None,
    ) -> None:
        if mask_column and label_column:
            raise ValueError("a row has a mask or a label; give mask_column or label_column")
        _keep_apart(split, splits, holdout)
        rows = rows_of(path, root, split, splits, config, revision)
        self.table, self.called, self.version = rows.table, rows.called, rows.version
        self.columns = image_column, mask_column, label_column
        self.zero_label, self.void = zero_label, tuple(void or ())
        self.classes = self._named(classes)
        self._images()
        self.rows, self.share = _shared(len(self.table), split, holdout), (split, holdout) if holdout else None
        if not self.rows:
            raise UserError(f"{path}: the split {split!r} is empty.")
        said = licence or getattr(self.table.info, "license", None)
        self.licence = Licence.named(said) if said else None
        self.place = Path(path)

    def _named(self, classes: list[str] | None) -> tuple[str, ...]:
        """The class names, the recipe's or those of the label column."""
        _, mask, label = self.columns
        feature = column_of(self.table, label, "label_column") if label else None
        carried = tuple(feature.names) if isinstance(feature, ClassLabel) else ()
        if classes is not None and carried and len(classes) != len(carried):
            raise UserError(f"data.classes: {len(classes)} names, but the column {label!r} has {len(carried)} classes.")
        found = tuple(classes) if classes is not None else carried
        if not found and (mask or label):
            raise UserError("data.classes: the data do not name their classes; list them.")
        if mask and len(found) > VOID:
            raise UserError(f"data.classes: {len(found)} classes; at most {VOID} fit, as id 255 is void.")
        return found

    def _images(self) -> None:
        """Let the columns of images give their bytes, which are read as those of files are."""
        image, mask, _ = self.columns
        for name, what in ((image, "image_column"), (mask, "mask_column")):
            if name is not None:
                column_of(self.table, name, what)
                try:
                    self.table = self.table.cast_column(name, Image(decode=False))
                except Exception as error:
                    raise UserError(f"data.{what}: the column {name!r} holds no images ({error}).") from error

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        """Read one row and check it."""
        number = self.rows[index]
        row, (image_column, mask_column, label_column) = self.table[number], self.columns
        name = f"{self.called}-{number:06d}"
        place, data = self._file(row[image_column], name, image_column)
        image = read_image(place, data=data)
        if label_column:
            return Sample(image, self._label(row[label_column], name), name)
        if not mask_column:
            return Sample(image, None, name)
        if row[mask_column] is None:
            return Sample(image, np.zeros(image.shape[:2], np.uint8), name, labelled=False)
        place, data = self._file(row[mask_column], name, mask_column)
        size = (image.shape[0], image.shape[1])
        mask = read_mask(place, len(self.classes), size, self.zero_label, self.void, data=data)
        return Sample(image, mask, name)

    def _file(self, value: Any, name: str, column: str) -> tuple[Path, bytes | None]:
        """What an image is called in messages, and its bytes; None where the row only says its path."""
        place = self.place / name / column
        if not isinstance(value, dict) or not (value.get("bytes") or value.get("path")):
            raise UserError(f"{place}: this row has no image in the column {column!r}.")
        return (place, value["bytes"]) if value.get("bytes") else (Path(value["path"]), None)

    def _label(self, value: Any, name: str) -> NDArray[np.integer]:
        if isinstance(value, str):
            value = self.classes.index(value) if value in self.classes else value
        if value is None or value == NO_CLASS:
            return np.array(NO_CLASS, np.int64)
        if not isinstance(value, int) or not 0 <= value < len(self.classes):
            raise UserError(
                f"{self.place / name}: the label {value!r} is none of the {len(self.classes)} classes "
                f"({', '.join(self.classes[:5])}{', ...' * (len(self.classes) > 5)})."
            )
        return np.array(value, np.int64)

    def digest(self) -> str:
        """The rows, which of them are this split's, the class names and how they are read."""
        read_as = [self.columns, self.classes, self.zero_label, self.void]
        return digest([self.version, self.called, self.share, *read_as])


def _keep_apart(split: str, splits: Mapping[str, str] | None, holdout: float) -> None:
    """Refuse to train on what is scored."""
    if not 0 <= holdout <= 0.5:
        raise ValueError(f"holdout must be between 0 and 0.5, got {holdout}")
    training, validation, test = (set(names_of(each, splits)) for each in ("training", "validation", "test"))
    same = training & validation
    if same and not holdout:
        raise UserError(f"data.splits: training and validation are both {min(same)!r}; set data.holdout, such as 0.2.")
    if holdout and not same:
        raise UserError(
            "data.holdout: is for data whose training and validation are one split; name it for both: "
            "splits: {training: train, validation: train}."
        )
    if split == "test" and (shared := test & (training | validation)):
        raise UserError(f"data.splits: test is {min(shared)!r}, as training or validation is; score validation.")


def _shared(length: int, split: str, holdout: float) -> list[int]:
    """Rows of the split: validation's share is evenly spread over all of them."""
    if not holdout or split not in ("training", "validation"):
        return list(range(length))
    return [row for row in range(length) if held_out(row, holdout) == (split == "validation")]
