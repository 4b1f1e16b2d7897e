"""Score every row of a run with the same code, and keep what it predicts for a few telling images."""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from limbeck import show
from limbeck.artifact.load import Predictor, load
from limbeck.artifact.palette import palette
from limbeck.artifact.protocol import Protocol, Slide
from limbeck.datasets import Dataset
from limbeck.metrics.agreement import agreement
from limbeck.metrics.evaluate import evaluate, refuse_other_sizes
from limbeck.metrics.tally import Quality
from limbeck.recipe import Recipe
from limbeck.record import UserError, whole
from limbeck.stages.class_samples import class_sample, class_samples
from limbeck.stages.context import Context
from limbeck.stages.dry_run import refuse_keys_of_maps
from limbeck.stages.plan import folder_of
from limbeck.stages.rows import Row, rows

__all__ = ["run"]

REFERENCE = "student.fp32.eager"
"""The row that all agreement is measured against."""

COMPARED = 6
"""Images kept for a look at several runs side by side: evenly spread, whatever a network makes of them."""

COUNTS = "counts.npz"
"""For every row by its id, what each image adds to the classes' IoU: what a bootstrap over images draws from."""

Mask = NDArray[np.integer[Any]]


def run(context: Context) -> dict[str, Any]:
    """Evaluate all rows on the recipe's split.

    Returns:
        Classes, palette, whether every pixel has a class, how images are resized and shown to the networks, the rows
        with their scores, the sample images, images that are the same in every run of these data, and of maps the
        file of counts image by image.

    Raises:
        UserError: If a network does not take inputs of the sizes that the recipe asks for.
    """
    recipe = context.recipe
    dataset = context.dataset(recipe.evaluate.split)
    refuse_keys_of_maps(context)
    _refuse_other_sizes(context)
    kept = _Kept()
    found = [_row(context, row, dataset, kept) for row in sorted(rows(context), key=lambda row: row.id != REFERENCE)]
    found.sort(key=lambda one: [row.id for row in rows(context)].index(one["id"]))
    classes = dataset.classes
    counts = _write_counts(kept.counts, context.folder / folder_of(context, "evaluate"))
    return {
        "split": recipe.evaluate.split,
        "classes": list(classes),
        "palette": [list(colour) for colour in dataset.palette or palette(len(classes) if context.task.dense else 0)],
        "dense": context.task.dense,
        "resize": recipe.data.resize.model_dump() | {"size": list(recipe.data.size)},
        "protocol": _protocol(recipe).described(recipe.data.size),
        "images": len(dataset),
        "rows": found,
        "samples": _samples(context, dataset, kept, found),
        "compared": _compared(context, dataset, kept),
        "counts": counts,
    }


def _write_counts(counts: dict[str, NDArray[np.int64]], folder: Path) -> str | None:
    """Name of the file with the counts [images, classes, 3] of each row; None where there are none."""
    if not counts:
        return None
    with whole(folder / COUNTS) as part:
        np.savez_compressed(part, allow_pickle=False, **counts)
    return COUNTS


class _Kept:
    """Masks of the rows that the report shows, compressed, and their agreement with the reference image by image."""

    def __init__(self) -> None:
        self._packed: dict[tuple[str, int], tuple[bytes, tuple[int, ...], str]] = {}
        self.agreement: dict[str, list[float]] = {}
        self.counts: dict[str, NDArray[np.int64]] = {}

    def keep(self, row: str, index: int, mask: Mask) -> None:
        self._packed[row, index] = (zlib.compress(mask.tobytes(), 1), mask.shape, mask.dtype.str)
        if self.has(REFERENCE, index):
            self.agreement.setdefault(row, []).append(agreement(mask, self.mask(REFERENCE, index)))

    def has(self, row: str, index: int) -> bool:
        return (row, index) in self._packed

    def mask(self, row: str, index: int) -> Mask:
        packed, shape, kind = self._packed[row, index]
        return np.frombuffer(zlib.decompress(packed), np.dtype(kind)).reshape(shape)

    def reference(self, index: int) -> Mask:
        """The reference's mask.

        Raises:
            UserError: If it has none.
        """
        if not self.has(REFERENCE, index):
            raise UserError("the FP32 student could not be evaluated")
        return self.mask(REFERENCE, index)

    @property
    def rows(self) -> list[str]:
        return list(dict.fromkeys(row for row, _ in self._packed))


def _row(context: Context, row: Row, dataset: Dataset, kept: _Kept) -> dict[str, Any]:
    shown = _is_shown(row)
    try:
        predictor = _loaded(context, row)
        with show.bar(f"evaluate {row.id}", len(dataset), unit="images") as bar:
            quality = evaluate(
                predictor, dataset, batch=context.recipe.evaluate.batch, workers=2,
                progress=lambda done, total: bar.advance(done),
                keep=(lambda index, mask: kept.keep(row.id, index, mask)) if shown else None,
                reference=None if row.id == REFERENCE else kept.reference,
                protocol=_protocol(context.recipe), boundary=context.recipe.evaluate.boundary,
            )  # fmt: skip
    except UserError as error:
        return row.described() | {"error": str(error)}
    if quality.counts is not None and quality.scores:
        kept.counts[row.id] = quality.counts
    return row.described() | _scores(row, quality, kept)


def _loaded(context: Context, row: Row) -> Predictor:
    root = context.source_root(context.section(row.model))
    device = context.device if row.runtime == "eager" and row.precision == "fp32" else "cpu"
    return load(row.path, runtime=row.runtime, precision=row.inference, root=root, device=device)


