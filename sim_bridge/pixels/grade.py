"""A camera grade fitted on photographs: the cheapest rival of a network, and its control.

Mean and spread in Lab by class, blur, grain and vignette; nothing in it knows shapes or material.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

FEWEST: Final = 2000
"""Least pixels of a class; below it the statistics of all classes together are taken."""
SOFTEN: Final = 6.0
"""Blurs gains and offsets, so that classes have no seams: pixels at a height of 256."""
SIGMAS: Final = (0.0, 0.4, 0.5, 0.6, 0.8, 1.0, 1.3)
MEDIAN: Final = 5
GAINS: Final = ((0.5, 0.5, 0.5), (1.15, 2.0, 2.0))
"""Least and greatest in Lab. More contrast than this lifts faint texture to edges that the render does not have: on
CARLA 0.9.15, of which nothing was fitted, 22 % of the edges at a limit of 2, 7 % at 1.15."""

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Statistics:
    """Lab of a set of pictures by class, ``(classes, 3)`` each."""

    mean: Floats
    spread: Floats


@dataclass(frozen=True, slots=True)
class Grade:
    """What makes a render look like the photographs."""

    gain: Floats  # in Lab (classes, 3)
    offset: Floats
    blur: float  # sigma, pixels
    grain: float  # standard deviation, grey levels
    vignette: float  # share of light lost in the corners

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a small file."""
        return {
            "gain": self.gain.tolist(),
            "offset": self.offset.tolist(),
            "blur": self.blur,
            "grain": self.grain,
            "vignette": self.vignette,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Grade:
        """The inverse of :meth:`to_dict`. Raises ValueError when a value is missing, unknown or of another shape."""
        names = ("gain", "offset", "blur", "grain", "vignette")
        if set(values) != set(names):
            raise ValueError(f"a grade has {', '.join(names)}, got {', '.join(sorted(values)) or 'nothing'}")
        gain, offset = (np.asarray(values[name], np.float32) for name in names[:2])
        if gain.ndim != 2 or gain.shape[1] != 3 or gain.shape != offset.shape:
            raise ValueError(f"a grade's gain and offset are {gain.shape} and {offset.shape}, but must be (classes, 3)")
        return cls(gain, offset, *(float(values[name]) for name in names[2:]))

    def apply(self, rgb: Pixels, labels: Pixels, seed: int = 0, strength: float = 1.0) -> Pixels:
        """Grades RGB ``(H, W, 3)`` with ids ``(H, W)``; the seed is the grain's, strength 0 leaves the picture."""
        if strength == 0:
            return rgb
        sigma = SOFTEN * rgb.shape[0] / 256
        gain, offset = (cv2.GaussianBlur(table[labels], (0, 0), sigma) for table in (self.gain, self.offset))
        lab = cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) * gain + offset
        out = np.asarray(cv2.cvtColor(lab.astype(np.float32), cv2.COLOR_LAB2RGB) * 255, np.float32)
        if self.blur:
            out = np.asarray(cv2.GaussianBlur(out, (0, 0), self.blur), np.float32)
        out *= 1 - self.vignette * _corner(rgb.shape[0], rgb.shape[1])[..., None]
        noise = np.random.default_rng(seed).standard_normal(rgb.shape[:2], np.float32)
        out += self.grain * noise[..., None]
        return np.asarray((rgb + strength * (out - rgb)).round().clip(0, 255), np.uint8)


def fit(renders: Sequence[tuple[Pixels, Pixels]], photographs: Sequence[tuple[Pixels, Pixels]], classes: int) -> Grade:
    """The grade that brings renders to photographs, both pictures with their labels in the same classes.

    Raises ValueError when one of the sets is empty.
    """
    if not renders or not photographs:
        raise ValueError(f"got {len(renders)} renders and {len(photographs)} photographs: give one of each at least")
    ours, theirs = statistics(renders, classes), statistics(photographs, classes)
    gain = (theirs.spread / np.maximum(ours.spread, 1e-3)).clip(*GAINS).astype(np.float32)
    toned = Grade(gain, (theirs.mean - gain * ours.mean).astype(np.float32), 0.0, 0.0, 0.0)
    graded = [toned.apply(*pair) for pair in renders]
    real = [rgb for rgb, _ in photographs]
    wanted = detail(real)
    blur = min(SIGMAS, key=lambda s: abs(detail(graded, s) - wanted))
    blurred = [np.asarray(cv2.GaussianBlur(g, (0, 0), blur), np.uint8) if blur else g for g in graded]
    missing = noise_level(real) ** 2 - noise_level(blurred) ** 2
    return Grade(toned.gain, toned.offset, blur, max(0.0, missing) ** 0.5, corner_loss(real, graded))


