"""Whether a translation keeps the hue of what must be told by its colour, and the light of the scene."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Final, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from models.layers import LUMA
from sim_bridge.frames import ByteArray

SATURATED: Final = 25.0
"""Chroma in Lab above which a pixel has a hue."""
FEWEST: Final = 50
HUED: Final = ("road line", "traffic light", "traffic sign")


class Hue(NamedTuple):
    """Mean hue in degrees: of the render, of the output, and how far apart they are, 0 to 180."""

    render: float
    output: float
    error: float


def lab(rgb: ByteArray) -> npt.NDArray[np.float32]:
    """CIE Lab ``(H, W, 3)`` of RGB uint8."""
    return np.asarray(cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), np.float32)


def hues(
    outputs: Sequence[ByteArray], renders: Sequence[ByteArray], masks: Mapping[str, Sequence[npt.NDArray[np.bool_]]]
) -> dict[str, Hue]:
    """Circular mean hue of the pixels under each mask that are saturated in the render, weighted with chroma.

    Masks of fewer than :data:`FEWEST` such pixels are left out; an output without colour has NaN.
    """
    out = {}
    planes = [(lab(o)[..., 1:], lab(r)[..., 1:]) for o, r in zip(outputs, renders, strict=True)]
    for name, places in masks.items():
        pairs = [
            (o[chosen], r[chosen])
            for (o, r), place in zip(planes, places, strict=True)
            for chosen in [place & (np.hypot(r[..., 0], r[..., 1]) > SATURATED)]
        ]
        if sum(len(r) for _, r in pairs) >= FEWEST:
            output, render = (_mean_hue(np.concatenate(side)) for side in zip(*pairs, strict=True))
            out[name] = Hue(render, output, abs((output - render + 180) % 360 - 180))
    return out


def _mean_hue(ab: npt.NDArray[np.float32]) -> float:
    b, a = float(ab[:, 1].sum(dtype=np.float64)), float(ab[:, 0].sum(dtype=np.float64))
    return float(np.degrees(np.arctan2(b, a)) % 360) if np.hypot(a, b) > 0.5 * len(ab) else float("nan")


def light(pictures: Sequence[ByteArray]) -> float:
    """Mean luma, 0 to 255."""
    return float(np.mean([(p.reshape(-1, 3).mean(0, dtype=np.float64) * LUMA).sum() for p in pictures]))


class LightKept(NamedTuple):
    """Whether presets keep their order by luma, and the least share left of a distance between two of them."""

    in_order: bool
    least: float
    shares: dict[tuple[str, str], float]


def light_kept(outputs: Mapping[str, float], renders: Mapping[str, float], smallest: float = 3.0) -> LightKept:
    """Compares lumas of presets by name, where renders differ by ``smallest`` grey levels; ValueError if none does."""
    if outputs.keys() != renders.keys():
        raise ValueError(
            f"lights of {sorted(outputs)} and of {sorted(renders)} cannot be compared: give the same presets"
        )
    shares = {
        (a, b): (outputs[a] - outputs[b]) / (renders[a] - renders[b])
        for a, b in combinations(renders, 2)
        if abs(renders[a] - renders[b]) >= smallest
    }
    if not shares:
        raise ValueError(
            f"no two of {sorted(renders)} differ by {smallest:g} grey levels: give presets of other lights"
        )
    return LightKept(all(s > 0 for s in shares.values()), min(shares.values()), shares)
