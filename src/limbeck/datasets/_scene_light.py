"""Time of day, weather and camera: what every surface of a scene has in common."""

from dataclasses import dataclass

from limbeck.datasets._scene_dice import Colour, Dice

__all__ = ["Light", "any_light"]


@dataclass(frozen=True, slots=True)
class Light:
    """The light of a scene and the camera that sees it.

    Attributes:
        zenith: Colour of the sky above.
        horizon: Colour of the sky at the horizon, and of whatever is far away.
        ambient: Factor on the colour of everything that does not shine.
        sun: Side that the sun is on, times its strength: -1 (left) to 1 (right).
        visibility: Distance in metres at which half of a colour is lost.
        clouds: Contrast of the clouds.
        lamps: The lamps are on.
        gain: Factor on the whole image.
        cast: Factor on each channel.
        contrast: 0 is linear, 1 a strong S-curve.
        vignette: Loss of brightness in the corners.
        glare: Brightness that the low sun adds around the horizon.
        noise: Size of the sensor's noise, in levels of 255.
        blur: Radius of the lens' blur, in pixels of an image 120 pixels high.
    """

    zenith: Colour
    horizon: Colour
    ambient: Colour
    sun: float
    visibility: float
    clouds: float
    lamps: bool
    gain: float
    cast: Colour
    contrast: float
    vignette: float
    glare: float
    noise: float
    blur: float


def any_light(dice: Dice) -> Light:
    """A sunny day, an overcast one, or dusk; seen by a good or a poor camera."""
    weather = dice.pick(("sun", "sun", "sun", "overcast", "overcast", "dusk"))
    zenith, horizon, ambient = _colours(dice, weather)
    sun = dice.pick((-1.0, 1.0)) * dice.between(0.5, 1.0) if weather == "sun" else dice.between(-0.25, 0.25)
    return Light(
        zenith=zenith, horizon=horizon, ambient=ambient, sun=sun,
        visibility=dice.between(80, 250) if dice.chance(0.25) else dice.between(250, 900),
        clouds=dice.between(0.02, 0.16), lamps=weather == "dusk",
        gain=dice.between(0.75, 1.2), cast=dice.tint((1.0, 1.0, 1.0), 0.12), contrast=dice.between(0.0, 0.9),
        vignette=dice.between(0.0, 0.5), glare=dice.between(0.1, 0.45) if dice.chance(0.12) else 0.0,
        noise=dice.between(1.5, 9 if weather == "dusk" else 6), blur=dice.between(0.0, 0.6),
    )  # fmt: skip


def _colours(dice: Dice, weather: str) -> tuple[Colour, Colour, Colour]:
    if weather == "sun":
        return dice.tint((95, 145, 215), 0.2), dice.tint((205, 215, 225), 0.1), dice.tint((1.05, 1.0, 0.94), 0.1)
    if weather == "overcast":
        return dice.tint((190, 195, 202), 0.2), dice.tint((215, 217, 218), 0.12), dice.tint((0.86, 0.88, 0.92), 0.12)
    glow = dice.pick(((225, 150, 100), (190, 140, 150), (150, 150, 175)))
    return dice.tint((70, 82, 125), 0.3), dice.tint(glow, 0.15), dice.tint((0.66, 0.6, 0.62), 0.2)
