"""Noise tiles that give surfaces their texture; made once per process, always the same."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from limbeck.datasets._scene_dice import generator

__all__ = ["BRICK", "CLOUD", "COARSE", "FINE", "LEAF", "LEAF_FAR", "SIDE", "SLAB", "tiles"]

SIDE = 512
FINE, COARSE, LEAF, LEAF_FAR, BRICK, CLOUD, SLAB = range(7)

Plane = NDArray[np.float32]


@cache
def tiles() -> Plane:
    """All tiles [7, 512, 512], zero mean, about -1 to 1, periodic in both directions."""
    rng = generator(20240229)
    fine = _octave(rng, 1, 1)
    blobs = [_octave(rng, cell, cell) for cell in (2, 4, 8, 16, 32, 64)]
    coarse = 0.3 * fine + 0.2 * blobs[1] + 0.6 * blobs[3] + 0.6 * blobs[4]
    leaf = 0.3 * fine + 0.6 * blobs[1] + 0.9 * _clip(2 * blobs[2]) + 0.3 * blobs[3]
    leaf_far = 0.5 * fine + 0.8 * _clip(2 * blobs[0]) + 0.5 * blobs[2]
    cloud = 0.8 * _octave(rng, 32, 64) + 0.4 * _octave(rng, 16, 32) + 0.2 * blobs[2] + 0.5 * _octave(rng, 64, 128)
    slab = 0.5 * fine + 0.4 * blobs[2] + 0.8 * _joints(rng, 16, 16)
    planes = [fine, coarse, leaf, leaf_far, 0.4 * fine + _joints(rng, 4, 8), cloud, slab]
    return np.stack([plane - plane.mean() for plane in planes]).astype(np.float32)


def _octave(rng: np.random.Generator, height: int, width: int) -> Plane:
    """Smooth noise with one random value per cell."""
    grid = rng.random((SIDE // height, SIDE // width), dtype=np.float32) * 2 - 1
    return _stretch(_stretch(grid, height).T, width).T


def _stretch(grid: Plane, factor: int) -> Plane:
    """Grow the first axis ``factor`` times, blending neighbours; the end meets the beginning."""
    step = np.arange(factor, dtype=np.float32) / np.float32(factor)
    t = (step * step * (3 - 2 * step))[None, :, None]
    grown: Plane = grid[:, None] * (1 - t) + np.roll(grid, -1, axis=0)[:, None] * t
    return grown.reshape(-1, grid.shape[1])


def _joints(rng: np.random.Generator, height: int, width: int) -> Plane:
    """Bricks or paving slabs: a shade for each, and dark joints; every second row is shifted by half."""
    shade = rng.random((SIDE // height, SIDE // width), dtype=np.float32) * 2 - 1
    wall = shade.repeat(height, axis=0).repeat(width, axis=1) * 0.5
    wall[:, ::width] = -1
    row = np.arange(SIDE) // height
    wall[row % 2 == 1] = np.roll(wall[row % 2 == 1], width // 2, axis=1)
    wall[::height] = -1
    return wall


def _clip(plane: Plane) -> Plane:
    return np.clip(plane, -1, 1)
