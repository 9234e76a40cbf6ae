"""Patch discriminators D(s, x): is this picture a photograph of these labels? (S-Flow GAN, eq. 2, 3 and 5)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from models.layers import LabelEmbedding, concatenate, unshuffle

LABEL_DIM: Final = 6
STRIDE: Final = 8  # divides the height and width of the input
SLOPE: Final = 0.2  # negative slope of the leaky ReLUs


@dataclass(frozen=True, slots=True)
class DiscriminatorSettings:
    """The section ``discriminator`` of a recipe."""

    arch: Literal["space-to-depth", "patch70"] = "space-to-depth"  # patch70 is pix2pix's
    width: int = 64  # channels of the first layer
    scales: int = 1  # k of eq. 7: each further D judges the picture at half the size; pix2pixHD has 3
    normalisation: Literal["none", "instance"] = "none"  # of patch70's inner layers; pix2pixHD's is instance
    spectral_norm: bool = False  # divides the weights of each convolution by their largest singular value
    sees_edges: bool = False  # conditions D on the edge map that G saw, beyond eq. 3 and 5
    sees_instance_edges: bool = False  # conditions D on the borders of instances, as in pix2pixHD

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"width is {self.width}, it must be at least 1")
        if self.scales not in (1, 2, 3):
            raise ValueError(f"scales is {self.scales}, known are 1, 2 and 3")
        if self.arch == "space-to-depth" and (self.scales > 1 or self.normalisation != "none"):
            raise ValueError(
                f"arch space-to-depth has one scale and no normalisation, got scales {self.scales} and normalisation"
                f" {self.normalisation!r}: take arch patch70"
            )


class Judgement(NamedTuple):
    """What one discriminator returns."""

    patches: Tensor  # (N, 1, h, w), one score a patch; h and w are about an eighth of the picture's
    features: list[Tensor]  # D_k^i of eq. 5, the activations of its T layers


class Discriminator(nn.Module, ABC):
    """Base of the discriminators."""

    planes: int  # edge planes that condition it; 0 for the paper's D(s, x)

    @abstractmethod
    def forward(self, labels: Tensor, image: Tensor, edges: Tensor | None = None) -> list[Judgement]:
        """The judgements of D_1..D_k on labels uint8 ``(N, H, W)`` and RGB ``(N, 3, H, W)`` in -1..1.

        H and W are multiples of 8. Edges ``(N, P, H, W)`` in 0..1 are needed where ``planes`` is not 0.
        """


class PatchDiscriminator(Discriminator):
    """One scale that starts at half resolution and normalises nothing; a score sees 56x56 pixels."""

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

    def forward(self, labels: Tensor, image: Tensor, edges: Tensor | None = None) -> list[Judgement]:
        """See :meth:`Discriminator.forward`."""
        pixels = image if edges is None else torch.cat([image, edges.to(image.dtype)], 1)
        x = concatenate([self.embed(labels), unshuffle(pixels)])
        features = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), SLOPE)
            features.append(x)
        return [Judgement(self.score(x), features)]


class Patch70(nn.Module):
    """pix2pix's C64-C128-C256-C512 (width 64): a score sees 70x70 pixels of its input."""

    def __init__(self, channels: int, width: int, normalisation: str) -> None:
        super().__init__()
        widths = (channels, width, 2 * width, 4 * width, 8 * width)
        strides = (2, 2, 2, 1)
        # A padding of 2, pix2pixHD's, keeps small pictures larger than the last kernels.
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, 4, stride, 2) for (a, b), stride in zip(pairwise(widths), strides, strict=True)
        )
        # Normalising the first layer would lose the picture's brightness and contrast.
        inner = [nn.InstanceNorm2d(w) if normalisation == "instance" else nn.Identity() for w in widths[2:]]
        self.normalise = nn.ModuleList([nn.Identity(), *inner])
        self.score = nn.Conv2d(widths[-1], 1, 4, 1, 2)

    def forward(self, x: Tensor) -> Judgement:
        """Judges ``(N, C, H, W)``."""
        features = []
        for layer, normalise in zip(self.layers, self.normalise, strict=True):
            x = F.leaky_relu(normalise(layer(x)), SLOPE)
            features.append(x)
        return Judgement(self.score(x), features)


class MultiScaleDiscriminator(Discriminator):
    """D_1..D_k of eq. 7, conditioned on one-hot labels, as in pix2pix and pix2pixHD.

    D_1 sees the picture, each further one the input of the previous one at half the size. Their scores see 70x70,
    141x141 and 283x283 pixels of the picture.
    """

    def __init__(
        self, classes: int, width: int, planes: int = 0, scales: int = 1, normalisation: str = "instance"
    ) -> None:
        super().__init__()
        self.classes, self.planes = classes, planes
        self.scales = nn.ModuleList(Patch70(classes + 3 + planes, width, normalisation) for _ in range(scales))

    def forward(self, labels: Tensor, image: Tensor, edges: Tensor | None = None) -> list[Judgement]:
        """See :meth:`Discriminator.forward`."""
        parts = [one_hot(labels, self.classes).to(image.dtype), image]
        x = torch.cat(parts if edges is None else [*parts, edges.to(image.dtype)], 1)
        x = x.contiguous(memory_format=torch.channels_last)
        judgements = []
        for k, scale in enumerate(self.scales):
            if k:
                x = F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)  # border pixels without the padding's zeros
            judgements.append(scale(x))
        return judgements


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Ids uint8 ``(N, H, W)`` as float32 ``(N, classes, H, W)`` of 0 and 1."""
    n, h, w = labels.shape
    return torch.zeros(n, classes, h, w, device=labels.device).scatter_(1, labels[:, None].long(), 1.0)


def build_discriminator(settings: DiscriminatorSettings, classes: int, planes: int) -> Discriminator:
    """The discriminator of a recipe; ``planes`` are the generator's, which D sees where the settings say so."""
    seen = (planes if settings.sees_edges else 0) + settings.sees_instance_edges
    made: Discriminator
    if settings.arch == "space-to-depth":
        made = PatchDiscriminator(classes, settings.width, seen)
    else:
        made = MultiScaleDiscriminator(classes, settings.width, seen, settings.scales, settings.normalisation)
    if settings.spectral_norm:
        for layer in [m for m in made.modules() if isinstance(m, nn.Conv2d)]:  # a list: this adds modules
            spectral_norm(layer)
    return made
