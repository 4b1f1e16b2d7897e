"""Image classification: one class for every image."""

__all__ = ["Classification"]


class Classification:
    """A target is the id of the image's class; the score that is followed is accuracy, the share that is right."""

    name = "classification"
    metric = "accuracy"
    scores = ("accuracy", "top5_accuracy", "mean_accuracy")
    dense = False
