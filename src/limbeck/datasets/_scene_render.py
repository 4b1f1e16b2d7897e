"""From a painted canvas to what a camera saw and what an annotator left."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from limbeck.data.sample import VOID
from limbeck.datasets._scene_canvas import Canvas
from limbeck.datasets._scene_easel import Easel
from limbeck.datasets._scene_labels import CLASSES, NEVER_LOST
from limbeck.datasets._scene_light import Light
from limbeck.datasets._scene_noise import COARSE, SIDE, tiles

__all__ = ["annotate", "photograph"]

REFERENCE = 240
"""Canvas rows at which one texel of a noise tile is one canvas pixel."""

TEXELS = 24.0
"""Texels per metre of the ground."""

Plane = NDArray[np.float32]
Texels = NDArray[np.int32]


def annotate(canvas: Canvas, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Labels [h, w]: thin things keep the pixels they touch, other edges are void now and then."""
    rank_of, label_of = _ranks()
    labels = np.array([part.label for part in canvas.parts], dtype=np.uint8)
    ranks = rank_of[labels][canvas.ids()]
    corners = [ranks[y::2, x::2] for y in (0, 1) for x in (0, 1)]
    highest = np.maximum.reduce(corners)
    edge = (highest != np.minimum.reduce(corners)) & (highest < rank_of[NEVER_LOST[0]])
    height, width = highest.shape
    row, column = (rng.integers(SIDE, size=2)).tolist()
    rough = (
        tiles()[COARSE].take(np.arange(row, row + height) % SIDE, 0).take(np.arange(column, column + width) % SIDE, 1)
    )
    target: NDArray[np.uint8] = label_of[np.where(edge & (rough > -0.25), rank_of[VOID], highest)]
    return target


def _ranks() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Labels in the order in which they win a shared pixel, there and back; void is just below the thin ones."""
    order = [label for label in range(len(CLASSES)) if label not in NEVER_LOST] + [VOID, *NEVER_LOST]
    label_of = np.array(order, dtype=np.uint8)
    rank_of = np.zeros(256, dtype=np.uint8)
    rank_of[label_of] = np.arange(len(order), dtype=np.uint8)
    return rank_of, label_of


def photograph(easel: Easel, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The image [h, w, 3]: surfaces under the scene's light, seen through lens and sensor."""
    light, canvas = easel.light, easel.canvas
    ids = canvas.ids()
    table = np.array(canvas.parts, dtype=np.float32)
    brightness = _brightness(easel, ids, table, rng)
    far = _halve(table[:, 9].take(ids)) * _haze(easel)
    planes = []
    for channel, horizon in enumerate(light.horizon):
        plane = _halve(table[:, 1 + channel].take(ids) * brightness)
        planes.append(plane + (np.float32(horizon) - plane) * far)
    image = np.stack(planes, axis=-1)
    return _sensor(_lens(_expose(image, easel), light, canvas.height / REFERENCE), light, rng)


def _brightness(easel: Easel, ids: NDArray[np.int32], table: Plane, rng: np.random.Generator) -> Plane:
    """Level, gradients, texture and shadow of every canvas pixel."""
    canvas = easel.canvas
    height, width = ids.shape
    v = ((np.arange(height, dtype=np.float32) + 0.5) / height)[:, None]
    u = (((np.arange(width, dtype=np.float32) + 0.5) - width / 2) / height)[None]
    texel = _texels(height, width, rng)
    first = int(max(easel.view.horizon, 0) * height)
    on_ground = table[:, 10].take(ids) > 0
    texel[first:] = np.where(on_ground[first:], _ground_texels(easel, u, v[first:]), texel[first:])
    texel += (table[:, 7].astype(np.int32) * (SIDE * SIDE)).take(ids)
    value = table[:, 4].take(ids) + table[:, 5].take(ids) * u + table[:, 6].take(ids) * v
    value += table[:, 8].take(ids) * tiles().ravel().take(texel)
    soft = canvas.shadows().filter(ImageFilter.BoxBlur(height / REFERENCE))
    value *= 1 - np.where(on_ground, np.asarray(soft), np.uint8(0)) * np.float32(1 / 255)
    result: Plane = np.maximum(value, np.float32(0.05))
    return result


