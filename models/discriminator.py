"""Patch discriminators D(s, x): is this picture a photograph of these labels? (S-Flow GAN, eq. 2, 3 and 5)."""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers import LabelEmbedding, concatenate, unshuffle

LABEL_DIM: Final = 6
STRIDE: Final = 8
"""Height and width of what it judges must be multiples of it."""


class Judgement(NamedTuple):
    """What one discriminator says.

    Attributes:
        patches: ``(N, 1, H/8, W/8)``, one score a patch of 56x56 pixels.
        features: D_k^i of eq. 5, the activations of its T layers.
    """

    patches: Tensor
    features: list[Tensor]


class PatchDiscriminator(nn.Module):
    """A patch discriminator without normalisation.

    Args:
        classes: Number of label classes.
        width: Channels of the first layer.
        planes: Edge planes it is conditioned on; 0 for the paper's D(s, x).
    """

    def __init__(self, classes: int, width: int, planes: int = 0) -> None:
        super().__init__()
        self.planes = planes
        self.embed = LabelEmbedding(classes, LABEL_DIM)
        c_in = 4 * (3 + planes) + self.embed.channels
        self.layers = nn.ModuleList(
            [
                nn.Conv2d(c_in, width, 3, 1, 1),
                nn.Conv2d(width, 2 * width, 4, 2, 1),
                nn.Conv2d(2 * width, 4 * width, 4, 2, 1),
                nn.Conv2d(4 * width, 4 * width, 3, 1, 1),
            ]
        )
        self.score = nn.Conv2d(4 * width, 1, 3, 1, 1)

    def forward(self, labels: Tensor, image: Tensor, edges: Tensor | None = None) -> Judgement:
        """Judges a batch.

        Args:
            labels: uint8 ``(N, H, W)``; H and W multiples of 8.
            image: RGB ``(N, 3, H, W)`` in -1..1.
            edges: ``(N, P, H, W)`` in 0..1 where ``planes`` is not 0.
        """
        pixels = image if edges is None else torch.cat([image, edges.to(image.dtype)], 1)
        x = concatenate([self.embed(labels), unshuffle(pixels)])
        features = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            features.append(x)
        return Judgement(self.score(x), features)
