"""The ground: sky above it, road, markings, pavements, grass, and the shadows that lie on them."""

from limbeck.datasets._scene_canvas import Look
from limbeck.datasets._scene_dice import Dice
from limbeck.datasets._scene_easel import Easel, disc
from limbeck.datasets._scene_labels import Label
from limbeck.datasets._scene_noise import CLOUD, COARSE, LEAF, SLAB
from limbeck.datasets._scene_street import FAR, Side, Street

__all__ = ["paint_ground", "paint_sky"]

NEAR = 0.7
ASPHALT = Look(COARSE, 0.09, far=1, ground=True)
GRASS = Look(LEAF, 0.17, far=1, ground=True)
PAINT = Look(COARSE, 0.12, far=1, ground=True)
GREENS = ((84, 108, 56), (98, 110, 62), (118, 116, 74), (66, 92, 50))


def paint_sky(easel: Easel) -> None:
    """The sky everywhere; what is painted later stands before it."""
    look = Look(CLOUD, easel.light.clouds, lit=True, far=1)
    easel.canvas.fill(((-9, -1), (9, -1), (9, 2), (-9, 2)), Label.SKY, easel.light.zenith, look)


def paint_ground(easel: Easel, street: Street) -> None:
    """Both sides of the street, the road between them, its markings, and shadows."""
    for side in street.sides:
        _roadside(easel, side, street)
    left, right = -street.left.edge, street.right.edge
    easel.strip(left, right, NEAR, FAR, Label.ROAD, street.asphalt, ASPHALT)
    _patches(easel, left, right, street)
    _markings(easel, street)
    for side in street.sides:
        _long_shadow(easel, side)


def _roadside(easel: Easel, side: Side, street: Street) -> None:
    dice, sign = easel.dice, side.sign
    paved = Look(SLAB if dice.chance(0.6) else COARSE, dice.between(0.05, 0.14), far=1, ground=True)
    outside = Label.PAVEMENT if side.kind == "city" else Label.VEGETATION
    look = paved if side.kind == "city" else GRASS
    green = dice.tint(dice.pick(GREENS), 0.15)
    colour = street.paving if side.kind == "city" else green
    easel.strip(sign * side.edge, sign * 150, NEAR, FAR, outside, colour, look)
    easel.strip(sign * side.edge, sign * side.pavement, NEAR, FAR, Label.PAVEMENT, street.paving, paved)
    if side.pavement - side.edge > 2.6 and dice.chance(0.3):
        verge = side.edge + dice.between(0.9, 1.4)
        easel.strip(sign * (side.edge + 0.2), sign * verge, NEAR, FAR, Label.VEGETATION, green, GRASS)
    if dice.chance(0.8):
        kerb = dice.tint((165, 162, 158), 0.2)
        easel.strip(sign * side.edge, sign * (side.edge + 0.18), NEAR, FAR, Label.PAVEMENT, kerb, paved)
    if side.kind != "park":
        _driveways(easel, side, street)


def _driveways(easel: Easel, side: Side, street: Street) -> None:
    """Asphalt that crosses the pavement and belongs to it: only its place tells it from the road."""
    for _ in range(easel.dice.whole(0, 2)):
        z = easel.dice.between(5, 40)
        ends = side.sign * (side.edge + 0.2), side.sign * side.line
        easel.strip(*ends, z, z + easel.dice.between(2.5, 5), Label.PAVEMENT, street.asphalt, ASPHALT)


def _patches(easel: Easel, left: float, right: float, street: Street) -> None:
    """Repairs, stains, drain covers."""
    dice = easel.dice
    for _ in range(dice.whole(0, 4)):
        x, z = dice.between(left, right), dice.between(3, 30)
        width, length = dice.between(0.4, 2.0), dice.between(0.5, 9.0)
        colour = dice.tint(street.asphalt, 0.25)
        easel.strip(max(x, left), min(x + width, right), z, z + length, Label.ROAD, colour, ASPHALT)
    for _ in range(dice.whole(0, 2)):
        x, z, size = dice.between(left + 1, right - 1), dice.between(4, 20), dice.between(0.5, 0.8)
        outline = [easel.view.point(a, 0, b) for a, b in disc(x, z, size, size)]
        easel.canvas.fill(outline, Label.ROAD, dice.tint((70, 68, 66), 0.2), ASPHALT)


def _markings(easel: Easel, street: Street) -> None:
    dice = easel.dice
    worn = dice.between(0.0, 0.75)
    white = tuple(c + (a - c) * worn for c, a in zip((235, 235, 230), street.asphalt, strict=True))
    yellow = (215, 180, 70)
    width = dice.between(0.1, 0.2)
    for x in street.lanes[1:-1]:
        solid = dice.chance(0.25)
        _line(easel, x, width, 90.0 if solid else dice.between(2, 4), dice.between(2, 6), white)
    for x in (street.lanes[0], street.lanes[-1]):
        style = dice.whole(0, 3)
        if style < 2:
            _line(easel, x, width, 90.0, 1.0, white if style or dice.chance(0.6) else yellow)
    if dice.chance(0.25):
        _crossing(easel, street, dice.between(6, 30), white)
    if dice.chance(0.15):
        _arrow(easel, dice, white)


def _line(easel: Easel, x: float, width: float, dash: float, gap: float, colour: tuple[float, ...]) -> None:
    z = easel.dice.between(1, 4)
    red, green, blue = colour
    while z < 60:
        easel.strip(x - width / 2, x + width / 2, z, z + dash, Label.LANE_MARKING, (red, green, blue), PAINT)
        z += dash + gap


def _crossing(easel: Easel, street: Street, z: float, colour: tuple[float, ...]) -> None:
    red, green, blue = colour
    x = -street.left.edge + 0.3
    while x < street.right.edge - 0.4:
        easel.strip(x, x + 0.5, z, z + 3, Label.LANE_MARKING, (red, green, blue), PAINT)
        x += 1.0


def _arrow(easel: Easel, dice: Dice, colour: tuple[float, ...]) -> None:
    red, green, blue = colour
    z = dice.between(5, 18)
    shape = ((-0.1, 0), (0.1, 0), (0.1, 2), (0.35, 2), (0, 3.2), (-0.35, 2), (-0.1, 2))
    outline = [easel.view.point(x, 0, z + dz) for x, dz in shape]
    easel.canvas.fill(outline, Label.LANE_MARKING, (red, green, blue), PAINT)


def _long_shadow(easel: Easel, side: Side) -> None:
    """Houses and trees between the sun and the street throw their shadow over it."""
    sun = easel.light.sun * side.sign
    if sun < 0.3 or side.kind == "park":
        return
    z, reach = easel.dice.between(0.7, 8), side.edge - easel.dice.between(0.0, 7.0)
    while z < 80:
        end = z + easel.dice.between(8, 25)
        easel.canvas.shadow(easel.band(side.sign * 60, side.sign * reach, z, end), 0.5 * sun)
        z = end + easel.dice.between(1, 6)
