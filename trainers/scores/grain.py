"""Noise and texture of pictures by class, against photographs; no network in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from sim_bridge.frames import ByteArray

MEDIAN: Final = 5
"""Side of the median whose residual is taken for noise, pixels."""
SIGMAS: Final = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Of the Gaussians between which octaves lie, pixels."""
FEWEST: Final = 500
"""Pixels of a class below which it is not measured."""


@dataclass(frozen=True, slots=True)
class Grain:
    """Noise level in grey levels, and power in octaves, fine to coarse, in grey levels squared."""

    noise: float
    power: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class GrainGap:
    """Mean distance of natural logarithms over the classes of both sides; 0 is equal, 0.69 a factor of two."""

    noise: float
    power: float


def noise_residual(rgb: ByteArray) -> npt.NDArray[np.float32]:
    """What a median takes away from the grey picture ``(H, W)``."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    return np.asarray(grey.astype(np.float32) - cv2.medianBlur(grey, MEDIAN))


def octaves(rgb: ByteArray) -> list[npt.NDArray[np.float32]]:
    """Band-passed grey pictures ``(H, W)``, fine to coarse: differences of Gaussians."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    blurred = [grey if s == 0 else cv2.GaussianBlur(grey, (0, 0), s) for s in SIGMAS]
    return [a - b for a, b in pairwise(blurred)]


def grain(
    pictures: Sequence[ByteArray], labels: Sequence[npt.NDArray[np.uint8]], classes: Sequence[str]
) -> dict[str, Grain]:
    """Noise and power of each class with at least :data:`FEWEST` pixels, by name."""
    counts = np.zeros(len(classes), np.int64)
    sums = np.zeros((2 + len(SIGMAS) - 1, len(classes)))
    for picture, ids in zip(pictures, labels, strict=True):
        residual = noise_residual(picture)
        planes = [residual, residual**2, *(band**2 for band in octaves(picture))]
        flat = ids.ravel()
        counts += np.bincount(flat, minlength=len(classes))
        sums += np.stack([np.bincount(flat, weights=p.ravel(), minlength=len(classes)) for p in planes])
    out = {}
    for i, name in enumerate(classes):
        if counts[i] >= FEWEST:
            mean, square, *power = (sums[:, i] / counts[i]).tolist()
            out[name] = Grain(max(0.0, square - mean**2) ** 0.5, tuple(power))
    return out


def grain_gap(ours: dict[str, Grain], photographs: dict[str, Grain]) -> GrainGap:
    """How far two sides are apart; NaN where they share no class. A level below 0.01 counts as 0.01."""
    shared = ours.keys() & photographs.keys()
    if not shared:
        return GrainGap(float("nan"), float("nan"))
    noise = [_apart([ours[n].noise], [photographs[n].noise]) for n in shared]
    return GrainGap(
        float(np.mean(noise)), float(np.mean([_apart(ours[n].power, photographs[n].power) for n in shared]))
    )


def _apart(a: Sequence[float], b: Sequence[float]) -> float:
    first, second = (np.log(np.maximum(np.asarray(side), 0.01)) for side in (a, b))
    return float(np.abs(first - second).mean())
