"""DNED, the deep neural edge detector (S-Flow GAN, section 3.2): edge maps to edge maps like those of photographs.

A modified HED: the weights of an ensemble of six side outputs at strides 1 to 32 choose one version of the map.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from models.layers import ConvReLU, chain, double, unshuffle

SIDES: Final = 6  # N in eq. 4
STRIDE: Final = 32  # divides the height and width of the input


class EdgeEnsemble(NamedTuple):
    """What :class:`DNED` returns, as logits."""

    fused: Tensor  # the weighted ensemble, (N, P, H, W)
    sides: list[Tensor]  # d_0..d_5, (N, P, H / 2**i, W / 2**i)


def enlarge_side(side: Tensor, index: int) -> Tensor:
    """d_i at full size, by ``index`` bilinear doublings."""
    for _ in range(index):
        side = double(side)
    return side


def fuse_sides(sides: Sequence[Tensor], weights: Tensor) -> Tensor:
    """The ensemble, the sum of ``weights[:, i] * d_i`` at full size; ``weights`` is ``(N, 6)``."""
    # Doubling is linear: coarse to fine gives the same map as enlarging each side, with a fraction of the work.
    w = weights.to(sides[0].dtype).view(len(weights), SIDES, 1, 1, 1).unbind(1)
    fused = w[SIDES - 1] * sides[SIDES - 1]
    for i in range(SIDES - 2, -1, -1):
        # `double` is faster on the two largest maps, `interpolate` on the others.
        larger = double(fused) if i < 2 else interpolate(fused, scale_factor=2, mode="bilinear", align_corners=False)
        fused = larger.to(fused.dtype) + w[i] * sides[i]  # CUDA's autocast enlarges in float32
    return fused


class DNED(nn.Module):
    """Six-sided edge network on P ``planes``; ``widths`` and ``depth`` as in a tier's ``edge_*``."""

    def __init__(self, planes: int, widths: Sequence[int], depth: int) -> None:
        super().__init__()
        fine = 8
        self.fine = ConvReLU(planes, fine)
        stages, c = [], 4 * planes
        for i, width in enumerate(widths):
            stages.append(chain(c, width, depth, stride=1 if i == 0 else 2))
            c = width
        self.stages = nn.ModuleList(stages)
        self.side = nn.ModuleList([nn.Conv2d(fine, planes, 3, padding=1), *(nn.Conv2d(k, planes, 1) for k in widths)])
        self.ensemble_logits = nn.Parameter(torch.zeros(SIDES))

    def learned_weights(self) -> Tensor:
        """The learned ensemble, float32 ``(6,)``, positive, sum 1."""
        return torch.softmax(self.ensemble_logits.float(), 0)

    def sides(self, edges: Tensor) -> list[Tensor]:
        """Logits d_0(x)..d_5(x) of eq. 4, at their own strides, of ``(N, P, H, W)`` in 0..1."""
        out = [self.side[0](self.fine(edges))]
        x = unshuffle(edges)
        for stage, side in zip(self.stages, list(self.side)[1:], strict=True):
            x = stage(x)
            out.append(side(x))
        return out

    def forward(self, edges: Tensor, weights: Tensor | None = None) -> EdgeEnsemble:
        """The ensemble with ``weights`` ``(N, 6)``, or with the learned ones."""
        sides = self.sides(edges)
        w = self.learned_weights().expand(len(edges), SIDES) if weights is None else weights
        return EdgeEnsemble(fuse_sides(sides, w), sides)
