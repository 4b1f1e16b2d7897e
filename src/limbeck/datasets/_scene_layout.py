"""A whole scene, painted from the sky forward to the own car's bonnet."""

from limbeck.data.sample import VOID
from limbeck.datasets._scene_buildings import paint_houses, paint_skyline
from limbeck.datasets._scene_canvas import Canvas, Look
from limbeck.datasets._scene_dice import Dice
from limbeck.datasets._scene_easel import Easel, any_view
from limbeck.datasets._scene_ground import paint_ground, paint_sky
from limbeck.datasets._scene_light import any_light
from limbeck.datasets._scene_plants import paint_horizon, paint_woods
from limbeck.datasets._scene_street import FAR, Side, any_street
from limbeck.datasets._scene_things import all_things

__all__ = ["paint_scene"]


def paint_scene(dice: Dice, size: tuple[int, int]) -> Easel:
    """Paint a street on a canvas of ``size``; the dice fall the same way at every size."""
    easel = Easel(dice, any_view(dice), any_light(dice), Canvas(size))
    street = any_street(dice)
    paint_sky(easel)
    paint_skyline(easel)
    if dice.chance(0.5):
        paint_horizon(easel)
    paint_ground(easel, street)
    for side in street.sides:
        _backdrop(easel, side)
    for _, paint in sorted(all_things(easel, street), key=lambda thing: -thing[0]):
        paint()
    if dice.chance(0.3):
        _bonnet(easel)
    return easel


def _backdrop(easel: Easel, side: Side) -> None:
    """Houses or woods behind everything else."""
    dice = easel.dice
    if side.kind == "park":
        if dice.chance(0.8):
            x = side.sign * (side.line + dice.between(2, 12))
            paint_woods(easel, x, dice.between(6, 25), FAR, dice.between(4, 10))
        return
    if side.kind == "suburb" and dice.chance(0.5):
        paint_woods(easel, side.sign * (side.line + 14), 8, FAR, dice.between(6, 11))
    paint_houses(easel, side)


def _bonnet(easel: Easel) -> None:
    """The own car's bonnet, which nobody labels."""
    dice = easel.dice
    middle, width, top = dice.between(-0.2, 0.2), dice.between(0.45, 0.75), dice.between(0.88, 0.96)
    arch = [(middle + width * a, top + (1.03 - top) * a * a) for a in (-1, -0.8, -0.5, -0.2, 0.2, 0.5, 0.8, 1)]
    outline = [(arch[0][0], 1.2), *arch, (arch[-1][0], 1.2)]
    colour = dice.tint(dice.pick(((40, 42, 46), (110, 112, 116), (180, 180, 180), (120, 40, 40))), 0.2)
    easel.canvas.fill(outline, VOID, colour, Look(grain=0.03, down=-0.5))