def _protocol(recipe: Recipe) -> Protocol:
    """How the recipe wants images to be shown to the networks."""
    scored, size = recipe.evaluate, recipe.data.size
    slide = Slide(scored.slide.strides(size), scored.slide.image == "cover") if scored.slide else None
    return Protocol(slide, scored.flip, tuple(scored.scales))


def _refuse_other_sizes(context: Context) -> None:
    """Try every row's file on the sizes of input it would get, before any is evaluated, where they are not its own."""
    protocol, where = _protocol(context.recipe), context.recipe.place / "evaluate"
    if protocol.slide or protocol.scales == (1.0,):
        return
    for row in rows(context):
        try:
            refuse_other_sizes(_loaded(context, row), protocol)
        except UserError as error:
            raise UserError(f"{where / 'scales'}: {row.id}: {error}") from error


def _is_shown(row: Row) -> bool:
    main = row.runtime == "eager" and row.precision == "fp32"
    return main or (row.precision == "int8" and row.runtime == row.target and not row.label.endswith("-ptq"))


def _scores(row: Row, quality: Quality, kept: _Kept) -> dict[str, Any]:
    scores = dict(quality.scores or {})
    own = kept.agreement.get(row.id)
    images = [image | ({"agreement": own[index]} if own else {}) for index, image in enumerate(quality.images)]
    names = (
        "miou", "pixel_accuracy", "accuracy", "top5_accuracy", "mean_accuracy", "mean_dice", "fw_iou", "per_class",
        "boundary_iou", "frequency",
    )  # fmt: skip
    found = {name: scores.get(name) for name in names} | ({"sources": quality.sources} if quality.sources else {})
    agreed = 100.0 if row.id == REFERENCE else quality.agreement
    return found | {"agreement": agreed, "matrix": quality.matrix.tolist(), "images": images}


def _samples(context: Context, dataset: Dataset, kept: _Kept, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Image, truth and masks of the best, worst, most changed and typical images."""
    folder = context.folder / folder_of(context, "evaluate") / "samples"
    if not context.task.dense:
        return class_samples(dataset, kept, found, REFERENCE, context.recipe.evaluate.samples, folder)
    chosen = _chosen(found, context.recipe.evaluate.samples)
    return [_sample(dataset, kept, index, why, folder) for index, why in chosen]


def _compared(context: Context, dataset: Dataset, kept: _Kept) -> list[dict[str, Any]]:
    """Image, truth and answers of images that no score chose."""
    folder = context.folder / folder_of(context, "evaluate") / "samples"
    count = min(COMPARED, context.recipe.evaluate.samples)
    spread = np.linspace(0, len(dataset) - 1, count + 2)[1:-1].round().astype(int).tolist()
    write = _sample if context.task.dense else class_sample
    return [write(dataset, kept, index, "evenly spread", folder) for index in dict.fromkeys(spread)]


def _chosen(found: list[dict[str, Any]], count: int) -> list[tuple[int, str]]:
    """Indices and reasons: a quarter each of best, worst, most changed by quantization, and evenly spread ones."""
    by_id = {row["id"]: row for row in found}
    reference = by_id.get(REFERENCE, {}).get("images", [])
    integer: list[dict[str, Any]] = next(
        (r["images"] for r in found if r["precision"] == "int8" and "agreement" in (r.get("images") or [{}])[0]), []
    )
    scored = sorted(
        (i for i, image in enumerate(reference) if image["miou"] is not None), key=lambda i: reference[i]["miou"]
    )
    changed = sorted(range(len(integer)), key=lambda i: integer[i]["agreement"])
    part = max(1, count // 4) if count else 0
    typical = [scored[len(scored) * n // (part + 1)] for n in range(1, part + 1)] if scored else []
    wishes = [*((i, "best") for i in scored[::-1][:part]), *((i, "worst") for i in scored[:part])]
    wishes += [*((i, "most changed") for i in changed[:part]), *((i, "typical") for i in typical)]
    wishes += [(int(i), "typical") for i in np.linspace(0, len(reference) - 1, count).astype(int)] if reference else []
    unique: dict[int, str] = {}
    for index, why in wishes:
        unique.setdefault(index, why)
    return list(unique.items())[:count]


def _in_colour(image: Any) -> Any:
    """The first three channels of an image [h, w, c], or its one as grey."""
    return image[..., 0] if image.shape[2] < 3 else np.ascontiguousarray(image[..., :3])


def _sample(dataset: Dataset, kept: _Kept, index: int, why: str, folder: Path) -> dict[str, Any]:
    sample = dataset[index]
    stem = f"{index:05d}"
    with whole(folder / f"{stem}.jpg") as part:
        Image.fromarray(_in_colour(sample.image)).save(part, quality=88)
    found: dict[str, Any] = {"name": sample.name, "why": why, "image": f"samples/{stem}.jpg", "masks": {}}
    if sample.truth is not None:
        found["truth"] = _write_mask(folder / f"{stem}.truth.png", sample.truth)
    for row in kept.rows:
        if kept.has(row, index):
            found["masks"][row] = _write_mask(folder / f"{stem}.{row}.png", kept.mask(row, index))
    return found


def _write_mask(path: Path, mask: Mask) -> str:
    with whole(path) as part:
        Image.fromarray(np.asarray(mask, dtype=np.uint8)).save(part)
    return f"samples/{path.name}"
