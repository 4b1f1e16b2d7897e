"""Cars and vans from the front, the back and the side."""

from limbeck.datasets._scene_canvas import Look
from limbeck.datasets._scene_dice import Colour
from limbeck.datasets._scene_easel import SMOOTH, Easel, disc
from limbeck.datasets._scene_labels import Label

__all__ = ["paint_car", "paint_crossing_car"]

BODIES = (
    (44, 46, 50), (70, 72, 76), (112, 114, 116), (170, 172, 174), (222, 222, 220), (150, 30, 34), (36, 62, 120),
    (28, 34, 52), (90, 100, 84), (126, 108, 86), (60, 100, 140), (200, 160, 60),
)  # fmt: skip
GLASS = (40, 46, 54)
RUBBER = (26, 26, 28)


def paint_car(easel: Easel, x: float, z: float, ahead: bool) -> None:
    """A car at (x, z); ``ahead`` shows its back, otherwise it comes towards the camera."""
    dice = easel.dice
    easel.shadow(x - 0.4 * easel.light.sun, z + 2.0, 2.4, 5.4, 0.6)
    van = dice.chance(0.2)
    half, height = (0.95, dice.between(1.9, 2.7)) if van else (dice.between(0.8, 0.92), dice.between(1.35, 1.7))
    length, waist = dice.between(4.6, 6) if van else dice.between(3.6, 4.7), height * (0.5 if van else 0.58)
    body = dice.tint(dice.pick(BODIES), 0.15)
    roof = half * (0.95 if van else 0.74)
    _flank(easel, x, z, half, length, waist, height, roof, body, van)
    look = Look(grain=0.04, down=-0.35, across=0.2 * easel.light.sun)
    cabin = ((-half, waist * 0.95), (half, waist * 0.95), (roof, height), (-roof, height))
    easel.board(x, z, ((-half, 0.25), (half, 0.25), (half, waist), (-half, waist)), Label.CAR, body, look)
    easel.board(x, z, cabin, Label.CAR, body, look)
    glass = dice.tint(GLASS, 0.4)
    low = waist * 1.02
    top = height - 0.12 if not van else min(height - 0.3, waist + 0.7)
    easel.board(
        x, z, ((-half * 0.86, low), (half * 0.86, low), (roof * 0.9, top), (-roof * 0.9, top)), Label.CAR, glass, SMOOTH
    )
    if z < 40:
        _face(easel, x, z, half, waist, ahead)


def _face(easel: Easel, x: float, z: float, half: float, waist: float, ahead: bool) -> None:
    """Wheels, bumper, number plate and lights of the end that is seen."""
    dice = easel.dice
    for s in (-1, 1):
        easel.box(x + s * half * 0.82, z, -0.13, 0.13, 0, 0.38, Label.CAR, RUBBER, SMOOTH)
    easel.box(x, z, -half * 0.7, half * 0.7, 0.2, 0.36, Label.CAR, dice.tint((40, 40, 42), 0.3), SMOOTH)
    easel.box(x, z, -0.25, 0.25, 0.42, 0.54, Label.CAR, (215, 210, 190), SMOOTH)
    lit = easel.light.lamps or dice.chance(0.2)
    if ahead:
        lamp: Colour = (235, 40, 36) if lit else (140, 30, 30)
    else:
        lamp = (255, 250, 225) if lit else (190, 190, 185)
    for s in (-1, 1):
        low = waist * (0.62 if ahead else 0.55)
        easel.box(x + s * half * 0.78, z, -0.16, 0.16, low, low + 0.2, Label.CAR, lamp, Look(grain=0.0, lit=lit))


def _flank(
    easel: Easel, x: float, z: float, half: float, length: float, waist: float, height: float, roof: float,
    body: Colour, van: bool,
) -> None:  # fmt: skip
    """The long side that the camera sees, and the roof and the bonnet above it."""
    side = -1.0 if x > 0 else 1.0
    a, b = x + side * half, x + side * roof
    end = z + length
    shade = 1 - 0.3 * easel.light.sun * -side
    dark = (body[0] * shade * 0.85, body[1] * shade * 0.85, body[2] * shade * 0.85)
    back = end - (0.2 if van else 1.1)
    easel.face(((a, 0.3, z), (a, 0.3, end), (a, waist, end), (a, waist, z)), Label.CAR, dark, SMOOTH)
    easel.face(((a, waist, z), (a, waist, back), (b, height, back - 0.5), (b, height, z)), Label.CAR, dark, SMOOTH)
    glass = (GLASS[0] * shade, GLASS[1] * shade, GLASS[2] * shade)
    low, top = waist * 1.04, height - 0.1
    if not van:
        easel.face(
            ((a, low, z + 0.3), (a, low, back - 0.2), (b, top, back - 0.7), (b, top, z + 0.5)), Label.CAR, glass, SMOOTH
        )
    for wheel in (0.15, 0.7):
        w = z + length * wheel
        easel.face(((a, 0, w), (a, 0, w + 0.62), (a, 0.55, w + 0.62), (a, 0.55, w)), Label.CAR, RUBBER, SMOOTH)


def paint_crossing_car(easel: Easel, x: float, z: float) -> None:
    """A car seen from its side, crossing the street or turning."""
    dice = easel.dice
    easel.shadow(x, z + 0.6, 4.8, 1.8, 0.6)
    s = dice.pick((-1.0, 1.0))
    body = dice.tint(dice.pick(BODIES), 0.15)
    look = Look(grain=0.04, down=-0.3)

    def board(outline: tuple[tuple[float, float], ...], colour: Colour) -> None:
        easel.board(x, z, [(s * dx, dy) for dx, dy in outline], Label.CAR, colour, look)

    board(((-2.1, 0.3), (2.0, 0.3), (2.1, 0.6), (1.9, 0.82), (-2.0, 0.9), (-2.15, 0.6)), body)
    board(((-1.8, 0.85), (1.1, 0.82), (0.45, 1.42), (-1.3, 1.45)), body)
    board(((-1.5, 0.9), (0.85, 0.88), (0.35, 1.32), (-1.15, 1.35)), dice.tint(GLASS, 0.4))
    for wheel in (-1.3, 1.25):
        easel.board(x, z, disc(s * wheel, 0.32, 0.64, 0.64), Label.CAR, RUBBER, SMOOTH)
        easel.board(x, z, disc(s * wheel, 0.32, 0.34, 0.34), Label.CAR, (130, 130, 132), SMOOTH)
