"""Ties style seeds to light: an extension that makes the versions of a scene visibly different.

By eq. 7 alone all versions of an edge map share one target, and the generator learns to ignore the version. Here the
ensemble weights re-light the target; the learned weights (seed 0) mean the photograph's own light.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from models.style import AXES

# Largest changes down and up, as logarithms of the gain. A segmenter of photographs reads all of it as well as their
# own light, and bright and warm pictures better than dark and cold ones.
EXPOSURE, WARMTH, SATURATION = (0.14, 0.34), (0.05, 0.12), (0.3, 0.3)


LIGHT_AXES: Final = AXES[:3]
"""Of exposure, warmth and saturation, ``(3, 6)``."""


def relight(x: Tensor, offsets: Tensor, spread: float, axes: Tensor = LIGHT_AXES) -> Tensor:
    """Photographs in the light of their ensemble weights; both RGB ``(N, 3, H, W)`` in -1..1.

    Args:
        x: The photographs.
        offsets: See :func:`models.style.style_offsets`, ``(N, 6)``.
        spread: Standard deviation with which log weights are drawn.
        axes: :data:`LIGHT_AXES` on the device of ``offsets``.
    """
    with torch.autocast(x.device.type, enabled=False):  # in bf16 the light would be off by a fifth of a grey level
        exposure, warmth, saturation = torch.tanh(offsets @ axes.T / spread).T
    gain, warm = _gain(exposure, *EXPOSURE), _gain(warmth, *WARMTH)
    light = (x + 1) / 2 * torch.stack([gain * warm, gain, gain / warm], 1)[:, :, None, None]
    grey = light.mean(1, keepdim=True)
    vivid = grey + (light - grey) * _gain(saturation, *SATURATION)[:, None, None, None]
    return vivid.clamp(0, 1) * 2 - 1


def _gain(position: Tensor, down: float, up: float) -> Tensor:
    """Factor at a position in -1..1 of a range; 1 in its middle."""
    return torch.exp(torch.where(position > 0, up, down) * position)