def statistics(pictures: Sequence[tuple[Pixels, Pixels]], classes: int) -> Statistics:
    """Mean and spread in Lab by class; a class of few pixels has those of all together."""
    count, total, square = np.zeros(classes), np.zeros((classes, 3)), np.zeros((classes, 3))
    for rgb, labels in pictures:
        lab = cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2LAB).reshape(-1, 3).astype(np.float64)
        ids = labels.ravel()
        count += np.bincount(ids, minlength=classes)
        for k in range(3):
            total[:, k] += np.bincount(ids, lab[:, k], classes)
            square[:, k] += np.bincount(ids, lab[:, k] ** 2, classes)
    rare = count < FEWEST
    total[rare], square[rare], count[rare] = total.sum(0), square.sum(0), count.sum()
    mean = total / count[:, None]
    return Statistics(
        mean.astype(np.float32), np.sqrt(np.maximum(square / count[:, None] - mean**2, 0)).astype(np.float32)
    )


def detail(pictures: Sequence[Pixels], blur: float = 0.0) -> float:
    """Energy of the finest octave over that of the next two, of the grey pictures blurred first: sharpness."""
    shares = []
    for rgb in pictures:
        grey = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.float32)
        grey = np.asarray(cv2.GaussianBlur(grey, (0, 0), blur), np.float32) if blur else grey
        fine, coarse = cv2.GaussianBlur(grey, (0, 0), 1.0), cv2.GaussianBlur(grey, (0, 0), 4.0)
        shares.append(float(((grey - fine) ** 2).mean() / (((fine - coarse) ** 2).mean() + 1e-6)))
    return float(np.median(shares))


def noise_level(pictures: Sequence[Pixels]) -> float:
    """Grain in grey levels: the median over 16x16 blocks of the flatter half's residual after a median."""
    levels = []
    for rgb in pictures:
        grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
        residual = grey.astype(np.float32) - cv2.medianBlur(grey, MEDIAN)
        h, w = (side // 16 * 16 for side in grey.shape)
        blocks = residual[:h, :w].reshape(h // 16, 16, w // 16, 16).std((1, 3)).ravel()
        levels.append(float(np.median(np.sort(blocks)[: max(1, blocks.size // 2)])))
    return float(np.median(levels))


def corner_loss(photographs: Sequence[Pixels], graded: Sequence[Pixels]) -> float:
    """Share of light that photographs lose towards their corners and graded renders do not, 0 to 0.5."""
    lost = 1 - _corner_light(photographs) / max(1e-3, _corner_light(graded))
    return float(np.clip(lost, 0, 0.5))


def _corner_light(pictures: Sequence[Pixels]) -> float:
    """Light of the left and right eighths over that of the middle half, row by row: rows keep sky from road."""
    ratios = []
    for rgb in pictures:
        grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
        w = grey.shape[1]
        rows = np.concatenate([grey[:, : w // 8], grey[:, -(w // 8) :]], 1).mean(1), grey[:, w // 4 : -(w // 4)].mean(1)
        ratios.append(float(np.median(rows[0] / np.maximum(rows[1], 1))))
    return float(np.median(ratios))


def _corner(height: int, width: int) -> Floats:
    """Squared distance from the middle, 1 in the corners."""
    y, x = np.linspace(-1, 1, height, dtype=np.float32)[:, None], np.linspace(-1, 1, width, dtype=np.float32)
    return np.asarray((x * x + y * y) / 2, np.float32)
