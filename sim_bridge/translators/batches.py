"""Batches of shots as arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sim_bridge.errors import TranslatorError
from sim_bridge.frames import ByteArray
from sim_bridge.translators import Shot


def stack(shots: Sequence[Shot]) -> tuple[ByteArray, ByteArray]:
    """RGB uint8 ``(B, H, W, 3)`` and labels uint8 ``(B, H, W)``; of one shot without a copy.

    Raises:
        TranslatorError: There is no shot, or their sizes differ.
    """
    if len(shots) == 1:
        return shots[0].rgb[None], shots[0].labels[None]
    sizes = sorted({f"{shot.rgb.shape[1]}x{shot.rgb.shape[0]}" for shot in shots})
    if len(sizes) != 1:
        raise TranslatorError(f"a batch has pictures of {', '.join(sizes) or 'no size'}: it must have one size")
    return np.stack([shot.rgb for shot in shots]), np.stack([shot.labels for shot in shots])
