"""The losses of DNED, eq. 4."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from models.nets.dned import SIDES, enlarge_side


class EdgeLoss:
    """L_DNED, eq. 4: sum of a_i * BCE(d_i(x), E(x)) over the six side outputs, each at full size.

    Args:
        a: The constants a_0..a_5.
    """

    def __init__(self, a: Sequence[float] = (1.0,) * SIDES) -> None:
        if len(a) != SIDES:
            raise ValueError(f"eq. 4 has {SIDES} constants a_i, got {len(a)}")
        self.a = tuple(a)

    def __call__(self, sides: Sequence[Tensor], target: Tensor) -> Tensor:
        """The mean over the pixels, of the side logits d_0..d_5 against E(x) ``(N, P, H, W)`` in 0..1."""
        terms = [a * by_pixel.mean() for a, by_pixel in zip(self.a, self.by_pixel(sides, target), strict=True)]
        return torch.stack(terms).sum()

    def by_pixel(self, sides: Sequence[Tensor], target: Tensor) -> Iterator[Tensor]:
        """BCE(d_i(x), E(x)), ``(N, P, H, W)``, side by side: all six at once are the largest maps of a step."""
        for i, side in enumerate(sides):
            yield F.binary_cross_entropy_with_logits(enlarge_side(side.float(), i), target, reduction="none")


class FusedEdgeLoss:
    """BCE of the ensemble itself, which trains the ensemble's weights; eq. 4 alone gives them no gradient."""

    def __call__(self, fused: Tensor, target: Tensor) -> Tensor:
        """The loss of the fused logits ``(N, P, H, W)`` against E(x), by pixel."""
        return F.binary_cross_entropy_with_logits(fused.float(), target, reduction="none")
