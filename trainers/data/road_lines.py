"""Finds road markings in photographs whose labels call them road; without the class, crosswalks come out hollow."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from sim_bridge.frames import ByteArray

WINDOW: Final = 61
"""Side of the box around a road pixel, pixels, at CamVid's 480x360."""
DEVIATIONS: Final = 1.5
LEAST_LEVELS: Final = 14.0
"""A marking is brighter than the box by both: standard deviations and grey levels."""
LEAST_PIXELS: Final = 12
"""Smaller bright pieces are stones and glints."""


def mark_road_lines(rgb: ByteArray, labels: ByteArray, road: int, line: int) -> ByteArray:
    """A copy of labels ``(H, W)`` in which the bright markings of the class ``road`` have the class ``line``."""
    is_road = labels == road
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    weight = is_road.astype(np.float32)
    count, total, squares = (
        np.asarray(cv2.boxFilter(values, -1, (WINDOW, WINDOW), normalize=False, borderType=cv2.BORDER_CONSTANT))
        for values in (weight, grey * weight, grey * grey * weight)
    )
    mean = total / np.maximum(count, 1)
    deviation = np.sqrt(np.maximum(squares / np.maximum(count, 1) - mean * mean, 0))
    bright = cv2.GaussianBlur(grey, (0, 0), 0.7) > mean + np.maximum(DEVIATIONS * deviation, LEAST_LEVELS)
    # Not at the road's border: pavements and cars are brighter than road and labels are not that exact.
    inside = cv2.erode(is_road.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    _, pieces, found, _ = cv2.connectedComponentsWithStats((bright & inside).astype(np.uint8), connectivity=8)
    large = np.asarray(found[:, cv2.CC_STAT_AREA] >= LEAST_PIXELS)
    large[0] = False
    return np.where(large[pieces], np.uint8(line), labels)
