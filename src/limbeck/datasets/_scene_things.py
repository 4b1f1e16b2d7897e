"""Which things stand where along the street."""

from functools import partial

from limbeck.datasets._scene_easel import Easel
from limbeck.datasets._scene_furniture import paint_bollards, paint_fence, paint_lamp, paint_sign, paint_traffic_light
from limbeck.datasets._scene_people import paint_people
from limbeck.datasets._scene_plants import paint_bush, paint_hedge, paint_tree
from limbeck.datasets._scene_street import Side, Street
from limbeck.datasets._scene_traffic import paint_car, paint_crossing_car

__all__ = ["all_things"]

Things = list[tuple[float, partial[None]]]
"""The distance of each thing and how to paint it."""


def all_things(easel: Easel, street: Street) -> Things:
    """Everything that stands on the ground, in no order."""
    things: Things = []
    for side in street.sides:
        things += _city_rail(easel, side) if side.kind == "city" else _hedges(easel, side) + _garden(easel, side)
        things += _avenue(easel, side) + _signs(easel, side) + _people(easel, side)
        if side.parking:
            things += _parked(easel, side)
    return things + _driving(easel, street) + _crossing(easel, street)


def _city_rail(easel: Easel, side: Side) -> Things:
    """Now and then a fence between road and pavement."""
    dice = easel.dice
    if not dice.chance(0.35):
        return []
    near = dice.between(3.5, 14)
    return [(near, partial(paint_fence, easel, side.sign * (side.edge + 0.3), near, near + dice.between(5, 18)))]


def _hedges(easel: Easel, side: Side) -> Things:
    """Hedges and fences between the pavement and what belongs to the houses."""
    dice, x = easel.dice, side.sign * (side.pavement + 0.2)
    things: Things = []
    z = dice.between(1.5, 6)
    while z < 60:
        end, kind = z + dice.between(4, 14), dice.roll()
        if kind < 0.35:
            things.append((z, partial(paint_hedge, easel, x, z, end, dice.between(0.7, 2.2))))
        elif kind < 0.75:
            things.append((z, partial(paint_fence, easel, x, z, end)))
        z = end
    return things


def _garden(easel: Easel, side: Side) -> Things:
    """Bushes and trees in gardens and parks."""
    dice, low, high = easel.dice, side.pavement + 0.8, side.line + 1.5
    things: Things = []
    for _ in range(dice.whole(1, 5)):
        z = dice.between(4, 45)
        things.append((z, partial(paint_bush, easel, side.sign * dice.between(low, high), z)))
    for _ in range(dice.whole(0, 4)):
        z = dice.between(5, 60)
        things.append((z, partial(paint_tree, easel, side.sign * dice.between(low, high + 2), z, False)))
    return things


def _avenue(easel: Easel, side: Side) -> Things:
    """Lamps and trees in a row at the kerb."""
    dice, kerb, width = easel.dice, side.edge + 0.6, side.pavement - side.edge
    things: Things = []
    if dice.chance(0.75):
        z, step = dice.between(4, 25), dice.between(14, 28)
        while z < 50:
            things.append((z, partial(paint_lamp, easel, side.sign * kerb, z, -side.sign)))
            z += step
    if width > 2 and dice.chance(0.45):
        z, step = dice.between(5, 16), dice.between(6, 14)
        while z < 70:
            things.append((z, partial(paint_tree, easel, side.sign * (kerb + 0.3), z, width < 3)))
            z += step * dice.between(0.8, 1.3)
    return things


def _signs(easel: Easel, side: Side) -> Things:
    dice = easel.dice
    things: Things = []
    for _ in range(dice.whole(0, 4)):
        paint = dice.pick((paint_sign, paint_sign, paint_sign, paint_traffic_light, paint_bollards))
        x, z = side.sign * (side.edge + dice.between(0.3, 1)), dice.between(4.5, 24)
        things.append((z, partial(paint, easel, x, z)))
    return things


def _people(easel: Easel, side: Side) -> Things:
    dice = easel.dice
    things: Things = []
    for _ in range(dice.whole(0, 5)):
        x, z = side.sign * dice.between(side.edge + 0.4, side.pavement), dice.between(3.5, 26)
        things.append((z, partial(paint_people, easel, x, z)))
    return things


def _parked(easel: Easel, side: Side) -> Things:
    dice = easel.dice
    things: Things = []
    z = dice.between(2.5, 12)
    while z < 70:
        if dice.chance(0.75):
            things.append((z, partial(paint_car, easel, side.sign * (side.edge - 1.05), z, dice.chance(0.7))))
        z += dice.between(5.2, 7)
    return things


def _driving(easel: Easel, street: Street) -> Things:
    """Cars in the lanes; those left of the camera come towards it."""
    dice = easel.dice
    things: Things = []
    for left, right in zip(street.lanes, street.lanes[1:], strict=False):
        z = dice.between(7, 40)
        while z < 90 and dice.chance(0.7):
            things.append((z, partial(paint_car, easel, (left + right) / 2 + dice.between(-0.3, 0.3), z, right > 0)))
            z += dice.between(7, 40)
    return things


def _crossing(easel: Easel, street: Street) -> Things:
    """People on the road, and a car that turns."""
    dice = easel.dice
    things: Things = []
    for _ in range(dice.pick((0, 0, 0, 1, 2))):
        x, z = dice.between(-street.left.edge, street.right.edge), dice.between(7, 25)
        things.append((z, partial(paint_people, easel, x, z)))
    if dice.chance(0.12):
        z = dice.between(9, 25)
        things.append((z, partial(paint_crossing_car, easel, dice.between(-4, 4), z)))
    return things
