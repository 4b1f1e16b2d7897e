"""One walk over a dataset: what a file predicts, and what that is worth."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from limbeck.artifact.average import Answer, average, mean_logits
from limbeck.artifact.load import Predictor
from limbeck.artifact.protocol import WHOLE, Look, Protocol, answered
from limbeck.data.sample import Sample
from limbeck.datasets import Dataset
from limbeck.metrics.tally import ClassTally, Mask, Quality, Tally
from limbeck.record import UserError

__all__ = ["evaluate", "refuse_other_sizes"]

Floats = NDArray[np.float32]
Prepared = tuple[Sample, list[Look]]

OTHER_SIZES = (
    "Exported files keep their input size unless `export: {dynamic: [height, width]}`, integer files always; "
    "`evaluate.slide` shows every file windows of its own size, at any scale."
)


def evaluate(
    predictor: Predictor,
    dataset: Dataset,
    *,
    batch: int = 8,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
    keep: Callable[[int, Mask], None] | None = None,
    reference: Callable[[int], NDArray[np.integer]] | None = None,
    protocol: Protocol = WHOLE,
    boundary: bool = False,
) -> Quality:
    """Predict every sample and compare it with its target at the target's own size.

    Samples go through the network in batches of equal inputs; logits are resized one image at a time.

    Args:
        workers: Threads that read and preprocess ahead; 0 does so in between.
        progress: Told how many images are done, and of how many, after each batch.
        keep: Given the index and mask of every image, in order.
        reference: Gives another network's mask of the same index, to count how far both agree.
        protocol: How images are shown to the network.
        boundary: Whether to score edges too.

    Raises:
        UserError: If predictor and dataset have different numbers of classes, a sample cannot be used, or the network
            does not take what the protocol shows it.
    """
    if predictor.classes and len(predictor.classes) != len(dataset.classes):
        given = f"{len(predictor.classes)} classes, the dataset {len(dataset.classes)}"
        raise UserError(f"evaluate: the network has {given}: compare it on the data it was trained for.")
    refuse_other_sizes(predictor, protocol)
    dense, classes = predictor.dense, dataset.classes
    tally: Tally | ClassTally = Tally(classes, boundary) if dense else ClassTally(classes)
    for group in _groups(predictor, dataset, protocol, batch, workers):
        answers = iter(answered(predictor.logits, [look for _, looks in group for look in looks], batch))
        for sample, looks in group:
            index, (mask, logits) = len(tally.images), _said(predictor, sample, [next(answers) for _ in looks])
            tally.add(sample, mask, reference(index) if reference else None, logits)
            if keep:
                keep(index, mask)
        if progress:
            progress(len(tally.images), len(dataset))
    return tally.quality()


def refuse_other_sizes(predictor: Predictor, protocol: Protocol) -> None:
    """Try the network on every size of input that it would get.

    Raises:
        UserError: If it fails on one, or a window shall move over images for a classifier.
    """
    if protocol.slide and not predictor.dense:
        raise UserError("evaluate.slide: a classifier sees the whole image; leave it out.")
    preprocess = predictor.preprocess
    for size in sorted(protocol.sizes(preprocess) - {preprocess.shape}):
        try:
            predictor.logits(np.zeros((1, len(preprocess.mean), *size), np.float32))
        except Exception as error:  # whatever the runtime or the network raises
            raise UserError(
                f"evaluate.scales: the network does not take inputs of {size[0]}x{size[1]}: "
                f"{str(error).splitlines()[0][:200]} {OTHER_SIZES}"
            ) from error


def _said(predictor: Predictor, sample: Sample, answers: list[Answer]) -> tuple[Mask, Floats]:
    """An image's mask at its target's size, or its class, and the logits that a classifier's score looks at."""
    image_hw = sample.image.shape[0], sample.image.shape[1]
    is_map = sample.target is not None and sample.target.ndim == 2
    size = (sample.target.shape[0], sample.target.shape[1]) if is_map and sample.target is not None else image_hw
    if predictor.dense:
        return average(answers, size), answers[0].logits
    logits = mean_logits(answers)
    return predictor.mask_of(logits, image_hw), logits


def _groups(
    predictor: Predictor, dataset: Dataset, protocol: Protocol, batch: int, workers: int
) -> Iterator[list[Prepared]]:
    """Samples and their views, in order, in lists that make about ``batch`` inputs; the last one may be shorter."""
    together = protocol.images_at_once(batch)

    def prepare(index: int) -> Prepared:
        sample = dataset[index]
        try:
            return sample, protocol.looks(predictor.preprocess, sample.image)
        except ValueError as error:
            raise UserError(f"{sample.name}: {error}") from error

    group: list[Prepared] = []
    for prepared in _ahead(prepare, len(dataset), max(together, workers), workers):
        group.append(prepared)
        if len(group) == together:
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
