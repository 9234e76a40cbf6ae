"""Networks whose features the perceptual loss compares (S-Flow GAN, eq. 6)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import pairwise
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from models.bundles.published import fill_published, hub_file, load_published, torchvision_models

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)
"""Of RGB in 0..1; what torchvision's published networks were trained with."""
VGG19_SLICES: Final = (2, 7, 12, 21, 30)
"""Where VGG19's layers are cut: relu1_1, relu2_1, relu3_1, relu4_1 and relu5_1 end the slices."""
PIX2PIXHD_WEIGHTS: Final = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)
"""Factors of these five slices in pix2pixHD and vid2vid; eq. 6 has 1/P for each."""


class FeatureNetwork(nn.Module, ABC):
    """A trained network that gives features of a picture."""

    @abstractmethod
    def features(self, image: Tensor) -> list[Tensor]:
        """Feature maps of RGB ``(N, 3, H, W)`` in -1..1, fine to coarse."""


class ImageNetNormalisation(nn.Module):
    """RGB in -1..1 to what networks published by torchvision take."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Of values in -1..1: twice the spread, and the mean shifted with them.
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1) * 2 - 1, persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1) * 2, persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Same shape out as in."""
        return (image - self.mean.to(image.dtype)) / self.std.to(image.dtype)


class VGG19Features(FeatureNetwork):
    """torchvision's VGG19 with its published ImageNet weights, as pix2pixHD and vid2vid take it for their losses.

    The layers are made without memory of their own: there is no way to have them with random weights.

    Args:
        weights: A copy of the published file; None for torch hub's folder, into which it is fetched if need be.

    Raises:
        WeightsError: The weights cannot be had, or are damaged or another network's.
    """

    def __init__(self, weights: Path | None = None) -> None:
        super().__init__()
        vision = torchvision_models()
        url = vision.VGG19_Weights.IMAGENET1K_V1.url
        state = load_published(url, weights, "perceptual_weights")
        with torch.device("meta"):
            layers = vision.vgg19(weights=None).features[: VGG19_SLICES[-1]]
        named = {k.removeprefix("features."): v for k, v in state.items() if k.startswith("features.")}
        # What lies behind relu5_1 (the rest of the features, the classifier) is not needed.
        used = {k: v for k, v in named.items() if int(k.partition(".")[0]) < VGG19_SLICES[-1]}
        fill_published(layers, used, f"weights {weights or hub_file(url)}")
        self.normalise = ImageNetNormalisation()
        self.slices = nn.ModuleList(layers[a:b] for a, b in pairwise((0, *VGG19_SLICES)))

    def features(self, image: Tensor) -> list[Tensor]:
        """Five maps, strides 1, 2, 4, 8, 16, after ReLU."""
        out = []
        x = self.normalise(image)
        for part in self.slices:
            x = part(x)
            out.append(x)
        return out
