"""Batches of shots as arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sim_bridge.errors import TranslatorError
from sim_bridge.frames import ByteArray
from sim_bridge.translators import Shot


def stack(shots: Sequence[Shot]) -> tuple[ByteArray, ByteArray]:
    """RGB uint8 ``(B, H, W, 3)`` and labels uint8 ``(B, H, W)``; of one shot without a copy.

    Raises TranslatorError when there is no shot, or their sizes differ.
    """
    if len(shots) == 1:
        return shots[0].rgb[None], shots[0].labels[None]
    sizes = sorted({f"{shot.rgb.shape[1]}x{shot.rgb.shape[0]}" for shot in shots})
    if len(sizes) != 1:
        raise TranslatorError(f"a batch has pictures of {', '.join(sizes) or 'no size'}: it must have one size")
    return np.stack([shot.rgb for shot in shots]), np.stack([shot.labels for shot in shots])


def stack_ids(shots: Sequence[Shot], classes: int, bundle: str) -> tuple[ByteArray, ByteArray]:
    """As :func:`stack`; ids must be below ``classes``.

    Raises TranslatorError when the shapes disagree, or an id is no class.
    """
    rgb, labels = stack(shots)
    if rgb.ndim != 4 or rgb.shape[3] != 3 or labels.shape != rgb.shape[:3]:
        raise TranslatorError(
            f"bundle {bundle} got pictures {rgb.shape} and labels {labels.shape}: it needs (B, H, W, 3) and (B, H, W)"
        )
    # An id beyond the embedding is undefined on a GPU, and there it takes the whole CUDA context with it.
    if (highest := int(labels.max(initial=0))) >= classes:
        raise TranslatorError(
            f"bundle {bundle} has {classes} classes, but a label has the id {highest}: map the labels with a LabelMap"
            " first"
        )
    return rgb, labels
