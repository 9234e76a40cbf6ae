"""Label images that are one class alone: a certain sign of labels that are none, where it lasts."""

from __future__ import annotations

from typing import Final

import numpy as np

from sim_bridge.frames import ByteArray

LONE_SHARE: Final = 0.999
"""Share of the pixels above which a class is alone."""


def lone_class(ids: ByteArray) -> int | None:
    """The id on more than 99.9 % of the pixels ``(H, W)``; None where there is none."""
    height, width = ids.shape
    # Any pixel has it, most likely: two that differ are a no for most images, and two strays cannot be met by chance.
    places = [(height // 2, width // 2), (height // 5, width // 3), (4 * height // 5, 2 * width // 3)]
    seen = [int(ids[place]) for place in places]
    candidate = max(seen, key=seen.count)
    if seen.count(candidate) < 2 or np.count_nonzero(ids == candidate) <= LONE_SHARE * ids.size:
        return None
    return candidate
