"""Tasks: what a target is, and which score is followed.

A task has ``name`` and ``metric``: the score in points that best weights, early stopping and ``min_metric`` look at;
higher is better.
"""
