"""Tasks: what a target is, which score is followed, and how logits become a prediction.

A task has ``metric`` (name of the score in points, higher is better), ``loss`` (default task loss) and
``quality(confusion) -> dict``.
"""
