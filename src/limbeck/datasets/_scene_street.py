"""The plan of a street: where road, pavement, gardens and houses are, seen from above."""

from dataclasses import dataclass

from limbeck.datasets._scene_dice import Colour, Dice

__all__ = ["Side", "Street", "any_street"]

FAR = 110.0


@dataclass(frozen=True, slots=True)
class Side:
    """One side of the street; distances in metres from the camera's own line, always positive.

    Attributes:
        sign: -1 for the left side, 1 for the right one.
        kind: "city" (houses at the pavement), "suburb" (houses behind gardens) or "park" (no houses).
        edge: Where the road ends.
        pavement: Where the pavement ends.
        line: Where houses, hedges or woods begin.
        parking: Cars are parked along this side.
    """

    sign: int
    kind: str
    edge: float
    pavement: float
    line: float
    parking: bool


@dataclass(frozen=True, slots=True)
class Street:
    """A street: its two sides, the lines between its lanes and what it is made of."""

    left: Side
    right: Side
    lanes: tuple[float, ...]
    lane_width: float
    asphalt: Colour
    paving: Colour

    @property
    def sides(self) -> tuple[Side, Side]:
        """Left and right."""
        return self.left, self.right


def any_street(dice: Dice) -> Street:
    """A street of one to four lanes between any two sides."""
    lane_width = dice.between(2.9, 3.7)
    lanes_left, lanes_right = dice.pick(((0, 0), (0, 0), (1, 0), (1, 0), (1, 0), (1, 0), (1, 1), (2, 0)))
    place = dice.between(-0.4, 0.4)
    left, right = (
        _side(dice, sign, lane_width * (n + 0.5) + sign * place) for sign, n in ((-1, lanes_left), (1, lanes_right))
    )
    edges = range(-lanes_left, lanes_right + 2)
    grey = dice.between(80, 150)
    return Street(
        left=left, right=right, lane_width=lane_width,
        lanes=tuple((i - 0.5) * lane_width + place for i in edges),
        asphalt=dice.tint((grey, grey, grey * 1.02), 0.08),
        paving=_paving(dice, grey),
    )  # fmt: skip


def _side(dice: Dice, sign: int, edge: float) -> Side:
    kind = dice.pick(("city", "city", "city", "suburb", "suburb", "park"))
    parking = dice.chance(0.45)
    edge += 2.1 if parking else 0.2
    pavement = edge + (dice.between(1.5, 5.5) if kind != "park" or dice.chance(0.6) else 0.3)
    garden = {"city": 0.0, "suburb": dice.between(3, 8), "park": dice.between(0.5, 7)}[kind]
    return Side(sign=sign, kind=kind, edge=edge, pavement=pavement, line=pavement + garden, parking=parking)


def _paving(dice: Dice, asphalt: float) -> Colour:
    """Half the pavements are as grey as the road."""
    if dice.chance(0.5):
        return dice.tint((asphalt, asphalt, asphalt), 0.15)
    return dice.tint(dice.pick(((150, 145, 138), (165, 150, 135), (140, 115, 105))), 0.15)
