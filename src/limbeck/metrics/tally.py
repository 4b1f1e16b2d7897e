"""What is counted while a network goes over a split: all of it, and source by source."""

from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from limbeck.data.sample import Sample
from limbeck.metrics.accuracy import Labels, class_scores
from limbeck.metrics.agreement import agreeing
from limbeck.metrics.boundary import Boundary, boundary_scores
from limbeck.metrics.confusion import Confusion, scores
from limbeck.record import UserError

__all__ = ["ClassTally", "Mask", "Quality", "Tally"]

Mask = NDArray[np.uint8] | NDArray[np.uint16]
Floats = NDArray[np.float32]


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
        sources: Of data from several sources, each one's scores with the number of its ``images`` and its ``matrix``.
        counts: int64, [images, classes, 3]: pixels found, wrongly said and missed, 0 without truth; of maps alone.
    """

    matrix: NDArray[np.int64]
    scores: dict[str, Any] | None
    images: list[dict[str, Any]]
    num_images: int
    agreement: float | None
    sources: dict[str, dict[str, Any]] = field(default_factory=dict)
    counts: NDArray[np.int64] | None = None


@final
class Tally:
    """Sums over the masks seen so far, one for each source of the data; their sum is the whole.

    Args:
        classes: Names of the classes.
        boundary: Whether to count the bands along edges too.
    """

    def __init__(self, classes: tuple[str, ...], boundary: bool = False) -> None:
        self.classes, self.boundary = classes, boundary
        self.images: list[dict[str, Any]] = []
        self._parts: dict[str | None, _Part] = {}
        self._counts: list[NDArray[np.int64]] = []
        self.same = self.looked_at = 0

    def add(self, sample: Sample, mask: Mask, reference: NDArray[np.integer] | None, logits: Floats) -> None:
        """Count an image's mask, against its target and against another network's mask."""
        own = Confusion(len(self.classes))
        part = self._parts.setdefault(sample.source, _Part(len(self.classes)))
        part.images += 1
        try:
            if sample.truth is not None:
                part.confusion += own.add(mask, sample.truth)
                part.with_target += 1
                if self.boundary:
                    part.boundary.add(mask, sample.truth)
            same, looked_at = (0, 0) if reference is None else agreeing(mask, reference)
        except ValueError as error:
            raise UserError(f"{sample.name}: {error}") from error
        self.same, self.looked_at = self.same + same, self.looked_at + looked_at
        self.images.append({"name": sample.name, "miou": scores(own.matrix, self.classes)["miou"]})
        self._counts.append(own.counts)

    def quality(self) -> Quality:
        """What the counts are worth."""
        whole = _Part(len(self.classes))
        for part in self._parts.values():
            whole.confusion += part.confusion
            whole.boundary.counts += part.boundary.counts
            whole.with_target += part.with_target
        named = {name: part for name, part in self._parts.items() if name is not None}
        return Quality(
            matrix=whole.confusion.matrix,
            scores=self._scores(whole),
            images=self.images,
            num_images=len(self.images),
            agreement=100 * self.same / self.looked_at if self.looked_at else None,
            sources={
                name: (self._scores(part) or {}) | {"images": part.images, "matrix": part.confusion.matrix.tolist()}
                for name, part in named.items()
            },
            counts=np.array(self._counts, np.int64).reshape(len(self.images), len(self.classes), 3),
        )

    def _scores(self, part: "_Part") -> dict[str, Any] | None:
        if not part.with_target:
            return None
        found = scores(part.confusion.matrix, self.classes)
        if self.boundary:
            bands = boundary_scores(part.boundary.counts)
            found["boundary_iou"] = bands["mean"]
            found["per_class"]["boundary_iou"] = bands["iou"]
        return found


class _Part:
    """Sums over the images of one source."""

    def __init__(self, num_classes: int) -> None:
        self.confusion, self.boundary = Confusion(num_classes), Boundary(num_classes)
        self.images = self.with_target = 0


@final
class ClassTally:
    """The same for a classifier."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes, self.labels = classes, Labels(len(classes))
        self._sources: dict[str, Labels] = {}

    @property
    def images(self) -> list[dict[str, Any]]:
        """Each image's name and score."""
        return self.labels.images

    def add(self, sample: Sample, label: Mask, reference: NDArray[np.integer] | None, logits: Floats) -> None:
        """Count an image's class, against its true one and against another network's."""
        tallies = [self.labels]
        if sample.source is not None:
            tallies.append(self._sources.setdefault(sample.source, Labels(len(self.classes))))
        try:
            for labels in tallies:
                labels.add(sample.name, logits, label, sample.truth, reference)
        except ValueError as error:
            raise UserError(f"{sample.name}: {error}") from error

    def quality(self) -> Quality:
        """What the counts are worth."""
        labels = self.labels
        return Quality(
            matrix=labels.matrix,
            scores=class_scores(labels, self.classes),
            images=labels.images,
            num_images=len(labels.images),
            agreement=100 * labels.same / labels.looked_at if labels.looked_at else None,
            sources={
                name: (class_scores(own, self.classes) or {})
                | {"images": len(own.images), "matrix": own.matrix.tolist()}
                for name, own in self._sources.items()
            },
        )
