"""The conditional generator G(s, e): labels and an edge map to a photograph (S-Flow GAN, section 3.2).

Nothing finer of the CG picture reaches it than colour hints, the means of 8x8 pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.hints import CHANNELS as HINT_CHANNELS
from models.hints import STRIDE as HINT_STRIDE
from models.hints import hues_of
from models.layers import (
    BilinearDoubling,
    Conv,
    ConvReLU,
    HalfChroma,
    LabelEmbedding,
    chain,
    concatenate,
    extend,
    label_boundary,
    unshuffle,
)

LABEL_DIM: Final = 8
TAIL: Final = 8  # channels of the full-resolution tail
MODULATE_EVERY: Final = 3
STYLE_GAIN: Final = 4.0  # makes an optimiser's steps on the style's few weights matter as much as the others
MARGIN: Final = 2  # full-resolution pixels of border that the first convolution and the tail consume


@dataclass(frozen=True, slots=True)
class Tier:
    """Sizes of a network."""

    widths: tuple[int, int, int, int]  # generator channels at strides 2, 4, 8, 16
    trunk: tuple[int, int]  # convolutions at strides 8 and 16
    depths: tuple[int, int, int]  # convolutions at stride 4 on the way down, at strides 4 and 2 on the way up
    label_width: int  # channels of the label features that modulate the trunk
    edge_widths: tuple[int, int, int, int, int]  # DNED channels at strides 2, 4, 8, 16, 32
    edge_depth: int  # DNED convolutions a stride


TIERS: Final[dict[str, Tier]] = {
    # For two CPU cores, for a laptop GPU, and as large as pix2pixHD; docs/architecture.md has the multiply-adds.
    "lite": Tier((32, 64, 96, 192), (4, 4), (1, 1, 1), 32, (16, 32, 48, 64, 64), 2),
    "base": Tier((64, 128, 256, 384), (9, 9), (2, 2, 2), 64, (32, 64, 96, 128, 128), 2),
    "full": Tier((128, 256, 512, 768), (12, 9), (2, 2, 2), 128, (64, 128, 256, 256, 256), 3),
}


class LabelModulation(nn.Module):
    """Scales and shifts features by the labels at the same resolution: SPADE without its normalisation."""

    def __init__(self, channels: int, label_width: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(label_width, 2 * channels, 1)
        nn.init.normal_(self.project.weight, std=0.02)
        nn.init.zeros_(self.project.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """``x * (1 + scale) + shift`` by label features of the height and width of ``x``."""
        scale, shift = self.project(labels).chunk(2, 1)
        return torch.addcmul(x + shift, x, scale)


class Trunk(nn.Module):
    """A chain of convolutions, every third of them behind a modulation by the labels."""

    def __init__(self, channels: int, count: int, label_width: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList([ConvReLU(channels, channels) for _ in range(count)])
        self.modulations = nn.ModuleList(
            [LabelModulation(channels, label_width) for _ in range(0, count, MODULATE_EVERY)]
        )

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """Keeps the shape of ``x``."""
        for i, conv in enumerate(self.convs):
            if i % MODULATE_EVERY == 0:
                x = self.modulations[i // MODULATE_EVERY](x, labels)
            x = conv(x)
        return x


def enlarge_nearest(x: Tensor, factor: int) -> Tensor:
    """Repeats pixels and keeps the type of ``x``, which CUDA's autocast would make float32."""
    return F.interpolate(x, scale_factor=factor, mode="nearest").to(x.dtype)


