"""What stands on the pavement: lamps, posts, traffic signs and lights, fences."""

from limbeck.datasets._scene_canvas import Look
from limbeck.datasets._scene_dice import Colour
from limbeck.datasets._scene_easel import PLAIN, Easel, disc
from limbeck.datasets._scene_labels import Label
from limbeck.datasets._scene_noise import COARSE

__all__ = ["paint_bollards", "paint_fence", "paint_lamp", "paint_sign", "paint_traffic_light"]

METAL = ((120, 122, 124), (86, 88, 88), (60, 66, 62), (150, 150, 146), (100, 92, 80))
SIGNS = ((205, 36, 40), (205, 36, 40), (26, 78, 178), (238, 238, 238), (240, 190, 30), (30, 120, 76))


def _pole(easel: Easel, x: float, z: float, height: float, radius: float, colour: Colour) -> None:
    look = Look(COARSE, 0.06, across=0.6 * easel.light.sun)
    easel.box(x, z, -radius, radius, 0, height, Label.POLE, colour, look)


def paint_lamp(easel: Easel, x: float, z: float, inward: float) -> None:
    """A street lamp, or a wooden mast without one."""
    dice = easel.dice
    height, radius = dice.between(4.5, 9), dice.between(0.08, 0.15)
    colour = dice.tint(dice.pick(METAL), 0.2)
    _pole(easel, x, z, height, radius, colour)
    arm = inward * dice.between(0.5, 2)
    if dice.chance(0.8):
        easel.board(
            x, z, ((0, height), (arm, height + 0.2), (arm, height + 0.3), (0, height + 0.14)), Label.POLE, colour
        )
        head = dice.tint((250, 225, 170), 0.1) if easel.light.lamps else dice.tint((160, 160, 155), 0.2)
        look = Look(grain=0.02, lit=easel.light.lamps)
        easel.box(x + arm, z, -0.35, 0.35, height + 0.12, height + 0.34, Label.POLE, head, look)


def paint_bollards(easel: Easel, x: float, z: float) -> None:
    """A row of short posts at the kerb, the farthest first."""
    dice = easel.dice
    colour, step = dice.tint(dice.pick(METAL), 0.3), dice.between(1.2, 2.5)
    for i in reversed(range(dice.whole(1, 5))):
        _pole(easel, x, z + i * step, 0.9, 0.08, colour)


def paint_sign(easel: Easel, x: float, z: float) -> None:
    """One or two traffic signs on a post: discs, triangles, diamonds, boards."""
    dice = easel.dice
    foot, radius = dice.between(1.9, 2.5), dice.between(0.04, 0.07)
    _pole(easel, x, z, foot + 0.8, radius, dice.tint(dice.pick(METAL), 0.2))
    for i in range(dice.whole(1, 2)):
        _plate(easel, x, z, foot + 0.4 + 1.0 * i)
    if dice.chance(0.15):
        width = dice.between(1.2, 2.6)
        colour = dice.tint(dice.pick(SIGNS), 0.2)
        easel.box(x, z, -width / 2, width / 2, foot, foot + width * 0.6, Label.SIGN, colour)


def _plate(easel: Easel, x: float, z: float, y: float) -> None:
    dice, size = easel.dice, easel.dice.between(0.75, 1.15)
    colour = dice.tint(dice.pick(SIGNS), 0.2)
    inner = dice.tint(dice.pick(((235, 235, 235), (40, 40, 44), (30, 70, 160))), 0.1)
    if dice.chance(0.15):  # the back of a sign
        colour = inner = dice.tint((140, 142, 142), 0.2)
    shape = dice.whole(0, 3)
    half = size / 2
    for scale, paint in ((1.0, colour), (0.62, inner)):
        r = half * scale
        outline = (
            disc(0, y, 2 * r, 2 * r),
            [(-r, y - r * 0.8), (r, y - r * 0.8), (0, y + r * 0.9)],
            [(-r, y - r), (r, y - r), (r, y + r), (-r, y + r)],
            [(-r, y), (0, y - r), (r, y), (0, y + r)],
        )[shape]
        easel.board(x, z, outline, Label.SIGN, paint)


def paint_traffic_light(easel: Easel, x: float, z: float) -> None:
    """A traffic light on its post; the light counts as a sign."""
    dice = easel.dice
    foot = dice.between(2.2, 3)
    _pole(easel, x, z, foot + 0.2, 0.07, dice.tint(dice.pick(METAL), 0.2))
    easel.box(x, z, -0.2, 0.2, foot, foot + 0.95, Label.SIGN, dice.tint((36, 38, 38), 0.3))
    on = dice.whole(0, 2)
    for i, colour in enumerate(((60, 220, 140), (245, 190, 60), (240, 60, 50))):
        dim = (colour[0] * 0.2, colour[1] * 0.2, colour[2] * 0.2)
        lamp = disc(0, foot + 0.2 + 0.28 * i, 0.24, 0.24)
        easel.board(x, z, lamp, Label.SIGN, colour if i == on else dim, Look(grain=0.0, lit=i == on))


def paint_fence(easel: Easel, x: float, near: float, far: float) -> None:
    """A closed fence, a rail on posts, or bars that show what is behind them and still are a fence."""
    dice = easel.dice
    height, kind = dice.between(0.9, 2.0), dice.roll()
    colour = dice.tint(dice.pick((*METAL, (130, 104, 76), (205, 203, 198))), 0.2)

    def panel(low: float, high: float, start: float, end: float) -> None:
        easel.face(((x, low, start), (x, low, end), (x, high, end), (x, high, start)), Label.FENCE, colour, PLAIN)

    if kind < 0.45:
        panel(0, height, near, far)
        colour = (colour[0] * 0.75, colour[1] * 0.75, colour[2] * 0.75)
        step, bars = 1.5, (0.05, height * 0.97)
    else:
        easel.canvas.veil(
            [easel.view.point(x, y, z) for y, z in ((0, near), (0, far), (height, far), (height, near))], Label.FENCE
        )
        panel(height * 0.9, height, near, far)
        panel(height * 0.1, height * 0.18, near, far)
        step, bars = dice.between(0.25, 1.2), (0.0, height)
    z = far
    while z > near:
        panel(*bars, z - step * 0.2, z)
        z -= max(step, z * 0.03)
