"""Losses on the pictures themselves, beyond the paper; pictures are RGB ``(N, 3, H, W)`` in -1..1."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from models.layers import chroma_of


class Pixel:
    """L1 between pictures, ``(N, 3, H, W)``: a small share steadies short trainings."""

    def __call__(self, x: Tensor, fake: Tensor) -> Tensor:
        return (x - fake).abs()


class Chroma:
    """Mean L1 of Cb and Cr (BT.601, as in JPEG), ``(N, 1, H, W)``.

    Photographs have little fine colour, and D hardly minds it: without this, colour noise takes the place of texture.
    """

    def __call__(self, x: Tensor, fake: Tensor) -> Tensor:
        blue, red = chroma_of((x - fake).float())
        return (blue.abs() + red.abs()) / 2


class Tone:
    """L1 between means of 16x16 blocks, ``(N, 3, H / 16, W / 16)``: holds colour and light in place.

    It asks for no single pixel, which would blur.
    """

    def __call__(self, x: Tensor, fake: Tensor) -> Tensor:
        return (F.avg_pool2d(x, 16) - F.avg_pool2d(fake, 16)).abs()
