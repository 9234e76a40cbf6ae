"""Colour hints: the mean colour of blocks of the render, beside labels and edges (an extension of S-Flow GAN).

Labels and edges say that there is a car, not that it is red. A network with ``keep_hues`` adds the hints' chroma to its
picture and learns the difference alone, so that hues which the photographs lack survive.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from models.layers import chroma_of, luma_of, to_device

STRIDE: Final = 8  # side of a block, pixels
CHANNELS: Final = 4  # red, green, blue, and the share of the block that they are the mean of
LIMIT_SHARE: Final = 0.995  # quantile of the blocks' chroma that is the limit: includes any car paint, excludes lamps
FEWEST: Final = 50  # a class of fewer blocks takes the limit of all classes together


def colour_hints(rgb: Tensor, labels: Tensor, hinted: Tensor, limits: Tensor | None = None) -> Tensor:
    """Block means ``(N, 4, H / 8, W / 8)`` of a picture over the pixels of hinted classes.

    Takes ``rgb`` ``(N, 3, H, W)`` in -1..1 and labels uint8 ``(N, H, W)``, H and W multiples of 8; ``hinted`` bool and
    ``limits`` of chroma, both ``(classes,)``. Channels are red, green, blue in -1..1 (0 without a hint) and the share
    of hinted pixels, 0..1.
    """
    ids, mask_of = labels.flatten().int(), hinted.to(rgb.dtype)
    mask = mask_of.index_select(0, ids).view_as(labels)[:, None]
    planes = [rgb.contiguous() * mask, mask]  # contiguous planes are fast to sum
    if limits is not None:
        planes.append((mask_of * limits.to(rgb.dtype)).index_select(0, ids).view_as(labels)[:, None])
    pooled = _block_means(torch.cat(planes, 1))
    share = pooled[:, 3:4]
    means = pooled / share.clamp_min(1 / STRIDE**2)
    colour = means[:, :3] if limits is None else _limit_chroma(means[:, :3], means[:, 4:])
    return torch.cat([colour, share], 1)


def _block_means(planes: Tensor) -> Tensor:
    """``(N, C, H, W)`` to ``(N, C, H / 8, W / 8)``; rows first, because they add up as vectors."""
    n, channels, height, width = planes.shape
    rows = planes.reshape(n, channels, height // STRIDE, STRIDE, width).sum(3)
    return rows.reshape(*rows.shape[:3], width // STRIDE, STRIDE).sum(4) / STRIDE**2


def _limit_chroma(rgb: Tensor, limits: Tensor) -> Tensor:
    """Bends the chroma of ``(N, 3, h, w)`` below ``limits`` ``(N, 1, h, w)``; luma and hue stay."""
    luma = luma_of(rgb)
    ratio = _chroma_length(rgb) / limits.clamp_min(1e-3)
    return luma + (rgb - luma) * torch.tanh(ratio) / ratio.clamp_min(1e-3)  # far below the limit, tanh(r) / r is 1


def _chroma_length(rgb: Tensor) -> Tensor:
    """Length of (Cb, Cr), ``(N, 1, h, w)``."""
    return torch.hypot(*chroma_of(rgb))


def chroma_limits(pictures: Iterable[tuple[Tensor, Tensor]], classes: int) -> Tensor:
    """Limits of chroma by class, float32 ``(classes,)``: 99.5 % of the photographs' blocks are below.

    Takes pairs of a picture uint8 ``(H, W, 3)`` and its labels uint8 ``(H, W)``. Chroma is the length of (Cb, Cr) for
    channels in -1..1.
    """
    found: list[list[Tensor]] = [[] for _ in range(classes)]
    for rgb, labels in pictures:
        chroma = _chroma_length(F.avg_pool2d(rgb.permute(2, 0, 1)[None].float() / 127.5 - 1, STRIDE)).flatten()
        blocks = labels[None, None].float()
        highest, lowest = F.max_pool2d(blocks, STRIDE), -F.max_pool2d(-blocks, STRIDE)
        of_one_class = torch.where(highest == lowest, highest, -1.0).flatten()
        for i in range(classes):
            found[i].append(chroma[of_one_class == i])
    by_class = [torch.cat(blocks) if blocks else torch.zeros(0) for blocks in found]
    whole = torch.cat(by_class)
    rare = _limit(whole) if len(whole) else 0.0
    return torch.tensor([_limit(chroma) if len(chroma) >= FEWEST else rare for chroma in by_class])


def _limit(chroma: Tensor) -> float:
    return float(chroma.sort().values[int(LIMIT_SHARE * (len(chroma) - 1))])


def hues_of(hints: Tensor, factor: int) -> Tensor:
    """Channels less luma of hints ``(N, 4, h, w)``, times their share, enlarged to ``(N, 3, factor h, factor w)``."""
    rgb, share = hints[:, :3], hints[:, 3:]
    chroma = ((rgb - luma_of(rgb)) * share).contiguous()
    return F.interpolate(chroma, scale_factor=factor, mode="bilinear", align_corners=False)


def draw_variations(count: int, jitter: float, dropout: float, generator: torch.Generator) -> Tensor:
    """Draws for :func:`vary_hints`, float32 ``(count, 3)``: gains of brightness and saturation, and 1 to keep or 0.

    The gains' logarithms have the standard deviation ``jitter``. A share of ``dropout`` samples gets no hints, so that
    the network can do without. ``generator`` is on the CPU.
    """
    gains = torch.randn(count, 2, generator=generator).mul_(jitter).exp_()
    kept = torch.rand(count, 1, generator=generator) >= dropout
    return torch.cat([gains, kept.float()], 1)


def vary_hints(hints: Tensor, variations: Tensor) -> Tensor:
    """Varies a photograph's hints ``(N, 4, h, w)`` as a render of the scene could, by ``variations`` ``(N, 3)``."""
    brightness, saturation, kept = to_device(variations, hints.device).to(hints.dtype)[:, :, None, None, None].unbind(1)
    light, share = (hints[:, :3] + 1) / 2, hints[:, 3:]
    grey = light.mean(1, keepdim=True)
    varied = ((grey + (light - grey) * saturation) * brightness).clamp(0, 1) * 2 - 1
    return torch.cat([torch.where(share > 0, varied, 0.0), share], 1) * kept
