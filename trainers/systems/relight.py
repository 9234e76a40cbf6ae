"""Ties style seeds to light: an extension that makes the versions of a scene visibly different.

By eq. 7 alone every version of an edge map has the same photograph as its target, and the generator learns to ignore
which version it sees. Here the photograph is re-lit by a fixed function of the ensemble weights its edge map was made
with. At run time a style seed draws weights, and with them exposure, warmth and saturation; the learned weights (seed
0) mean the photograph's own light.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.style import AXES

# Largest changes down and up, as logarithms of the gain: inside what a segmenter of photographs reads as well as the
# photograph's own light. It reads bright and warm pictures better than dark and cold ones, so the range is uneven.
EXPOSURE, WARMTH, SATURATION = (0.14, 0.34), (0.05, 0.12), (0.3, 0.3)


def relight(x: Tensor, offsets: Tensor, spread: float) -> Tensor:
    """Photographs in the light of their ensemble weights.

    Args:
        x: RGB ``(N, 3, H, W)`` in -1..1.
        offsets: Of the weights from the learned ones, ``(N, 6)``, see :func:`models.style.style_offsets`.
        spread: Standard deviation with which log weights are drawn.

    Returns:
        RGB ``(N, 3, H, W)`` in -1..1.
    """
    exposure, warmth, saturation = torch.tanh(offsets @ AXES[:3].to(offsets).T / spread).T
    gain, warm = _gain(exposure, *EXPOSURE), _gain(warmth, *WARMTH)
    light = (x + 1) / 2 * torch.stack([gain * warm, gain, gain / warm], 1)[:, :, None, None]
    grey = light.mean(1, keepdim=True)
    vivid = grey + (light - grey) * _gain(saturation, *SATURATION)[:, None, None, None]
    return vivid.clamp(0, 1) * 2 - 1


def _gain(position: Tensor, down: float, up: float) -> Tensor:
    """Factor at a position in -1..1 of a range; 1 in its middle."""
    return torch.exp(torch.where(position > 0, up, down) * position)
