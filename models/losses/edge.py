"""The losses of DNED, eq. 4."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from models.nets.dned import SIDES, enlarge_side


class EdgeLoss:
    """L_DNED, eq. 4: sum over i = 0..5 of a_i * BCE(d_i(x), E(x)), each the mean over the pixels at full size.

    Sides are logits; E(x) is ``(N, P, H, W)`` in 0..1.
    """

    def __init__(self, a: Sequence[float] = (1.0,) * SIDES) -> None:
        if len(a) != SIDES:
            raise ValueError(f"eq. 4 has {SIDES} constants a_i, got {len(a)}")
        self.a = tuple(a)

    def __call__(self, sides: Sequence[Tensor], target: Tensor) -> Tensor:
        terms = [a * by_pixel.mean() for a, by_pixel in zip(self.a, self.by_pixel(sides, target), strict=True)]
        return torch.stack(terms).sum()

    def by_pixel(self, sides: Sequence[Tensor], target: Tensor) -> Iterator[Tensor]:
        """BCE(d_i(x), E(x)), ``(N, P, H, W)``, side by side: all six at once are the largest maps of a step."""
        for i, side in enumerate(sides):
            yield F.binary_cross_entropy_with_logits(enlarge_side(side.float(), i), target, reduction="none")


class FusedEdgeLoss:
    """BCE by pixel of fused logits ``(N, P, H, W)`` and E(x).

    The ensemble's weights learn by it: eq. 4 gives them no gradient.
    """

    def __call__(self, fused: Tensor, target: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(fused.float(), target, reduction="none")
