"""Whether labels lie on their pictures: borders between classes are edges of the picture, most of them.

All is measured at about a quarter of the size. Labels beside the picture have their best place elsewhere; labels of
another tick lie better on the picture of that tick. Needs OpenCV (the ``engine`` extra).
"""

from __future__ import annotations

from collections import defaultdict, deque
from typing import Any, Final, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from sim_bridge.frames import ByteArray

REACH: Final = 16
"""Largest shift that is looked for, in pixels of the small picture."""
TICKS: Final = 3
"""Furthest tick that is looked at, before and after."""
_REDUCTIONS: Final = (4, 2, 1)
_LEAST_SIDE: Final = 40  # of the small picture; smaller ones say too little
_LEAST_BORDER: Final = 20  # pixels of it
_WINDOW: Final = 17  # edges count by how much they rise above this neighbourhood
_GRAIN: Final = 16.0  # edges weaker than this, in Scharr's units, are noise
_PEAK: Final = 0.15  # how far the best shift must rise above the typical one
_ELSEWHERE: Final = 0.65  # of that rise, what the place without a shift has at most, where labels lie elsewhere
_ELSEWHERE_AT_ONCE: Final = 0.45  # the same where there are few frames
_MANY: Final = 4
_SAME_SIGN: Final = 0.8  # share of the frames that must say the same

Plane = npt.NDArray[np.float32]


class Finding(NamedTuple):
    """Where the labels lie better: shifted by pixels to the right and down, or on a picture ``ticks`` later."""

    right: int = 0
    down: int = 0
    ticks: int = 0

    def __str__(self) -> str:
        if self.ticks:
            when = "before" if self.ticks < 0 else "after"
            frames = "frame" if abs(self.ticks) == 1 else "frames"
            return f"labels fit the picture of {abs(self.ticks)} {frames} {when} better than their own"
        ways = ((self.right, "right", "left"), (self.down, "down", "up"))
        parts = [f"{abs(by)} pixels {plus if by > 0 else minus}" for by, plus, minus in ways if by]
        return f"labels would fit their pictures better about {' and '.join(parts)}"


