"""Colour hints: what colour things have, coarsely, beside labels and edges (an extension of S-Flow GAN).

Labels and edges say that there is a car, not that it is red: the paper's generator paints every car as cars mostly are.
A hint is the mean colour of blocks of the picture, only of classes for which it is wanted. So vehicles keep their
paint, and what shall look as photographs do is left to the generator.

A generator that learns colours from photographs of a few streets knows no others: what is green on the screen and
brown in all photographs turns brown. It can be spared learning them: the hints' chroma is added to its picture, so that
it learns the difference alone. Then hues are the simulator's, and their saturation is limited to the photographs'.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from models.layers import chroma_of, luma_of, to_device

STRIDE: Final = 8
"""Side of a block, pixels."""
CHANNELS: Final = 4
"""Red, green, blue, and the share of the block that they are the mean of."""
LIMIT_SHARE: Final = 0.995
"""Share of the photographs' blocks whose chroma is no larger than a class's limit: cars of any paint, and no lamp."""
FEWEST: Final = 50
"""A class of fewer blocks has the limit of all classes together."""


def colour_hints(rgb: Tensor, labels: Tensor, hinted: Tensor, limits: Tensor | None = None) -> Tensor:
    """Block means of a picture over the pixels of hinted classes.

    Args:
        rgb: ``(N, 3, H, W)`` in -1..1; H and W multiples of :data:`STRIDE`.
        labels: uint8 ``(N, H, W)`` class ids.
        hinted: bool ``(classes,)``, the classes that give hints.
        limits: Largest chroma of each class ``(classes,)``, see :func:`chroma_limits`, which hints come near and never
            reach; None for none.

    Returns:
        ``(N, 4, H / 8, W / 8)``: mean red, green, blue in -1..1 (0 where no pixel gives a hint), and the share of
        pixels that do, 0..1.
    """
    ids, mask_of = labels.flatten().int(), hinted.to(rgb.dtype)
    mask = mask_of.index_select(0, ids).view_as(labels)[:, None]
    planes = [rgb.contiguous() * mask, mask]  # contiguous: planes are what is multiplied and summed
    if limits is not None:
        planes.append((mask_of * limits.to(rgb.dtype)).index_select(0, ids).view_as(labels)[:, None])
    pooled = _block_means(torch.cat(planes, 1))
    share = pooled[:, 3:4]
    means = pooled / share.clamp_min(1 / STRIDE**2)
    colour = means[:, :3] if limits is None else _limit_chroma(means[:, :3], means[:, 4:])
    return torch.cat([colour, share], 1)


def _block_means(planes: Tensor) -> Tensor:
    """``(N, C, H, W)`` to ``(N, C, H / 8, W / 8)``; rows first, which are summed as vectors."""
    n, channels, height, width = planes.shape
    rows = planes.reshape(n, channels, height // STRIDE, STRIDE, width).sum(3)
    return rows.reshape(*rows.shape[:3], width // STRIDE, STRIDE).sum(4) / STRIDE**2


def _limit_chroma(rgb: Tensor, limits: Tensor) -> Tensor:
    """Colours ``(N, 3, h, w)`` of the same luma and hue, their chroma bent below ``(N, 1, h, w)``."""
    luma = luma_of(rgb)
    ratio = _chroma_length(rgb) / limits.clamp_min(1e-3)
    # tanh(r) / r: 1 for what is far below the limit.
    return luma + (rgb - luma) * torch.tanh(ratio) / ratio.clamp_min(1e-3)


def _chroma_length(rgb: Tensor) -> Tensor:
    """Length of (Cb, Cr), ``(N, 1, h, w)``."""
    return torch.hypot(*chroma_of(rgb))


def chroma_limits(pictures: Iterable[tuple[Tensor, Tensor]], classes: int) -> Tensor:
    """How colourful photographs are, class by class: what all blocks but the most colourful 0.5 % stay below.

    Args:
        pictures: uint8 ``(H, W, 3)`` and the labels uint8 ``(H, W)``, each.
        classes: How many classes there are.

    Returns:
        float32 ``(classes,)``, the length of (Cb, Cr) where red, green and blue are in -1..1.
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
    """What the hints ``(N, 4, h, w)`` say beside light, enlarged: differences of channels and luma, ``(N, 3, ...)``."""
    rgb, share = hints[:, :3], hints[:, 3:]
    chroma = ((rgb - luma_of(rgb)) * share).contiguous()
    return F.interpolate(chroma, scale_factor=factor, mode="bilinear", align_corners=False)


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
    brightness, saturation, kept = to_device(variations, hints.device).to(hints.dtype)[:, :, None, None, None].unbind(1)
    light, share = (hints[:, :3] + 1) / 2, hints[:, 3:]
    grey = light.mean(1, keepdim=True)
    varied = ((grey + (light - grey) * saturation) * brightness).clamp(0, 1) * 2 - 1
    return torch.cat([torch.where(share > 0, varied, 0.0), share], 1) * kept
