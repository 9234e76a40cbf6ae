"""Losses on the pictures themselves, beyond the paper; pictures are RGB ``(N, 3, H, W)`` in -1..1."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from models.layers import chroma_of


class Pixel:
    """L1 between pictures: a small share steadies short trainings."""

    def __call__(self, x: Tensor, fake: Tensor) -> Tensor:
        """Absolute difference, ``(N, 3, H, W)``."""
        return (x - fake).abs()


class Chroma:
    """L1 between Cb and Cr (BT.601, as in JPEG).

    Photographs have little fine colour, and D hardly minds it: without this, colour noise takes the place of texture.
    """

    def __call__(self, x: Tensor, fake: Tensor) -> Tensor:
        """Mean absolute difference of Cb and Cr, ``(N, 1, H, W)``."""
        blue, red = chroma_of((x - fake).float())
        return (blue.abs() + red.abs()) / 2


class Tone:
    """L1 between the means of blocks of 16x16 pixels.

    It holds colour and light where they belong without asking for any single pixel, which would blur.
    """

    def __call__(self, x: Tensor, fake: Tensor) -> Tensor:
        """Absolute difference of the block means, ``(N, 3, H / 16, W / 16)``."""
        return (F.avg_pool2d(x, 16) - F.avg_pool2d(fake, 16)).abs()
