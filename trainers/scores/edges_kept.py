"""What a translation does to edges: which it invents, which of the render's it keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from sim_bridge.frames import ByteArray

WIDTH: Final = 960
SIGMA: Final = 1.2
THRESHOLDS: Final = (80, 160)  # of Canny
REACH: Final = 2  # pixels within which an edge has its counterpart


Mask = npt.NDArray[np.bool_]


class EdgesKept(NamedTuple):
    """Share of the output's edges that the render lacks; share of the render's that the output has; NaN of none."""

    invented: float
    kept: float


def edge_map(rgb: ByteArray) -> ByteArray:
    """Canny's edges of RGB uint8 ``(H, W, 3)`` at a width of :data:`WIDTH`: 0 or 255."""
    height = max(1, round(rgb.shape[0] * WIDTH / rgb.shape[1]))
    way = cv2.INTER_AREA if rgb.shape[1] > WIDTH else cv2.INTER_LINEAR
    grey = cv2.cvtColor(cv2.resize(rgb, (WIDTH, height), interpolation=way), cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.Canny(cv2.GaussianBlur(grey, (0, 0), SIGMA), *THRESHOLDS), np.uint8)


def edges_kept(outputs: Sequence[ByteArray], renders: Sequence[ByteArray]) -> EdgesKept:
    """Of pictures of the same sizes, all edges together."""
    pairs = [(edge_map(o) > 0, edge_map(r) > 0) for o, r in zip(outputs, renders, strict=True)]
    made, alone = _without(pairs)
    had, lost = _without([(r, o) for o, r in pairs])
    return EdgesKept(alone / made if made else float("nan"), 1 - lost / had if had else float("nan"))


def _without(pairs: Sequence[tuple[Mask, Mask]]) -> tuple[int, int]:
    """Edge pixels of the first maps, and how many of them have none of the second's within :data:`REACH`."""
    kernel = np.ones((2 * REACH + 1, 2 * REACH + 1), np.uint8)
    edges = alone = 0
    for first, second in pairs:
        near = cv2.dilate(second.astype(np.uint8), kernel) > 0
        edges += int(first.sum())
        alone += int((first & ~near).sum())
    return edges, alone
