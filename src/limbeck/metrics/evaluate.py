"""One walk over a dataset: what a file predicts, and what that is worth."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.artifact.load import Predictor
from limbeck.data.sample import Sample
from limbeck.datasets import Dataset
from limbeck.metrics.accuracy import Labels, class_scores
from limbeck.metrics.agreement import agreeing
from limbeck.metrics.confusion import Confusion, scores
from limbeck.record import UserError

__all__ = ["Quality", "evaluate"]

Mask = NDArray[np.uint8] | NDArray[np.uint16]
Floats = NDArray[np.float32]
Prepared = tuple[Sample, Floats]


@dataclass(frozen=True)
class Quality:
    """How good predictions are, over a whole split.

    Attributes:
        matrix: Pixels (of a classifier, images) by class, int64, [truth, predicted]; the sum over all with a target.
        scores: What :func:`limbeck.metrics.confusion.scores`, of a classifier :func:`~.accuracy.class_scores`, makes
            of it; None if no image has a target.
        images: For each image, in order, its ``name`` and its own ``miou`` or ``accuracy``; None without truth.
        num_images: All images, with or without a target.
        agreement: Points of pixels (of a classifier, images) that have the reference's class; None without one.
    """

    matrix: NDArray[np.int64]
    scores: dict[str, Any] | None
    images: list[dict[str, Any]]
    num_images: int
    agreement: float | None


def evaluate(
    predictor: Predictor,
    dataset: Dataset,
    *,
    batch: int = 8,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
    keep: Callable[[int, Mask], None] | None = None,
    reference: Callable[[int], NDArray[np.integer]] | None = None,
) -> Quality:
    """Predict every sample and compare it with its target at the target's own size.

    Samples go through the network in batches of equal inputs; logits are resized one image at a time.

    Args:
        workers: Threads that read and preprocess ahead; 0 does so in between.
        progress: Told how many images are done, and of how many, after each batch.
        keep: Given the index and mask of every image, in order.
        reference: Gives another network's mask of the same index, to count how far both agree.

    Raises:
        UserError: If predictor and dataset have different numbers of classes, or a sample cannot be used.
    """
    if predictor.classes and len(predictor.classes) != len(dataset.classes):
        given = f"{len(predictor.classes)} classes, the dataset {len(dataset.classes)}"
        raise UserError(f"evaluate: the network has {given}: compare it on the data it was trained for.")
    tally: _Tally | _ClassTally = _Tally(dataset.classes) if predictor.dense else _ClassTally(dataset.classes)
    for group in _groups(predictor, dataset, batch, workers):
        logits = predictor.logits(np.stack([pixel_values for _, pixel_values in group]))
        for (sample, _), own in zip(group, logits, strict=True):
            index, mask = len(tally.images), _mask(predictor, sample, own)
            tally.add(sample, mask, reference(index) if reference else None, own)
            if keep:
                keep(index, mask)
        if progress:
            progress(len(tally.images), len(dataset))
    return tally.quality()


def _mask(predictor: Predictor, sample: Sample, logits: NDArray[np.float32]) -> Mask:
    image_hw = sample.image.shape[0], sample.image.shape[1]
    is_map = sample.target is not None and sample.target.ndim == 2
    size = (sample.target.shape[0], sample.target.shape[1]) if is_map and sample.target is not None else image_hw
    return predictor.mask_of(logits, image_hw, size)


class _Tally:
    """Sums over the images seen so far."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes, self.total = classes, Confusion(len(classes))
        self.images: list[dict[str, Any]] = []
        self.with_target = self.same = self.looked_at = 0

    def add(self, sample: Sample, mask: Mask, reference: NDArray[np.integer] | None, logits: Floats) -> None:
        own = Confusion(len(self.classes))
        try:
            if sample.target is not None:
                self.total += own.add(mask, sample.target)
                self.with_target += 1
            same, looked_at = (0, 0) if reference is None else agreeing(mask, reference)
        except ValueError as error:
            raise UserError(f"{sample.name}: {error}") from error
        self.same, self.looked_at = self.same + same, self.looked_at + looked_at
        self.images.append({"name": sample.name, "miou": scores(own.matrix, self.classes)["miou"]})

    def quality(self) -> Quality:
        return Quality(
            matrix=self.total.matrix,
            scores=scores(self.total.matrix, self.classes) if self.with_target else None,
            images=self.images,
            num_images=len(self.images),
            agreement=100 * self.same / self.looked_at if self.looked_at else None,
        )


class _ClassTally:
    """The same for a classifier."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes, self.labels = classes, Labels(len(classes))

    @property
    def images(self) -> list[dict[str, Any]]:
        return self.labels.images

    def add(self, sample: Sample, label: Mask, reference: NDArray[np.integer] | None, logits: Floats) -> None:
        try:
            self.labels.add(sample.name, logits, label, sample.target, reference)
        except ValueError as error:
            raise UserError(f"{sample.name}: {error}") from error

    def quality(self) -> Quality:
        labels = self.labels
        return Quality(
            matrix=labels.matrix,
            scores=class_scores(labels, self.classes),
            images=labels.images,
            num_images=len(labels.images),
            agreement=100 * labels.same / labels.looked_at if labels.looked_at else None,
        )


def _groups(predictor: Predictor, dataset: Dataset, batch: int, workers: int) -> Iterator[list[Prepared]]:
    """Samples and their inputs, in order, in lists of ``batch``; the last one may be shorter."""

    def prepare(index: int) -> Prepared:
        sample = dataset[index]
        try:
            return sample, predictor.preprocess(sample.image)
        except ValueError as error:
            raise UserError(f"{sample.name}: {error}") from error

    group: list[Prepared] = []
    for prepared in _ahead(prepare, len(dataset), max(batch, workers), workers):
        group.append(prepared)
        if len(group) == batch:
            yield group
            group = []
    if group:
        yield group


def _ahead(prepare: Callable[[int], Prepared], num: int, window: int, workers: int) -> Iterator[Prepared]:
    """Results for 0 to ``num`` in order; threads work on the next ``window`` of them while one is used."""
    if workers == 0:
        yield from map(prepare, range(num))
        return
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[Prepared]] = deque()
        for index in range(num):
            waiting.append(pool.submit(prepare, index))
            if len(waiting) > window:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
