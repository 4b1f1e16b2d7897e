"""People on foot, alone or in small groups."""

from limbeck.datasets._scene_canvas import Look
from limbeck.datasets._scene_dice import Colour
from limbeck.datasets._scene_easel import Easel, disc
from limbeck.datasets._scene_labels import Label

__all__ = ["paint_people"]

CLOTHES = (
    (40, 42, 48), (70, 70, 74), (120, 118, 114), (34, 48, 84), (90, 60, 46), (150, 40, 44), (200, 196, 188),
    (60, 84, 60), (170, 140, 90), (110, 60, 100), (210, 190, 60), (80, 110, 150),
)  # fmt: skip
SKIN = ((224, 180, 150), (190, 140, 110), (140, 98, 74), (88, 62, 50))
HAIR = ((40, 32, 28), (80, 58, 40), (150, 120, 70), (120, 118, 116))


def paint_people(easel: Easel, x: float, z: float) -> None:
    """One to three people beside each other."""
    for i in range(easel.dice.pick((1, 1, 1, 2, 2, 3))):
        easel.shadow(x + 0.55 * i - easel.light.sun * 0.5, z, 0.6 + abs(easel.light.sun), 0.5, 0.35)
        _person(easel, x + 0.55 * i, z)


def _person(easel: Easel, x: float, z: float) -> None:
    dice = easel.dice
    size = dice.between(1.55, 1.9) if dice.chance(0.85) else dice.between(1.0, 1.4)
    s = size / 1.75
    coat, legs = dice.tint(dice.pick(CLOTHES), 0.25), dice.tint(dice.pick(CLOTHES), 0.25)
    look = Look(grain=0.08, across=0.5 * easel.light.sun, down=-0.2)
    stride, swing = dice.between(0.0, 0.32), dice.between(0.0, 0.2)

    def board(outline: tuple[tuple[float, float], ...], colour: Colour) -> None:
        easel.board(x, z, [(dx * s, dy * s) for dx, dy in outline], Label.PEDESTRIAN, colour, look)

    board(((-0.02, 0.85), (0.13, 0.85), (0.09 + stride, 0), (-0.03 + stride, 0)), legs)
    board(((-0.13, 0.85), (0.02, 0.85), (0.03 - stride, 0), (-0.09 - stride, 0)), legs)
    hem = 0.6 if dice.chance(0.3) else 0.8
    board(((-0.2, hem), (0.2, hem), (0.23, 1.42), (0.1, 1.5), (-0.1, 1.5), (-0.23, 1.42)), coat)
    board(((-0.23, 1.42), (-0.16, 1.42), (-0.2 - swing, 0.8), (-0.28 - swing, 0.8)), coat)
    board(((0.23, 1.42), (0.16, 1.42), (0.2 + swing, 0.8), (0.28 + swing, 0.8)), coat)
    head = [(dx * s, dy * s) for dx, dy in disc(0, 1.63, 0.22, 0.27)]
    easel.board(x, z, head, Label.PEDESTRIAN, dice.tint(dice.pick(SKIN), 0.1), look)
    hair = ((-0.11, 1.65), (0.11, 1.65), (0.08, 1.76), (-0.08, 1.76))
    board(hair, dice.tint(dice.pick(HAIR), 0.2))
    if dice.chance(0.2):
        board(((0.2, 0.55), (0.42, 0.55), (0.4, 0.85), (0.22, 0.85)), dice.tint(dice.pick(CLOTHES), 0.2))
