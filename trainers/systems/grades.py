"""Fits the grade of an enhancer's look: light and colour by class, without a network and without changing hues.

Chroma is scaled, never shifted by class: a shift that makes leaves less green makes the trunks beside them purple.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from models.layers import LUMA
from sim_bridge.frames import ByteArray

FITTED: Final = 96
"""Pictures of a set that are measured."""
FEWEST: Final = 4000
"""Least pixels of a class; below it the statistics of all classes together are taken."""
EVERY: Final = 2
"""Rows and columns that are measured."""
CONTRAST: Final = (0.85, 1.1)
"""Least and greatest gain of luma; more lifts faint texture to edges."""
COLOUR: Final = (0.7, 1.15)
COLOUR_HELD: Final = (0.85, 1.1)
"""Least and greatest gain of chroma; of classes whose colour means something."""
SHIFT: Final = 0.06
"""Largest shift of a class's mean light, in -1..1. Light is the scene's: 0.12 made sunlit leaves white."""
CAST: Final = 0.03
"""Largest shift of red, green or blue of the whole picture."""

Floats = npt.NDArray[np.float64]


class LabelledPicture(NamedTuple):
    """RGB ``(H, W, 3)`` and ids ``(H, W)``, uint8."""

    rgb: ByteArray
    labels: ByteArray


class Statistics(NamedTuple):
    """Of a set, by class, on the scale -1..1."""

    luma: Floats  # mean (classes,)
    spread: Floats  # standard deviation of luma (classes,)
    chroma: Floats  # root mean square of RGB less luma (classes,)
    cast: Floats  # mean RGB less luma (classes, 3)
    share: Floats  # of all pixels (classes,)


def statistics(sets: Sequence[Sequence[Any]], classes: int) -> Statistics:
    """Measures sets of pictures with ``rgb`` and ``labels``; every set counts alike."""
    count, total = np.zeros(classes), np.zeros((classes, 6))
    for pictures in sets:
        counts, sums = np.zeros(classes), np.zeros((classes, 6))
        for picture in pictures:
            one = _sums(picture.rgb[::EVERY, ::EVERY], picture.labels[::EVERY, ::EVERY].ravel(), classes)
            counts, sums = counts + one[0], sums + one[1]
        pixels = max(1.0, counts.sum())
        count, total = count + counts / pixels * 1e6, total + sums / pixels * 1e6
    rare = count < FEWEST
    share = count / max(1.0, count.sum())
    total[rare], count[rare] = total.sum(0), count.sum()
    mean = total / count[:, None]
    spread = np.sqrt(np.maximum(mean[:, 1] - mean[:, 0] ** 2, 0))
    return Statistics(mean[:, 0], spread, np.sqrt(mean[:, 2]), mean[:, 3:], share)


def _sums(rgb: ByteArray, ids: ByteArray, classes: int) -> tuple[Floats, Floats]:
    """Pixels by class, and sums of luma, its square, squared chroma, and RGB less luma."""
    colour = rgb.reshape(-1, 3).astype(np.float64) / 127.5 - 1
    luma = colour @ np.array(LUMA)
    less = colour - luma[:, None]
    values = (luma, luma**2, (less**2).mean(1), *less.T)
    return np.bincount(ids, minlength=classes).astype(float), np.stack(
        [np.bincount(ids, value, classes) for value in values], 1
    )


def fit_grades(renders: Statistics, photographs: Statistics, held: Sequence[bool]) -> npt.NDArray[np.float32]:
    """Gains of luma and chroma and offsets of RGB by class, ``(classes, 5)`` float32.

    Args:
        renders: Of the simulators.
        photographs: Of the look.
        held: Classes whose light follows the whole picture's, and whose colour is hardly touched: paint, lamps, signs.
    """
    kept = np.array(held)
    gain = (photographs.spread / np.maximum(renders.spread, 1e-3)).clip(*CONTRAST)
    vivid = (photographs.chroma / np.maximum(renders.chroma, 1e-3)).clip(*COLOUR)
    shift = (photographs.luma - renders.luma).clip(-SHIFT, SHIFT)
    weight = np.minimum(renders.share, photographs.share) * ~kept
    weight /= max(weight.sum(), 1e-6)
    gain = np.where(kept, (weight * gain).sum(), gain)
    shift = np.where(kept, (weight * shift).sum(), shift)
    vivid = np.where(kept, vivid.clip(*COLOUR_HELD), vivid)
    cast = (weight[:, None] * (photographs.cast - vivid[:, None] * renders.cast)).sum(0).clip(-CAST, CAST)
    cast -= cast @ np.array(LUMA)
    # A class's contrast turns about its own mean, so that the shift is what its mean moves by.
    offset = renders.luma * (1 - gain) + shift
    return np.concatenate([gain[:, None], vivid[:, None], offset[:, None] + cast], 1).astype(np.float32)
