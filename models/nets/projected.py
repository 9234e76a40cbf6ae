"""Projected discriminator: judges a picture by the features of a frozen network (Sauer et al. 2021)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from models.nets.discriminator import SLOPE, one_hot

DOWN: Final = (2, 1, 1, 0, 0)
"""Halvings in the heads."""
KEPT: Final = 0.5**0.5  # keeps the size of a sum of two maps


class ProjectedDiscriminator(nn.Module):
    """Five heads that see randomly mixed features (paper, 3.2), the labels of their cells, and a style by option.

    The mixing comes from the seed, is saved and never trains.

    Raises:
        ValueError: ``channels``, of the frozen network's maps, are not five.
    """

    scales: Tensor

    def __init__(
        self, channels: Sequence[int], classes: int, style: int = 0, mixed: int = 64, width: int = 96, seed: int = 0
    ) -> None:
        super().__init__()
        if len(channels) != len(DOWN):
            raise ValueError(f"the frozen network has {len(channels)} maps, but there are {len(DOWN)} heads")
        self.classes, self.style = classes, style
        generator = torch.Generator().manual_seed(seed)
        for i, count in enumerate(channels):
            self.register_buffer(f"channel_mix{i}", _he(mixed, count, 1, generator))
        for i in range(len(channels) - 1):
            self.register_buffer(f"scale_mix{i}", _he(mixed, mixed, 3, generator))
        self.register_buffer("scales", torch.ones(len(channels)))
        self.heads = nn.ModuleList(Head(mixed, classes + style, width, down) for down in DOWN)

    @torch.no_grad()
    def measure(self, features: Sequence[Tensor]) -> None:
        """From here on divides maps by the root mean squares of these, of photographs."""
        self.scales.copy_(torch.stack([f.float().pow(2).mean().sqrt() for f in features]))

    def forward(self, features: Sequence[Tensor], labels: Tensor, style: Tensor | None = None) -> list[Tensor]:
        """Scores ``(N, 1, h, w)``, fine to coarse, of maps at strides 2 to 32, ids ``(N, H, W)`` and ``(N, style)``."""
        mixed = self.mix(features)
        shares = _pooled(one_hot(labels, self.classes), mixed[0])
        out = []
        for head, x in zip(self.heads, mixed, strict=True):
            known = _pooled(shares, x)
            if self.style:
                assert style is not None, "this discriminator was built with a style"
                known = torch.cat([known, style[:, :, None, None].float().expand(-1, -1, *x.shape[-2:])], 1)
            out.append(head(x, known.to(x.dtype)))
        return out

    def mix(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Maps mixed across channels and, coarse to fine, across scales."""
        fine_to_coarse = [self._mixed(f, i) for i, f in enumerate(features)]
        x = fine_to_coarse[-1]
        out = [x]
        for i in range(len(features) - 2, -1, -1):
            fine = fine_to_coarse[i]
            x = F.interpolate(x, size=fine.shape[-2:], mode="bilinear", align_corners=False) + fine
            x = F.conv2d(x * KEPT, self.get_buffer(f"scale_mix{i}").to(x.dtype), padding=1)
            out.insert(0, x)
        return out

    def _mixed(self, feature: Tensor, i: int) -> Tensor:
        scale = self.scales[i].clamp_min(1e-6).to(feature.dtype)
        return F.conv2d(feature / scale, self.get_buffer(f"channel_mix{i}").to(feature.dtype))


class Head(nn.Module):
    """A small patch discriminator on one mixed map, every convolution with spectral norm."""

    def __init__(self, channels: int, known: int, width: int, down: int) -> None:
        super().__init__()
        self.know = nn.Conv2d(known, width, 1)
        sizes = [(4, 2)] * down + [(3, 1)]
        widths = [channels, *[width] * len(sizes)]
        self.layers = nn.ModuleList(
            spectral_norm(nn.Conv2d(widths[i], width, kernel, stride, 1)) for i, (kernel, stride) in enumerate(sizes)
        )
        self.score = spectral_norm(nn.Conv2d(width, 1, 3, 1, 1))

    def forward(self, x: Tensor, known: Tensor) -> Tensor:
        """Scores ``(N, C, h, w)``; ``known`` says of each cell what it shows."""
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if i == 0:
                x = x + self.know(_pooled(known, x))
            x = F.leaky_relu(x, SLOPE)
        out: Tensor = self.score(x)
        return out


def _pooled(planes: Tensor, like: Tensor) -> Tensor:
    h, w = like.shape[-2:]
    return F.adaptive_avg_pool2d(planes, (h, w))


def _he(c_out: int, c_in: int, kernel: int, generator: torch.Generator) -> Tensor:
    weights: Tensor = torch.randn(c_out, c_in, kernel, kernel, generator=generator)
    return weights / math.sqrt(c_in * kernel**2)
