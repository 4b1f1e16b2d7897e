"""Semantic segmentation: a class for every pixel."""

__all__ = ["Segmentation"]


class Segmentation:
    """A target is a map of class ids; the score that is followed is mIoU, in points."""

    name = "segmentation"
    metric = "miou"
    scores = ("miou", "pixel_accuracy", "mean_accuracy")
    dense = True
