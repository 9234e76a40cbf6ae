"""Ties style seeds to light: an extension that makes the versions of a scene visibly different.

By eq. 7 alone every version of an edge map has the same photograph as its target, and the generator learns to ignore
which version it sees. Here the photograph is re-lit by a fixed function of the ensemble weights its edge map was made
with. At run time a style seed draws weights, and with them exposure, warmth and saturation; the learned weights (seed
0) mean the photograph's own light.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Directions among the six sides' log weights, orthogonal to each other and to a common factor (a softmax drops it):
# fine against coarse, middle against both ends, finest against second finest.
_DIRECTIONS = torch.tensor(
    [[0.5, 0.5, 0.0, 0.0, -0.5, -0.5], [-0.5, -0.5, 1.0, 1.0, -0.5, -0.5], [1.0, -1.0, 0.0, 0.0, 0.0, 0.0]]
)
_DIRECTIONS = _DIRECTIONS / _DIRECTIONS.norm(dim=1, keepdim=True)

EXPOSURE, WARMTH, SATURATION = 0.16, 0.12, 0.35
"""Largest change, as a logarithm of the gain: inside what the judge was trained to see through."""


def relight(x: Tensor, offsets: Tensor, spread: float) -> Tensor:
    """Photographs in the light of their ensemble weights.

    Args:
        x: RGB ``(N, 3, H, W)`` in -1..1.
        offsets: Of the weights from the learned ones, ``(N, 6)``, see :func:`models.style.style_offsets`.
        spread: Standard deviation with which log weights are drawn.

    Returns:
        RGB ``(N, 3, H, W)`` in -1..1.
    """
    exposure, warmth, saturation = torch.tanh(offsets @ _DIRECTIONS.to(offsets).T / spread).T
    gain = torch.exp(EXPOSURE * exposure)
    tint = torch.stack([gain * torch.exp(WARMTH * warmth), gain, gain * torch.exp(-WARMTH * warmth)], 1)
    light = (x + 1) / 2 * tint[:, :, None, None]
    grey = light.mean(1, keepdim=True)
    vivid = grey + (light - grey) * torch.exp(SATURATION * saturation)[:, None, None, None]
    return vivid.clamp(0, 1) * 2 - 1
