"""What changes between consecutive frames along the flow, against the render sharpened as the translation is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from sim_bridge.frames import ByteArray

LOW: Final = 4.0
"""Sigma of the blur before the low-frequency part is taken, pixels."""
AMOUNTS: Final = (0.0, 8.0)
"""Of the unsharp mask that matches a render to a translation, least and most."""
HALVINGS: Final = 24

Flow = npt.NDArray[np.float32]
"""Pixels from this frame to the next ``(H, W, 2)``, x first; NaN where the next does not show the point."""
Labels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Clip:
    """Consecutive frames: pictures, class ids, and the flow from each but the last to the next."""

    pictures: Sequence[ByteArray]
    labels: Sequence[Labels]
    flows: Sequence[Flow]


@dataclass(frozen=True, slots=True)
class Flicker:
    """Ratios to the render's warping error: as it is, low frequencies alone, and of the sharpened render.

    ``gradient`` is the translation's gradient energy over the render's: blur alone lowers flicker.
    """

    whole: float
    low: float
    sharpened: float
    gradient: float

    @property
    def against_sharpened(self) -> float:
        """The translation's over the equally sharp render's."""
        return self.whole / self.sharpened


def warping_error(clip: Clip, blur: float = 0.0) -> float:
    """Mean |I_t(x) - I_t+1(x + f)| in grey levels over points that both frames show with one class; NaN of none."""
    total, count = 0.0, 0
    for i, flow in enumerate(clip.flows):
        first, second = (_blurred(clip.pictures[i + k], blur) for k in (0, 1))
        seen = visible(flow, clip.labels[i], clip.labels[i + 1])
        difference = np.abs(first - warped(second, flow)).mean(2)[seen]
        total += float(difference.sum(dtype=np.float64))
        count += difference.size
    return total / count if count else float("nan")


def warped(picture: npt.NDArray[np.float32], flow: Flow) -> npt.NDArray[np.float32]:
    """The next picture ``(H, W, C)`` fetched bilinearly at x + f; what has no flow is fetched from where it is."""
    h, w = flow.shape[:2]
    x = (np.arange(w, dtype=np.float32) + np.nan_to_num(flow[..., 0])).astype(np.float32)
    y = (np.arange(h, dtype=np.float32)[:, None] + np.nan_to_num(flow[..., 1])).astype(np.float32)
    return np.asarray(cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)


def visible(flow: Flow, labels: Labels, following: Labels) -> npt.NDArray[np.bool_]:
    """Where a flow ends inside the next frame, on the same class."""
    h, w = labels.shape
    known = np.isfinite(flow).all(2)
    x = np.rint(np.arange(w) + np.where(known, flow[..., 0], 0)).astype(np.int64)
    y = np.rint(np.arange(h)[:, None] + np.where(known, flow[..., 1], 0)).astype(np.int64)
    inside = known & (x >= 0) & (x < w) & (y >= 0) & (y < h)
    there = following[y.clip(0, h - 1), x.clip(0, w - 1)]
    return np.asarray(inside & (there == labels))


def flicker(translated: Sequence[ByteArray], render: Clip) -> Flicker:
    """Flicker of a translated clip; raises ValueError where the render itself does not change."""
    ours = Clip(translated, render.labels, render.flows)
    base, low = warping_error(render), warping_error(render, LOW)
    if not (base > 0 and low > 0):
        raise ValueError(f"the render's warping error is {base:g}: give frames that move, with their flow")
    sharp = Clip(sharpened_as(render.pictures, translated), render.labels, render.flows)
    return Flicker(
        whole=warping_error(ours) / base,
        low=warping_error(ours, LOW) / low,
        sharpened=warping_error(sharp) / base,
        gradient=_energy(translated) / _energy(render.pictures),
    )


def sharpened_as(pictures: Sequence[ByteArray], wanted: Sequence[ByteArray]) -> list[ByteArray]:
    """Pictures under an unsharp mask, or as they are, so that their gradient energy is that of the wanted ones."""
    target = _energy(wanted)
    least, most = AMOUNTS
    if _energy(pictures) >= target:
        return list(pictures)
    for _ in range(HALVINGS):
        middle = (least + most) / 2
        if _energy([_sharpened(p, middle) for p in pictures]) < target:
            least = middle
        else:
            most = middle
    return [_sharpened(p, most) for p in pictures]


def _sharpened(picture: ByteArray, amount: float) -> ByteArray:
    x = picture.astype(np.float32)
    return np.asarray((x + amount * (x - cv2.GaussianBlur(x, (0, 0), 1.0))).round().clip(0, 255), np.uint8)


def _energy(pictures: Sequence[ByteArray]) -> float:
    """Mean squared gradient of the grey pictures."""
    grey = [cv2.cvtColor(p, cv2.COLOR_RGB2GRAY).astype(np.float32) for p in pictures]
    return float(np.mean([(np.diff(g, axis=0) ** 2).mean() + (np.diff(g, axis=1) ** 2).mean() for g in grey]))


def _blurred(picture: ByteArray, sigma: float) -> npt.NDArray[np.float32]:
    x = picture.astype(np.float32)
    return np.asarray(cv2.GaussianBlur(x, (0, 0), sigma), np.float32) if sigma else x
