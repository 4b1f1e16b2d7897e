"""The classes of the drawn streets: ids, names, colours, and which of them are thin."""

from enum import IntEnum

__all__ = ["CLASSES", "NEVER_LOST", "PALETTE", "Label"]


class Label(IntEnum):
    """Class ids, in the order of ``Scenes.classes``."""

    SKY = 0
    BUILDING = 1
    POLE = 2
    ROAD = 3
    LANE_MARKING = 4
    PAVEMENT = 5
    TREE = 6
    SIGN = 7
    FENCE = 8
    CAR = 9
    PEDESTRIAN = 10
    VEGETATION = 11


CLASSES = tuple(label.name.lower() for label in Label)

PALETTE = (
    (128, 180, 230), (110, 60, 60), (200, 200, 130), (110, 70, 130), (250, 250, 250), (230, 60, 220),
    (30, 110, 40), (240, 200, 0), (190, 140, 110), (20, 40, 160), (220, 30, 60), (140, 200, 60),
)  # fmt: skip

NEVER_LOST = (Label.LANE_MARKING, Label.FENCE, Label.POLE, Label.SIGN, Label.PEDESTRIAN)
"""Thin classes that win a pixel they share with another class, the last first; at other edges annotators leave void."""
