"""Patch discriminators D(s, x): is this picture a photograph of these labels? (S-Flow GAN, eq. 2, 3 and 5)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from models.layers import LabelEmbedding, concatenate, unshuffle

LABEL_DIM: Final = 6
STRIDE: Final = 8
"""Height and width of what they judge must be multiples of it."""
SLOPE: Final = 0.2
"""Of the leaky ReLU behind every layer."""


@dataclass(frozen=True, slots=True)
class DiscriminatorSettings:
    """What the discriminator of a training is; the section ``discriminator`` of a recipe.

    Attributes:
        arch: ``space-to-depth``, or ``patch70``: pix2pix's 70x70 patch discriminator.
        width: Channels of the first layer.
        scales: D_1..D_k of eq. 7; 3 is pix2pixHD's: each further one judges the picture at half the size.
        normalisation: Behind the inner layers of ``patch70``: ``instance`` is pix2pixHD's, and pix2pix's batch
            normalisation at its batch of one.
        spectral_norm: Divide every convolution's weights by their largest singular value.
        sees_edges: Condition D on the edge map that G saw, beyond eq. 3 and 5.
        sees_instance_edges: Condition D on the borders of instances, as pix2pixHD does; the paper needs none.
    """

    arch: Literal["space-to-depth", "patch70"] = "space-to-depth"
    width: int = 64
    scales: int = 1
    normalisation: Literal["none", "instance"] = "none"
    spectral_norm: bool = False
    sees_edges: bool = False
    sees_instance_edges: bool = False

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
    """What one discriminator says.

    Attributes:
        patches: ``(N, 1, h, w)``, one score a patch; h and w are about an eighth of the picture's.
        features: D_k^i of eq. 5, the activations of its T layers.
    """

    patches: Tensor
    features: list[Tensor]


class Discriminator(nn.Module, ABC):
    """Base of the discriminators.

    Attributes:
        planes: Edge planes that it is conditioned on; 0 for the paper's D(s, x).
    """

    planes: int

    @abstractmethod
    def forward(self, labels: Tensor, image: Tensor, edges: Tensor | None = None) -> list[Judgement]:
        """Judges a batch.

        Args:
            labels: uint8 ``(N, H, W)``; H and W multiples of 8.
            image: RGB ``(N, 3, H, W)`` in -1..1.
            edges: ``(N, P, H, W)`` in 0..1 where ``planes`` is not 0.

        Returns:
            The judgements of D_1..D_k.
        """


class PatchDiscriminator(Discriminator):
    """One scale, without normalisation, beginning at half resolution; a score sees 56x56 pixels.

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

    def forward(self, labels: Tensor, image: Tensor, edges: Tensor | None = None) -> list[Judgement]:
        """One judgement; see :meth:`Discriminator.forward`."""
        pixels = image if edges is None else torch.cat([image, edges.to(image.dtype)], 1)
        x = concatenate([self.embed(labels), unshuffle(pixels)])
        features = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), SLOPE)
            features.append(x)
        return [Judgement(self.score(x), features)]


class Patch70(nn.Module):
    """pix2pix's C64-C128-C256-C512: a score sees 70x70 pixels of its input.

    The padding is pix2pixHD's, two pixels: small pictures stay larger than the last kernels.

    Args:
        channels: Of the input.
        width: Channels of the first layer, 64 in pix2pix.
        normalisation: ``none`` or ``instance``.
    """

    def __init__(self, channels: int, width: int, normalisation: str) -> None:
        super().__init__()
        widths = (channels, width, 2 * width, 4 * width, 8 * width)
        strides = (2, 2, 2, 1)
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, 4, stride, 2) for (a, b), stride in zip(pairwise(widths), strides, strict=True)
        )
        # The first layer is never normalised: it would lose the picture's brightness and contrast.
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
    """D_1..D_k of eq. 7 with 70x70 patches, conditioned on one-hot labels (as pix2pix and pix2pixHD are).

    D_1 judges the picture as it is, each further one its input (labels and edges too) averaged to half the size, as
    pix2pixHD has it. Their scores see 70x70, 141x141 and 283x283 pixels of the picture.

    Args:
        classes: Number of label classes.
        width: Channels of the first layer.
        planes: Edge planes it is conditioned on; 0 for the paper's D(s, x).
        scales: k.
        normalisation: ``none`` or ``instance``.
    """

    def __init__(
        self, classes: int, width: int, planes: int = 0, scales: int = 1, normalisation: str = "instance"
    ) -> None:
        super().__init__()
        self.classes, self.planes = classes, planes
        self.scales = nn.ModuleList(Patch70(classes + 3 + planes, width, normalisation) for _ in range(scales))

    def forward(self, labels: Tensor, image: Tensor, edges: Tensor | None = None) -> list[Judgement]:
        """The judgements of D_1..D_k; see :meth:`Discriminator.forward`."""
        parts = [one_hot(labels, self.classes).to(image.dtype), image]
        x = torch.cat(parts if edges is None else [*parts, edges.to(image.dtype)], 1)
        x = x.contiguous(memory_format=torch.channels_last)
        judgements = []
        for k, scale in enumerate(self.scales):
            if k:
                # Border pixels are averaged over what there is, not with zeros.
                x = F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
            judgements.append(scale(x))
        return judgements


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Class ids uint8 ``(N, H, W)`` as planes float32 ``(N, classes, H, W)`` of 0 and 1."""
    n, h, w = labels.shape
    return torch.zeros(n, classes, h, w, device=labels.device).scatter_(1, labels[:, None].long(), 1.0)


def build_discriminator(settings: DiscriminatorSettings, classes: int, planes: int) -> Discriminator:
    """The discriminator of a training.

    Args:
        settings: What it is.
        classes: Number of label classes.
        planes: Edge planes that the generator sees; D is conditioned on them where the settings say so.
    """
    seen = (planes if settings.sees_edges else 0) + settings.sees_instance_edges
    made: Discriminator
    if settings.arch == "space-to-depth":
        made = PatchDiscriminator(classes, settings.width, seen)
    else:
        made = MultiScaleDiscriminator(classes, settings.width, seen, settings.scales, settings.normalisation)
    if settings.spectral_norm:
        _normalise_spectrally([m for m in made.modules() if isinstance(m, nn.Conv2d)])
    return made


def _normalise_spectrally(layers: Sequence[nn.Conv2d]) -> None:
    for layer in layers:
        spectral_norm(layer)
