"""Trees and bushes, leaf by leaf."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from plugins.toytown.town.mesh import MeshBuilder
from plugins.toytown.town.surfaces import Material, Mesh, Surface

BARK: Final = Surface("vegetation", Material.BARK, (0.09, 0.065, 0.045))
LEAVES: Final = Surface("vegetation", Material.FOLIAGE, (0.1, 0.2, 0.045))
LOBES: Final = 6


def tree(rng: np.random.Generator, height: float, radius: float, cards: int = 320) -> Mesh:
    """A broad-leaved tree; ``radius`` of its crown in metres, ``cards`` leaves."""
    builder = MeshBuilder()
    tint = [rng.uniform(0.8, 1.5), 1, rng.uniform(0.7, 1.2)]
    base = np.array([0.10, 0.20, 0.045]) * rng.uniform(0.75, 1.25) * tint
    trunk = 0.42 * height
    builder.tube((0, 0, 0), (0, 0, trunk), (0.16, 0.11), BARK, caps=False)
    for _ in range(3):
        a = rng.uniform(0, 2 * np.pi)
        tip = (np.cos(a) * radius * 0.5, np.sin(a) * radius * 0.5, trunk + 1.2)
        builder.tube((0, 0, trunk - 0.5), tip, (0.08, 0.04), BARK, sides=4, caps=False)
    spread = np.array([radius * 0.5, radius * 0.5, height * 0.17])
    middle = np.array([0, 0, trunk + height * 0.28])
    for direction in _directions(rng, LOBES):
        center, size = direction * spread + middle, radius * rng.uniform(0.45, 0.65)
        core = LEAVES._replace(color=tuple(base * 0.55))
        builder.ball(center, (size * 0.82, size * 0.82, size * 0.75), core, rng=rng, rough=0.15, grid=(6, 4))
        out = _directions(rng, cards // LOBES)
        shade = rng.uniform(0.65, 1.35, (len(out), 1)) * (0.75 + 0.35 * (out[:, 2:] + 1) / 2)
        at = center + out * size * rng.uniform(0.8, 1.08, (len(out), 1)) * [1, 1, 0.9]
        builder.cards(at, 0.26, rng, LEAVES, base * shade)
    return builder.mesh()


def bush(rng: np.random.Generator, length: float, width: float, height: float) -> Mesh:
    """A cut hedge."""
    builder = MeshBuilder()
    base = np.array([0.07, 0.16, 0.04]) * rng.uniform(0.8, 1.2)
    low, high = (-length / 2, -width / 2, 0), (length / 2, width / 2, height * 0.92)
    builder.box(low, high, LEAVES._replace(color=tuple(base * 0.6)), taper=(0.95, 0.9))
    count = int(60 * (length * height + length * width))
    at = rng.uniform(-0.5, 0.5, (count, 3)) * [length, width, 1]
    at[:, 2] = (at[:, 2] + 0.5) * height
    face = rng.integers(0, 3, count)
    at[face == 0, 1] = width / 2 * np.sign(at[face == 0, 1])
    at[face == 1, 2] = height
    at[face == 2, 0] = length / 2 * np.sign(at[face == 2, 0])
    builder.cards(at, 0.13, rng, LEAVES, base * rng.uniform(0.6, 1.5, (count, 1)))
    return builder.mesh()


def _directions(rng: np.random.Generator, count: int) -> npt.NDArray[Any]:
    vectors = rng.normal(size=(count, 3))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
