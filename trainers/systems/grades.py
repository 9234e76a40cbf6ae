"""Fits the grade of an enhancer's look: tone and detail by class, without a network and without changing hues.

Chroma is scaled, never shifted by class: a shift that makes leaves less green makes the trunks beside them purple.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch

from models.layers import LUMA
from models.nets.enhance import BANDS, LumaBands, pad_picture
from sim_bridge.frames import ByteArray
from sim_bridge.pixels.grade import noise_level

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

DETAIL: Final = ((0.9, 1.1), (0.85, 1.1), (0.8, 1.1), (0.9, 1.1))
"""Least and greatest gain of a band, finest first: lower middle ones look like haze, a higher fine one like noise."""
DETAIL_HELD: Final = 0.93
"""Least gain of a band of classes that are held."""
INNER: Final = 7
"""Pixels of one class around a pixel whose detail is measured: a border is no texture."""
NOISY: Final = 32
"""Pictures that grain is measured on."""

Floats = npt.NDArray[np.float64]


class LabelledPicture(NamedTuple):
    """RGB ``(H, W, 3)`` and ids ``(H, W)``, uint8."""

    rgb: ByteArray
    labels: ByteArray


class LookGrade(NamedTuple):
    """What :func:`fit_grade` finds: ``(classes, 9)`` float32 for the network, and missing grain in grey levels."""

    grades: npt.NDArray[np.float32]
    grain: float


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


def fit_grade(renders: Sequence[Sequence[Any]], photographs: Sequence[Any], held: Sequence[bool]) -> LookGrade:
    """Tone and detail of one look.

    Args:
        renders: Sets of pictures with ``rgb`` and ``labels``; every set counts alike.
        photographs: Of the look.
        held: Classes whose light follows the whole picture's, and whose colour and detail are hardly touched.
    """
    classes = len(held)
    tones = fit_tones(statistics(renders, classes), statistics([photographs], classes), held)
    ours, theirs = (share_of_bands(sets, classes, table) for sets, table in ((renders, tones), ([photographs], None)))
    bands = fit_bands(ours, theirs, held)
    real, shown = (
        noise_level([p.rgb for p in pictures[:: max(1, len(pictures) // NOISY)]])
        for pictures in (photographs, [p for pictures in renders for p in pictures])
    )
    return LookGrade(np.concatenate([tones, bands], 1), max(0.0, real**2 - shown**2) ** 0.5)


def share_of_bands(sets: Sequence[Sequence[Any]], classes: int, tones: npt.NDArray[np.float32] | None = None) -> Floats:
    """Size of each band of a class's luma, as a share of the whole picture's contrast, ``(classes, 4)``.

    Both are root mean squares. ``tones`` are applied first; a class of few pixels has the shares of all.
    """
    split, count, total, contrast = LumaBands(), np.zeros(classes), np.zeros((classes, BANDS)), 0.0
    for pictures in sets:
        for picture in pictures:
            light = _luma(picture, tones)
            with torch.inference_mode():
                found = split(pad_picture(torch.from_numpy(light)[None, None]))[
                    0, :, : light.shape[0], : light.shape[1]
                ]
            ids = picture.labels[inner := _inner(picture.labels)]
            weight = 1 / (len(pictures) * picture.labels.size)
            count += weight * np.bincount(ids, minlength=classes)
            total += weight * np.stack([np.bincount(ids, b.numpy()[inner] ** 2, classes) for b in found], 1)
            contrast += float(light.var()) / len(pictures)
    rare = count < FEWEST / 1e6 * len(sets)
    total[rare], count[rare] = total.sum(0), max(float(count.sum()), 1e-9)
    shares: Floats = np.sqrt(total / count[:, None] / max(contrast / len(sets), 1e-6))
    return shares


def _luma(picture: Any, tones: npt.NDArray[np.float32] | None) -> npt.NDArray[np.float32]:
    weights = np.array(LUMA, np.float32)
    luma: npt.NDArray[np.float32] = picture.rgb.astype(np.float32) @ weights / 127.5 - 1
    if tones is not None:
        luma = luma * tones[picture.labels, 0] + (tones[:, 2:] @ weights)[picture.labels]
    return luma


def _inner(labels: ByteArray) -> npt.NDArray[np.bool_]:
    around = np.ones((INNER, INNER), np.uint8)
    return np.asarray(cv2.erode(labels, around) == cv2.dilate(labels, around))


def fit_bands(renders: Floats, photographs: Floats, held: Sequence[bool]) -> npt.NDArray[np.float32]:
    """Logarithms of the bands' gains by class, ``(classes, 4)``, from both sets' :func:`share_of_bands`."""
    gains = (photographs / np.maximum(renders, 1e-6)).clip(*np.array(DETAIL).T)
    gains = np.where(np.array(held)[:, None], gains.clip(DETAIL_HELD, 1 / DETAIL_HELD), gains)
    return np.asarray(np.log(gains), np.float32)


def fit_tones(renders: Statistics, photographs: Statistics, held: Sequence[bool]) -> npt.NDArray[np.float32]:
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