class Up(nn.Module):
    """1x1 convolution, nearest enlargement, skip: all output phases share weights, which avoids a grid of period 2."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(c_in, c_out, 1)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """``skip`` has twice the height and width of ``x``."""
        return skip + enlarge_nearest(self.project(x), 2)


class Generator(nn.Module):
    """Encoder, trunk at strides 16 and 8, decoder, and a thin full-resolution tail."""

    def __init__(
        self,
        classes: int,
        planes: int,
        tier: Tier,
        style_input: int = 0,  # numbers S of the style vector; the paper has none
        *,
        hints: bool = False,
        half_chroma: bool = False,
        keep_hues: bool = False,
    ) -> None:
        super().__init__()
        self.keep_hues = keep_hues
        c2, c4, c8, c16 = tier.widths
        fine = planes + 1
        self.embed = LabelEmbedding(classes, LABEL_DIM)
        self.down2 = ConvReLU(self.embed.channels + 4 * fine, c2, padding=0)
        self.down4 = chain(c2, c4, tier.depths[0], stride=2)
        self.down8 = ConvReLU(c4, c8, 2)
        self.down16 = ConvReLU(c8, c16, 2)
        self.labels8 = nn.Conv2d(self.embed.channels, tier.label_width, 4, 4)
        self.labels16 = nn.Conv2d(tier.label_width, tier.label_width, 2, 2)
        self.trunk16 = Trunk(c16, tier.trunk[1], tier.label_width)
        self.up8 = Up(c16, c8)
        self.trunk8 = Trunk(c8, tier.trunk[0], tier.label_width)
        self.up4 = Up(c8, c4)
        self.out4 = chain(c4, c4, tier.depths[1])
        self.up2 = Up(c4, c2)
        self.out2 = chain(c2, c2, tier.depths[2])
        self.head = ConvReLU(c2, TAIL)
        self.enlarge = BilinearDoubling(TAIL)
        self.tail = nn.Sequential(ConvReLU(TAIL + fine, TAIL, padding=0), Conv(TAIL, 3, padding=0))
        self.half_chroma = HalfChroma() if half_chroma else None
        self.style_projection = nn.Linear(style_input, tier.label_width, bias=False) if style_input else None
        if self.style_projection is not None:
            nn.init.zeros_(self.style_projection.weight)
        self.hint_projection = nn.Conv2d(HINT_CHANNELS, tier.label_width, 3, padding=1) if hints else None
        # A shortcut to the picture, because the trunk learns light long before hue.
        self.hint_up = nn.Conv2d(HINT_CHANNELS, c2, 1) if hints else None

    def forward(
        self, labels: Tensor, edges: Tensor, style: Tensor | None = None, hints: Tensor | None = None
    ) -> Tensor:
        """RGB ``(N, 3, H, W)`` in -1..1 of labels uint8 ``(N, H, W)`` and edges ``(N, P, H, W)`` in 0..1.

        H and W are multiples of 16. Style ``(N, S)`` and hints ``(N, 4, H / 8, W / 8)`` are zeros where None.
        """
        # The border is repeated outwards, because zeros would show as a coloured line in the picture.
        labels, edges = extend(labels, MARGIN), extend(edges, MARGIN)
        fine = torch.cat([edges, label_boundary(labels)[:, None].to(edges.dtype)], 1)
        embedded = self.embed(labels)
        x2 = self.down2(concatenate([embedded, unshuffle(fine)]))
        x4 = self.down4(x2)
        x8 = self.down8(x4)
        x = self.down16(x8)
        inner = MARGIN // 2
        at8 = self.labels8(embedded[:, :, inner:-inner, inner:-inner])
        if self.style_projection is not None and style is not None:
            at8 = at8 + self.style_projection(STYLE_GAIN * style.to(at8.dtype))[:, :, None, None]
        if self.hint_projection is not None and self.hint_up is not None:
            if hints is None:
                hints = at8.new_zeros(len(at8), HINT_CHANNELS, *at8.shape[2:])
            at8 = at8 + self.hint_projection(hints.to(at8.dtype))
        at8 = F.relu(at8)
        x = self.trunk16(x, F.relu(self.labels16(at8)))
        x = self.trunk8(self.up8(x, x8), at8)
        x = self.out4(self.up4(x, x4))
        x = self.up2(x, x2)
        if self.hint_up is not None:
            assert hints is not None
            x = x + enlarge_nearest(self.hint_up(hints.to(x.dtype)), HINT_STRIDE // 2)
        x = self.out2(x)
        image: Tensor = torch.tanh(self.tail(concatenate([self.enlarge(self.head(x), MARGIN), fine])))
        return self._with_hues(image, hints if self.keep_hues else None)

    def _with_hues(self, image: Tensor, hints: Tensor | None) -> Tensor:
        """Adds the hints' chroma and halves the resolution of colour, as the network's options say."""
        if self.half_chroma is not None:
            added = None if hints is None else hues_of(hints, HINT_STRIDE // HalfChroma.SCALE)
            halved: Tensor = self.half_chroma(image, added)
            return halved
        return image if hints is None else (image + hues_of(hints, HINT_STRIDE).to(image.dtype)).clamp(-1, 1)
