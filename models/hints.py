"""Colour hints: what colour things have, coarsely, beside labels and edges (an extension of S-Flow GAN).

Labels and edges say that there is a car, not that it is red: the paper's generator paints every car as cars mostly are.
A hint is the mean colour of blocks of the picture, only of classes for which it is wanted. So vehicles keep their
paint, and what shall look as photographs do (roads, sky) is left to the generator.
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

STRIDE: Final = 8
"""Side of a block, pixels."""
CHANNELS: Final = 4
"""Red, green, blue, and the share of the block that they are the mean of."""


def colour_hints(rgb: Tensor, labels: Tensor, hinted: Tensor) -> Tensor:
    """Block means of a picture over the pixels of hinted classes.

    Args:
        rgb: ``(N, 3, H, W)`` in -1..1; H and W multiples of :data:`STRIDE`.
        labels: uint8 ``(N, H, W)`` class ids.
        hinted: bool ``(classes,)``, the classes that give hints.

    Returns:
        ``(N, 4, H / 8, W / 8)``: mean red, green, blue in -1..1 (0 where no pixel gives a hint), and the share of
        pixels that do, 0..1.
    """
    mask = hinted.to(rgb.dtype)[labels.int()][:, None]
    pooled = F.avg_pool2d(torch.cat([rgb * mask, mask], 1), STRIDE)
    share = pooled[:, 3:]
    return torch.cat([pooled[:, :3] / share.clamp_min(1 / STRIDE**2), share], 1)


def draw_variations(count: int, jitter: float, dropout: float, generator: torch.Generator) -> Tensor:
    """What :func:`vary_hints` does to a batch, float32 ``(N, 3)``: gains of brightness and saturation, 1 or 0 to keep.

    Args:
        count: N.
        jitter: Standard deviation of the gains' logarithms.
        dropout: Share of the samples that get no hints, so that the network can do without.
        generator: A CPU generator.
    """
    gains = torch.randn(count, 2, generator=generator).mul_(jitter).exp_()
    kept = torch.rand(count, 1, generator=generator) >= dropout
    return torch.cat([gains, kept.float()], 1)


def vary_hints(hints: Tensor, variations: Tensor) -> Tensor:
    """Hints as a render of the same scene could give them, for training on photographs.

    Args:
        hints: ``(N, 4, h, w)``.
        variations: ``(N, 3)``, see :func:`draw_variations`.

    Returns:
        The same shape.
    """
    brightness, saturation, kept = variations.to(hints)[:, :, None, None, None].unbind(1)
    light, share = (hints[:, :3] + 1) / 2, hints[:, 3:]
    grey = light.mean(1, keepdim=True)
    varied = ((grey + (light - grey) * saturation) * brightness).clamp(0, 1) * 2 - 1
    return torch.cat([torch.where(share > 0, varied, 0.0), share], 1) * kept
