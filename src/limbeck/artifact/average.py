"""One mask from several answers to one image: mirrored, at other scales, or both."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from limbeck.artifact.resize import Ids, Window, predict, strips

__all__ = ["Answer", "average", "mean_logits"]

Floats = NDArray[np.float32]


class Answer(NamedTuple):
    """What a network says to one view of an image: logits [c, h, w], or [c] of a classifier.

    ``window`` is the part of them that holds the image, None where they cover it alone; ``mirrored`` says that the
    image was.
    """

    logits: Floats
    window: Window | None = None
    mirrored: bool = False


def average(answers: Sequence[Answer], size: tuple[int, int]) -> Ids:
    """Class ids [h, w] of the largest mean probability.

    Logits are resized to ``size`` and become probabilities (softmax over the classes, a sigmoid where there is one),
    whose mean over the answers decides; equal ones go to the lower class. A single answer decides by its logits, which
    is the same and takes no exponentials.

    Raises:
        ValueError: If the answers are not of one number of classes.
    """
    num_classes = {len(answer.logits) for answer in answers}
    if len(num_classes) != 1:
        raise ValueError(f"answers with {sorted(num_classes)} classes have no mean")
    if len(answers) == 1 and not answers[0].mirrored:
        return predict(answers[0].logits, size, answers[0].window)
    ids: Ids = np.zeros(size, np.uint8) if num_classes.pop() <= 256 else np.zeros(size, np.uint16)
    walks = [strips(answer.logits, size, answer.window) for answer in answers]
    for parts in zip(*walks, strict=True):
        total = _total([np.stack([p.copy() for p in planes]) for _, planes in parts], answers)
        ids[parts[0][0]] = total[0] > len(answers) / 2 if len(total) == 1 else total.argmax(0)
    return ids


def mean_logits(answers: Sequence[Answer]) -> Floats:
    """Logits [c] of a classifier whose probabilities are the mean of those of the answers."""
    if len(answers) == 1:
        return answers[0].logits
    shares = _probabilities(np.stack([answer.logits for answer in answers], axis=1)).mean(axis=1)
    found: Floats = np.log(np.maximum(shares, np.finfo(np.float32).tiny))
    return found


def _total(logits: Sequence[Floats], answers: Sequence[Answer]) -> Floats:
    """Sum of the answers' probabilities [c, rows, w], those of mirrored images turned back."""
    total: Any = 0
    for own, answer in zip(logits, answers, strict=True):
        probabilities = _probabilities(own)
        total = total + (probabilities[..., ::-1] if answer.mirrored else probabilities)
    found: Floats = total
    return found


def _probabilities(logits: Floats) -> Floats:
    """Softmax over the first axis; the sigmoid where it has one class."""
    if len(logits) == 1:
        with np.errstate(over="ignore"):  # exp(89) is infinite and the sigmoid 0, as it should be
            sigmoid: Floats = np.reciprocal(1 + np.exp(-logits))
        return sigmoid
    shares: Floats = np.exp(logits - logits.max(0))
    shares /= shares.sum(0)
    return shares