def _texels(height: int, width: int, rng: np.random.Generator) -> Texels:
    """Index into a noise tile of every canvas pixel, for surfaces that stand upright."""
    row, column = rng.integers(SIDE, size=2).tolist()
    rows = (np.arange(height, dtype=np.int32) * REFERENCE // height + row) % SIDE
    columns = (np.arange(width, dtype=np.int32) * REFERENCE // height + column) % SIDE
    texels: Texels = rows[:, None] * SIDE + columns[None]
    return texels


def _ground_texels(easel: Easel, u: Plane, v: Plane) -> Texels:
    """The same for the ground, whose texture shrinks with distance."""
    view = easel.view
    z = np.float32(view.focal * view.height) / np.maximum(v - np.float32(view.horizon), np.float32(0.004))
    x = (u - np.float32(view.vanishing)) * (z / np.float32(view.focal)) - np.float32(view.bend) * z * z
    rows = (z * np.float32(TEXELS)).astype(np.int32) % SIDE
    columns = (x * np.float32(TEXELS)).astype(np.int32) % SIDE
    texels: Texels = rows * SIDE + columns
    return texels


def _haze(easel: Easel) -> Plane:
    """How much of the horizon's colour lies over sky and ground, row by row [h, 1]."""
    rows = easel.canvas.height // 2
    v = (np.arange(rows, dtype=np.float32) + 0.5) / rows - np.float32(easel.view.horizon)
    z = np.float32(easel.view.focal * easel.view.height) / np.maximum(v, np.float32(0.004))
    ground = z / (z + np.float32(easel.light.visibility))
    sky = np.maximum(1 + v / np.float32(easel.view.horizon), 0)
    return np.where(v > 0, ground, sky * sky)[:, None]


def _expose(image: Plane, easel: Easel) -> Plane:
    """Gain, cast, glare, vignette and contrast; the result is 0 to 1."""
    light, (height, width) = easel.light, image.shape[:2]
    v = ((np.arange(height, dtype=np.float32) + 0.5) / height - 0.5)[:, None]
    u = (((np.arange(width, dtype=np.float32) + 0.5) - width / 2) / height)[None]
    gain = np.array(light.cast, dtype=np.float32) * np.float32(light.gain / 255)
    image = image * gain * (1 - np.float32(light.vignette) * (u * u + v * v))[..., None]
    if light.glare:
        distance = (u - np.float32(light.sun / 2)) ** 2 + (v + np.float32(0.5 - easel.view.horizon)) ** 2
        image += (np.float32(light.glare) / (1 + 12 * distance))[..., None]
    image = np.clip(image, 0, 1)
    curved: Plane = image + np.float32(light.contrast) * image * (1 - image) * (image - np.float32(0.45))
    return curved


def _lens(image: Plane, light: Light, scale: float) -> Plane:
    picture = Image.fromarray((image * np.float32(255)).astype(np.uint8))
    blurred = picture.filter(ImageFilter.BoxBlur(light.blur * scale))
    return np.asarray(blurred, dtype=np.float32)


def _sensor(image: Plane, light: Light, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Noise of two bytes a channel (triangular), half of it common to all channels."""
    height, width = image.shape[:2]
    raw = rng.integers(256, size=(2, height, width, 4), dtype=np.uint8).astype(np.float32)
    noise = (raw[0] + raw[1]) * np.float32(1 / 255) - 1
    image = image + np.float32(light.noise) * (noise[..., :3] + noise[..., 3:])
    levels: NDArray[np.uint8] = np.clip(image + np.float32(0.5), 0, 255).astype(np.uint8)
    return levels


def _halve(plane: Plane) -> Plane:
    """Average of 2 x 2 pixels."""
    rows = plane[::2] + plane[1::2]
    halved: Plane = (rows[:, ::2] + rows[:, 1::2]) * np.float32(0.25)
    return halved