class Alignment:
    """Gathers what frames of one camera say."""

    def __init__(self) -> None:
        self.frames = self._searched = 0
        self._surface: Plane | None = None
        self._reduction = 1
        self._before: deque[tuple[Plane, Plane]] = deque(maxlen=TICKS)
        self._gains: defaultdict[int, list[tuple[float, float]]] = defaultdict(list)

    def add(self, rgb: ByteArray, ids: ByteArray, *, follows: bool, search: bool = True) -> None:
        """Looks at a frame, uint8 ``(H, W, 3)`` and ``(H, W)``.

        Args:
            rgb: The picture.
            ids: The labels.
            follows: Whether it is the tick after the last.
            search: Whether to look for shifts, too, which takes three quarters of the time.
        """
        small = _reduced(ids)
        if small is None:
            return
        edges, border = _edges(rgb, small), _border(ids, small)
        if not follows or (self._before and self._before[-1][0].shape != edges.shape):
            self._before.clear()
        if np.count_nonzero(border) < _LEAST_BORDER:
            self._before.clear()
            return
        if search:
            self._search(edges, border, round(ids.shape[1] / small[0]))
        self.frames += 1
        own = _overlap(edges, border)
        for ticks, (then_edges, then_border) in enumerate(reversed(self._before), start=1):
            self._gains[-ticks].append((_overlap(then_edges, border) - own, own))
            then = _overlap(then_edges, then_border)
            self._gains[ticks].append((_overlap(edges, then_border) - then, then))
        self._before.append((edges, border))

    def _search(self, edges: Plane, border: Plane, reduction: int) -> None:
        surface = _surface(edges, border)
        if self._surface is None or self._surface.shape != surface.shape:
            self._surface, self._searched = np.zeros_like(surface), 0
        self._surface += surface
        self._searched += 1
        self._reduction = reduction

    def finding(self) -> Finding | None:
        """Where the labels lie better; None where nothing says so."""
        (tick, there), (shift, beside) = self._other_tick(), self._shift()
        return tick if there > beside else shift

    def _other_tick(self) -> tuple[Finding | None, float]:
        """The tick whose picture the labels fit better, and how well; 0 where there is none."""
        best, most = None, _PEAK
        for ticks, gains in self._gains.items():
            gain = float(np.mean([gain for gain, _ in gains]))
            own = float(np.mean([own for _, own in gains]))
            agreed = np.mean([gain > 0 for gain, _ in gains]) >= _SAME_SIGN
            least = 0.03 if len(gains) >= 6 else 0.1 if len(gains) >= 2 else np.inf
            if agreed and gain > least * max(own, _PEAK) and own + gain > most:
                best, most = Finding(ticks=ticks), own + gain
        return best, most if best else 0.0

    def _shift(self) -> tuple[Finding | None, float]:
        """The shift by which the labels fit better, and how well."""
        if self._surface is None:
            return None, 0.0
        mean = self._surface / self._searched
        rise = mean - np.median(mean)
        down, right = (int(place) for place in np.unravel_index(rise.argmax(), rise.shape))
        middle = (rise.shape[0] // 2, rise.shape[1] // 2)
        elsewhere = _ELSEWHERE if self._searched >= _MANY else _ELSEWHERE_AT_ONCE
        if rise[down, right] < _PEAK or rise[middle] > elsewhere * rise[down, right]:
            return None, 0.0
        shift = Finding((right - middle[1]) * self._reduction, (down - middle[0]) * self._reduction)
        return shift, float(mean[down, right])


def _reduced(ids: ByteArray) -> tuple[int, int] | None:
    """Width and height of the small picture; None where it would be too small."""
    height, width = ids.shape
    for reduction in _REDUCTIONS:
        if min(height, width) // reduction >= _LEAST_SIDE:
            return width // reduction, height // reduction
    return None


def _edges(rgb: ByteArray, size: tuple[int, int]) -> Plane:
    """How much each pixel is an edge among its neighbours, float32 ``(H, W)`` of mean 0."""
    small = cv2.resize(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA)
    across, along = cv2.Scharr(small, cv2.CV_32F, 1, 0), cv2.Scharr(small, cv2.CV_32F, 0, 1)
    strength: Any = cv2.magnitude(across, along)
    edges = np.asarray(strength / (cv2.blur(strength, (_WINDOW, _WINDOW)) + _GRAIN), dtype=np.float32)
    return np.asarray(edges - edges.mean(), dtype=np.float32)


def _border(ids: ByteArray, size: tuple[int, int]) -> Plane:
    """1 on both sides of a border between classes, float32 ``(H, W)``."""
    small = cv2.resize(ids, size, interpolation=cv2.INTER_NEAREST_EXACT)
    border = np.zeros(small.shape, np.bool_)
    across, along = small[:, 1:] != small[:, :-1], small[1:] != small[:-1]
    border[:, 1:] |= across
    border[:, :-1] |= across
    border[1:] |= along
    border[:-1] |= along
    return border.astype(np.float32)


def _overlap(edges: Plane, border: Plane) -> float:
    """Mean edge on the border."""
    return float(np.vdot(edges, border)) / max(1, int(np.count_nonzero(border)))


def _surface(edges: Plane, border: Plane) -> Plane:
    """:func:`_overlap` of the middle of the border at every shift, float32, odd sides; no shift is in the middle."""
    rows, columns = (min(REACH, side // 4) for side in border.shape)
    middle = border[rows : border.shape[0] - rows, columns : border.shape[1] - columns]
    surface = np.asarray(cv2.matchTemplate(edges, np.ascontiguousarray(middle), cv2.TM_CCORR), dtype=np.float32)
    return np.asarray(surface / max(1, int(np.count_nonzero(middle))), dtype=np.float32)
