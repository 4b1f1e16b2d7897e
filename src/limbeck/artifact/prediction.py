"""What a network says about one image."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limbeck.artifact.palette import Palette, colourise

__all__ = ["ClassPrediction", "Prediction", "largest"]


def largest(logits: NDArray[np.float32]) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The id, an array without axes, of the largest of one image's logits [c]; of equal ones the lower id."""
    best = logits.argmax()
    return np.asarray(best, np.uint8) if len(logits) <= 256 else np.asarray(best, np.uint16)


@dataclass(frozen=True)
class ClassPrediction:
    """The class of an image.

    Attributes:
        label: Id of the likeliest class.
        classes: Names of all classes; empty if unknown.
        logits: [c] as the network gave them.
    """

    label: int
    classes: tuple[str, ...]
    logits: NDArray[np.float32]

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Shares [c] that sum to 1: the softmax of the logits."""
        raised = np.exp(self.logits.astype(np.float64) - self.logits.max())
        shares: NDArray[np.float64] = raised / raised.sum()
        return shares

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """The likeliest classes by name (by number where names are unknown) with their probabilities, best first."""
        order = np.argsort(-self.probabilities, kind="stable")[:count]
        names = self.classes or tuple(map(str, range(len(self.logits))))
        return [(names[index], float(self.probabilities[index])) for index in order]


@dataclass(frozen=True)
class Prediction:
    """The classes of an image's pixels, and what is needed to show them.

    Attributes:
        mask: Class ids [h, w] at the image's size.
        classes: Their names; empty if unknown.
        palette: A colour for every class.
        logits: [c, h', w'] as the network gave them, at its own stride; they cover the padding of its input too.
    """

    mask: NDArray[np.uint8] | NDArray[np.uint16]
    classes: tuple[str, ...]
    palette: Palette
    logits: NDArray[np.float32] | None = None

    @property
    def picture(self) -> NDArray[np.uint8]:
        """The mask in colour, RGB [h, w, 3]."""
        return colourise(self.mask, self.palette)

    def overlay(self, image: NDArray[np.uint8], opacity: float = 0.5) -> NDArray[np.uint8]:
        """The image [h, w, 3] under its coloured mask; pixels without a colour of their own show the image alone.

        Args:
            opacity: 0 shows the image, 1 the mask.

        Raises:
            ValueError: If the image has another size than the mask, or the opacity is outside 0 to 1.
        """
        if image.shape[:2] != self.mask.shape or not 0 <= opacity <= 1:
            raise ValueError(f"image {list(image.shape)}, mask {list(self.mask.shape)}, opacity {opacity} do not match")
        blend = (1 - opacity) * image + opacity * self.picture
        known = (self.mask < len(self.palette))[..., None]
        shown: NDArray[np.uint8] = np.where(known, blend.round(), image).astype(np.uint8)
        return shown
