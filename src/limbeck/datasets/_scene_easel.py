"""From metres in the street to polygons on the canvas: the camera, the light and the distance of things."""

from collections.abc import Sequence
from dataclasses import dataclass

from limbeck.datasets._scene_canvas import Canvas, Look, Point
from limbeck.datasets._scene_dice import Colour, Dice
from limbeck.datasets._scene_light import Light

__all__ = ["PLAIN", "SMOOTH", "Easel", "View", "any_view", "disc"]

PLAIN = Look()
SMOOTH = Look(grain=0.02)

Point3 = tuple[float, float, float]

_TURN = ((1.0, 0.0), (0.87, 0.5), (0.5, 0.87), (0.0, 1.0), (-0.5, 0.87), (-0.87, 0.5))
_CIRCLE = _TURN + tuple((-x, -y) for x, y in _TURN)


def disc(x: float, y: float, width: float, height: float) -> list[Point]:
    """The outline of an ellipse around (x, y)."""
    return [(x + width / 2 * a, y + height / 2 * b) for a, b in _CIRCLE]


@dataclass(frozen=True, slots=True)
class View:
    """A pinhole camera above the road.

    Attributes:
        focal: Focal length in image heights.
        height: Of the camera over the road, in metres.
        horizon: Row of the horizon in image heights from the top.
        vanishing: Where the road ends, in image heights from the middle.
        bend: Curvature of the road: sideways shift in metres per squared metre.
        roll: Tilt of the camera to its side, as a slope.
    """

    focal: float
    height: float
    horizon: float
    vanishing: float
    bend: float
    roll: float

    def point(self, x: float, y: float, z: float) -> Point:
        """Where a point appears that is x to the right, y over the road and z ahead, in metres along the road."""
        scale = self.focal / z
        u = self.vanishing + scale * x + self.focal * self.bend * z
        v = self.horizon + scale * (self.height - y)
        return u - self.roll * (v - 0.5), v + self.roll * u


def any_view(dice: Dice) -> View:
    """A camera in a car or a van, on a straight or a winding road."""
    bend = dice.between(-0.0025, 0.0025) if dice.chance(0.5) else 0.0
    van = dice.chance(0.2)
    return View(
        focal=dice.between(0.75, 1.35), height=dice.between(1.9, 2.6) if van else dice.between(1.1, 1.7),
        horizon=dice.between(0.36, 0.56), vanishing=dice.between(-0.22, 0.22), bend=bend,
        roll=dice.between(-0.03, 0.03),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Easel:
    """Everything a painter of things needs at hand."""

    dice: Dice
    view: View
    light: Light
    canvas: Canvas

    def face(self, corners: Sequence[Point3], label: int, colour: Colour, look: Look = PLAIN) -> None:
        """Paint a polygon whose corners are (x, y, z) in metres."""
        depth = min(z for _, _, z in corners)
        outline = [self.view.point(x, y, z) for x, y, z in corners]
        self.canvas.fill(outline, label, self._seen(colour, depth, look), look)

    def board(
        self, x: float, z: float, outline: Sequence[Point], label: int, colour: Colour, look: Look = PLAIN
    ) -> None:
        """Paint a flat thing that stands at (x, z) and faces the camera; its outline is (sideways, up) in metres."""
        points = [self.view.point(x + dx, dy, z) for dx, dy in outline]
        self.canvas.fill(points, label, self._seen(colour, z, look), look)

    def box(
        self, x: float, z: float, left: float, right: float, low: float, high: float, label: int, colour: Colour,
        look: Look = PLAIN,
    ) -> None:  # fmt: skip
        """Paint an upright rectangle that faces the camera."""
        self.board(x, z, ((left, low), (right, low), (right, high), (left, high)), label, colour, look)

    def strip(self, left: float, right: float, near: float, far: float, label: int, colour: Colour, look: Look) -> None:
        """Paint a band of the ground that follows the road."""
        self.canvas.fill(self.band(left, right, near, far), label, self._ambient(colour), look)

    def band(self, left: float, right: float, near: float, far: float) -> list[Point]:
        """The outline of a band of the ground that follows the road."""
        steps = 1 if self.view.bend == 0 else 6 if far < 4 * near else 14
        ratio = (far / near) ** (1 / steps)
        zs = [near * ratio**i for i in range(steps + 1)]
        point = self.view.point
        return [point(left, 0, z) for z in zs] + [point(right, 0, z) for z in reversed(zs)]

    def shadow(self, x: float, z: float, width: float, length: float, strength: float) -> None:
        """Darken the ground around (x, z)."""
        point = self.view.point
        self.canvas.shadow([point(a, 0, max(b, 0.7)) for a, b in disc(x, z, width, length)], strength)

    def _ambient(self, colour: Colour) -> Colour:
        a = self.light.ambient
        return colour[0] * a[0], colour[1] * a[1], colour[2] * a[2]

    def _seen(self, colour: Colour, z: float, look: Look) -> Colour:
        red, green, blue = colour if look.lit else self._ambient(colour)
        far = self.light.horizon
        lost = z / (z + self.light.visibility)
        return red + (far[0] - red) * lost, green + (far[1] - green) * lost, blue + (far[2] - blue) * lost
