"""Houses along the street: fronts that run into the distance, side walls, windows, shops and roofs."""

from limbeck.datasets._scene_canvas import Look
from limbeck.datasets._scene_dice import Colour
from limbeck.datasets._scene_easel import PLAIN, SMOOTH, Easel
from limbeck.datasets._scene_labels import Label
from limbeck.datasets._scene_noise import BRICK, COARSE
from limbeck.datasets._scene_street import Side

__all__ = ["paint_houses", "paint_skyline"]

WALLS = (
    (150, 145, 140), (175, 165, 148), (120, 75, 62), (142, 96, 78), (196, 188, 170), (110, 112, 118), (172, 142, 104),
    (128, 134, 128), (205, 204, 200), (92, 84, 80), (150, 160, 172), (186, 150, 132),
)  # fmt: skip
ROOFS = ((95, 80, 78), (125, 74, 60), (80, 84, 92), (70, 66, 64))
SHOPS = ((190, 40, 40), (30, 80, 160), (230, 180, 40), (40, 120, 70), (60, 60, 62), (225, 225, 225))


def paint_houses(easel: Easel, side: Side) -> None:
    """The houses of one side, the farthest first."""
    dice = easel.dice
    floors = dice.whole(2, 6) if side.kind == "city" else dice.whole(1, 2)
    lots, z = [], dice.between(1.2, 6)
    while z < 95:
        length = dice.between(7, 22) if side.kind == "city" else dice.between(8, 14)
        gap = dice.chance(0.15) * dice.between(6, 14) if side.kind == "city" else dice.between(2, 9)
        lots.append((z, z + length, max(1, floors + dice.whole(-1, 1)), gap > 0))
        z += length + gap
    for near, far, levels, _ in reversed(lots):
        _house(easel, side, near, far, levels)


def _house(easel: Easel, side: Side, near: float, far: float, levels: int) -> None:
    dice, x = easel.dice, side.sign * side.line
    storey = dice.between(2.7, 3.6)
    height = levels * storey + dice.between(0.2, 1.0)
    wall = dice.tint(dice.pick(WALLS), 0.15)
    texture = dice.pick((BRICK, COARSE, COARSE))
    look = Look(texture, dice.between(0.03, 0.12), down=dice.between(-0.25, 0.05))
    front, end = (_lit(wall, level) for level in (1 - 0.28 * easel.light.sun * side.sign, dice.between(0.7, 1.05)))
    deep = x + side.sign * dice.between(8, 14)
    pitched = side.kind == "suburb" or dice.chance(0.25)
    roof = dice.tint(dice.pick(ROOFS), 0.15)
    easel.face(((x, 0, near), (deep, 0, near), (deep, height, near), (x, height, near)), Label.BUILDING, end, look)
    if pitched:
        ridge, top = (x + deep) / 2, height + dice.between(1.8, 4)
        easel.face(((x, height, near), (deep, height, near), (ridge, top, near)), Label.BUILDING, end, look)
        easel.face(
            ((x, height, near), (x, height, far), (ridge, top, far), (ridge, top, near)), Label.BUILDING, roof, look
        )
    easel.face(((x, 0, near), (x, 0, far), (x, height, far), (x, height, near)), Label.BUILDING, front, look)
    glass = _glass(easel)
    _end_windows(easel, near, x, deep, levels, storey, glass)
    shop = side.kind == "city" and dice.chance(0.45)
    if shop:
        _shop(easel, x, near, far, storey)
    _windows(easel, x, near, far, (1 if shop else 0, levels), storey, glass)
    if not shop:
        door = dice.between(near, far - 1.2)
        colour = dice.tint(dice.pick(SHOPS), 0.3)
        easel.face(((x, 0, door), (x, 0, door + 1.1), (x, 2.1, door + 1.1), (x, 2.1, door)), Label.BUILDING, colour)


def _lit(colour: Colour, level: float) -> Colour:
    return colour[0] * level, colour[1] * level, colour[2] * level


def _glass(easel: Easel) -> Colour:
    """Dark, or the colour of the sky."""
    dark = easel.dice.tint((58, 64, 72), 0.3)
    sky, share = easel.light.horizon, easel.dice.between(0, 0.7) * easel.dice.roll()
    red, green, blue = (d + (s - d) * share for d, s in zip(dark, sky, strict=True))
    return red, green, blue


def _pane(easel: Easel, glass: Colour) -> tuple[Colour, Look]:
    if easel.light.lamps and easel.dice.chance(0.3):
        return easel.dice.tint((225, 190, 120), 0.2), Look(grain=0.03, lit=True)
    return easel.dice.tint(glass, 0.15), SMOOTH


def _windows(
    easel: Easel, x: float, near: float, far: float, levels: tuple[int, int], storey: float, glass: Colour
) -> None:
    """Windows of a front along the street; far away, whole rows of them."""
    dice = easel.dice
    step, share, tall = dice.between(1.8, 3.6), dice.between(0.35, 0.75), dice.between(0.4, 0.6)
    rows = near > 35 or dice.chance(0.12)
    for level in range(*levels):
        low, high = level * storey + 0.28 * storey, level * storey + (0.28 + tall) * storey
        z, width = (near + 0.5, far - near - 1) if rows else (near + step / 3, step * share)
        while z + width < far:
            colour, look = _pane(easel, glass)
            corners = ((x, low, z), (x, low, z + width), (x, high, z + width), (x, high, z))
            easel.face(corners, Label.BUILDING, colour, look)
            z += max(step, width)


def _end_windows(easel: Easel, z: float, x: float, deep: float, levels: int, storey: float, glass: Colour) -> None:
    """A few windows in the wall that faces the camera."""
    if z > 45 or easel.dice.chance(0.4):
        return
    for level in range(levels):
        for place in (0.25, 0.65):
            left = x + (deep - x) * place
            colour, look = _pane(easel, glass)
            low = level * storey + 0.9
            easel.box(left, z, -0.5, 0.5, low, low + 1.3, Label.BUILDING, colour, look)


def _shop(easel: Easel, x: float, near: float, far: float, storey: float) -> None:
    """Shop windows and a board above them, as bright as a traffic sign."""
    dice = easel.dice
    colour = dice.tint(dice.pick(SHOPS), 0.2)
    pane, look = _pane(easel, dice.tint((48, 52, 58), 0.4))
    low, high, top = 0.4, storey * 0.75, storey * dice.between(0.9, 1.05)
    easel.face(
        ((x, low, near + 0.4), (x, low, far - 0.4), (x, high, far - 0.4), (x, high, near + 0.4)),
        Label.BUILDING,
        pane,
        look,
    )
    easel.face(
        ((x, high, near + 0.2), (x, high, far - 0.2), (x, top, far - 0.2), (x, top, near + 0.2)),
        Label.BUILDING,
        colour,
        PLAIN,
    )


def paint_skyline(easel: Easel) -> None:
    """What is far away at the horizon: blocks, or nothing."""
    dice, z = easel.dice, 130.0
    x = -220.0
    while x < 220:
        width = dice.between(8, 40)
        if dice.chance(0.6):
            colour = dice.tint(dice.pick(WALLS), 0.15)
            easel.box(x - easel.view.bend * z * z, z, 0, width, -12, dice.between(4, 22), Label.BUILDING, colour, PLAIN)
        x += width
