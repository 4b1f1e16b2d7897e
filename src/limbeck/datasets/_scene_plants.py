"""Trees, bushes, hedges and woods: greens that only shape and place tell apart."""

from limbeck.datasets._scene_canvas import Look, Point
from limbeck.datasets._scene_dice import Colour, Dice
from limbeck.datasets._scene_easel import Easel, disc
from limbeck.datasets._scene_labels import Label
from limbeck.datasets._scene_noise import COARSE, LEAF, LEAF_FAR

__all__ = ["paint_bush", "paint_hedge", "paint_horizon", "paint_tree", "paint_woods"]

GREENS = ((66, 88, 42), (82, 104, 52), (58, 74, 46), (104, 116, 60), (74, 82, 48), (128, 112, 56), (120, 84, 44))
BARK = ((88, 76, 64), (104, 96, 86), (70, 62, 56), (124, 116, 104))


def _foliage(dice: Dice, z: float) -> Look:
    return Look(LEAF if z < 25 else LEAF_FAR, dice.between(0.22, 0.42), down=dice.between(-0.6, -0.1))


def _blob(dice: Dice, x: float, y: float, width: float, height: float) -> list[Point]:
    """A ragged round outline."""
    return [
        (x + (a - x) * r, y + (b - y) * r) for a, b in disc(x, y, width, height) for r in (dice.between(0.8, 1.15),)
    ]


def paint_tree(easel: Easel, x: float, z: float, small: bool) -> None:
    """A tree with leaves, a conifer, or a bare one whose crown shows what is behind it."""
    dice = easel.dice
    height = dice.between(2.5, 5) if small else dice.between(5, 12)
    crown = height * dice.between(0.45, 0.75)
    width = crown * dice.between(0.6, 1.1)
    middle = height - crown / 2
    sun = easel.light.sun
    easel.shadow(x - sun * height * 0.5, z, width * (1 + abs(sun)), width, 0.15 + 0.35 * abs(sun))
    thick = height * dice.between(0.018, 0.04)
    bark = dice.tint(dice.pick(BARK), 0.2)
    trunk = ((-thick, 0), (thick, 0), (thick * 0.6, middle), (-thick * 0.6, middle))
    easel.board(x, z, trunk, Label.TREE, bark, Look(COARSE, 0.12, across=0.5 * easel.light.sun))
    kind = dice.roll()
    if kind < 0.15:
        _twigs(easel, x, z, middle, crown, width, bark)
    elif kind < 0.28:
        _conifer(easel, x, z, height, width * 0.7)
    else:
        _crown(easel, x, z, middle, crown, width, dice.tint(dice.pick(GREENS), 0.2))


def _crown(easel: Easel, x: float, z: float, middle: float, crown: float, width: float, green: Colour) -> None:
    dice, look = easel.dice, _foliage(easel.dice, z)
    easel.board(x, z, _blob(dice, 0, middle, width, crown), Label.TREE, green, look)
    for _ in range(dice.whole(2, 5)):
        dx, dy = dice.between(-0.35, 0.35) * width, dice.between(-0.35, 0.4) * crown
        size = dice.between(0.3, 0.6)
        level = 1 + 0.35 * dy / crown + 0.5 * easel.light.sun * dx / width
        colour = dice.tint((green[0] * level, green[1] * level, green[2] * level), 0.1)
        easel.board(x, z, _blob(dice, dx, middle + dy, width * size, crown * size), Label.TREE, colour, look)


def _conifer(easel: Easel, x: float, z: float, height: float, width: float) -> None:
    dice, green = easel.dice, easel.dice.tint((48, 68, 48), 0.2)
    look = _foliage(dice, z)
    for step in range(4):
        low, half = height * (0.12 + 0.2 * step), width * (0.55 - 0.12 * step)
        outline = ((-half, low), (half, low * dice.between(0.95, 1.05)), (0, low + height * 0.34))
        easel.board(x, z, outline, Label.TREE, green, look)


def _twigs(easel: Easel, x: float, z: float, middle: float, crown: float, width: float, bark: Colour) -> None:
    dice, thin = easel.dice, crown * 0.012
    outline = _blob(dice, 0, middle, width, crown)
    easel.canvas.veil([easel.view.point(x + dx, dy, z) for dx, dy in outline], Label.TREE)
    foot = middle - crown * 0.45
    for _ in range(9):
        dx, dy = dice.between(-0.45, 0.45) * width, dice.between(0.0, 0.45) * crown
        start = foot + dice.between(0, 0.4) * crown
        branch = ((-thin, start), (thin, start), (dx, middle + dy))
        easel.board(x, z, branch, Label.TREE, bark, Look(COARSE, 0.08))


def paint_bush(easel: Easel, x: float, z: float) -> None:
    """One to three bushes side by side."""
    dice = easel.dice
    look = _foliage(dice, z)
    for _ in range(dice.whole(1, 3)):
        height, width = dice.between(0.5, 1.8), dice.between(0.8, 2.4)
        green = dice.tint(dice.pick(GREENS), 0.2)
        easel.board(x, z, _blob(dice, dice.between(-1, 1), height * 0.45, width, height), Label.VEGETATION, green, look)


def paint_hedge(easel: Easel, x: float, near: float, far: float, height: float) -> None:
    """A cut or a wild hedge along the street."""
    dice = easel.dice
    look = _foliage(dice, near)
    green = dice.tint(dice.pick(GREENS), 0.15)
    rough = dice.between(0.02, 0.3)
    steps = 7
    top = [(x, height * dice.between(1 - rough, 1 + rough), near + (far - near) * i / steps) for i in range(steps + 1)]
    easel.face([(x, 0, near), *top, (x, 0, far)], Label.VEGETATION, green, look)


def paint_woods(easel: Easel, x: float, near: float, far: float, height: float) -> None:
    """A wall of trees along the street or at the horizon, darker below."""
    dice = easel.dice
    steps = 9
    look = Look(LEAF, dice.between(0.25, 0.45), down=-0.8)
    top = [(x, height * dice.between(0.6, 1.2), near + (far - near) * (i / steps) ** 2) for i in range(steps + 1)]
    easel.face([(x, 0, near), *top, (x, 0, far)], Label.TREE, dice.tint(dice.pick(GREENS), 0.2), look)


def paint_horizon(easel: Easel) -> None:
    """Woods far away, before the sky."""
    dice, middle = easel.dice, easel.view.bend * 120 * 120
    for _ in range(dice.whole(1, 3)):
        x, width = dice.between(-120, 80) - middle, dice.between(20, 90)
        top = [(width * i / 8, dice.between(3, 9)) for i in range(9)]
        look = Look(LEAF_FAR, 0.2, down=-0.4)
        easel.board(x, 120, [(0, -8), *top, (width, -8)], Label.TREE, dice.tint(GREENS[0], 0.2), look)
