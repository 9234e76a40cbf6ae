"""Repeatable noise anchored in the world: textures, and random numbers for cells of a grid."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final

import cv2
import numpy as np

from plugins.toytown.town.surfaces import FloatArray

SIDE: Final = 512
"""Texels along a texture."""
_COLUMNS: Final = 16384
"""cv2.remap takes at most 32767 columns."""
_PRIMES: Final = (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D)
_MIX: Final = np.uint32(0x27D4EB2F)


class Noise(IntEnum):
    """The textures there are."""

    BROAD = 0
    MEDIUM = 1
    GRAIN = 2
    CLOUD = 3


_SPECTRUM: Final = {Noise.BROAD: 1.0, Noise.MEDIUM: 1.0, Noise.GRAIN: 0.6, Noise.CLOUD: 1.4}
"""Exponents of 1/f noise."""


class Textures:
    """Tileable noise, mean 0 and standard deviation 1; the same seed gives the same textures."""

    def __init__(self, seed: int) -> None:
        self._tiles = {noise: _fractal(beta, [seed, int(noise)]) for noise, beta in _SPECTRUM.items()}

    def at(self, noise: Noise, u: FloatArray, v: FloatArray, metres: float) -> FloatArray:
        """The noise at places ``(n,)`` of a plane, float32 ``(n,)``; all in metres, it repeats after ``metres``."""
        scale = np.float32(SIDE / metres)
        x, y = ((w * scale % SIDE).astype(np.float32) for w in (u, v))
        out = np.empty(len(x), np.float32)
        tile = self._tiles[noise]
        for start in range(0, len(x), _COLUMNS):
            part = slice(start, start + _COLUMNS)
            out[part] = cv2.remap(tile, x[None, part], y[None, part], cv2.INTER_LINEAR)[0]
        return out


def _fractal(beta: float, seed: list[int]) -> FloatArray:
    """Noise with the spectrum 1/f^beta, its first row and column repeated at the end for interpolation."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(SIDE), np.fft.fftfreq(SIDE)))
    frequency[0, 0] = 1
    noise = np.fft.ifft2(np.fft.fft2(rng.normal(size=(SIDE, SIDE))) / frequency**beta).real
    tile = ((noise - noise.mean()) / noise.std()).astype(np.float32)
    return np.asarray(cv2.copyMakeBorder(tile, 0, 1, 0, 1, cv2.BORDER_WRAP), np.float32)


def cell_noise(*cells: Any) -> FloatArray:
    """A number from 0 to 1 for each cell of a grid: the same cell, the same number. Integers or whole floats."""
    mixed = np.zeros(np.shape(cells[0]), np.uint32)
    for place, cell in enumerate(cells):
        number = np.asarray(cell).astype(np.int64).astype(np.uint32)
        mixed = (mixed ^ (number * np.uint32(_PRIMES[place % len(_PRIMES)]))) * _MIX
        mixed ^= mixed >> np.uint32(15)
    return np.asarray((mixed & np.uint32(0xFFFF)).astype(np.float32) / np.float32(65535))
