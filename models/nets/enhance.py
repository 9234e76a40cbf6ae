"""A translator that keeps the render: picture = render + strength x (local tone + residual), trained without pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.edges import EdgeSettings, LaplacianEdges
from models.layers import BilinearDoubling, Conv, ConvReLU, LabelEmbedding, chain, concatenate, unshuffle
from models.nets.generator import STYLE_GAIN, LabelModulation, Trunk, Up
from models.nets.sflow import to_pixels

STRIDE: Final = 16
LABEL_DIM: Final = 4
TONE: Final = 6
"""A gain and an offset of each colour, made at stride 8."""
TONE_DOUBLINGS: Final = 3


@dataclass(frozen=True, slots=True)
class EnhanceTier:
    """Sizes of a generator: channels, and counts of convolutions."""

    widths: tuple[int, int, int, int]  # strides 2, 4, 8, 16
    trunk: tuple[int, int]  # strides 8, 16
    down: int  # stride 4, before the trunk
    up: tuple[int, int]  # strides 4, 2, behind it
    tail: int  # full resolution
    label_width: int  # what modulates the trunk


ENHANCE_TIERS: Final = {
    "lite": EnhanceTier((32, 64, 96, 128), (5, 3), 1, (2, 2), 8, 32),
    "base": EnhanceTier((64, 112, 176, 224), (6, 4), 2, (3, 3), 16, 48),
}


class EnhanceNetwork(nn.Module):
    """Render and labels in, photograph-like picture out; starts as the identity.

    A style is ``(looks + variations,)``: weights of the looks, then numbers that vary camera and tone, 0 on average.
    By option the network sees a plane of noise, to make texture of, and an edge map.

    Raises:
        ValueError: Unknown tier, or a count below its least.
    """

    def __init__(
        self,
        tier: str,
        classes: int,
        looks: int = 1,
        variations: int = 4,
        noise: bool = True,
        edge: EdgeSettings | None = None,
    ) -> None:
        super().__init__()
        if tier not in ENHANCE_TIERS:
            raise ValueError(f"generator tier is {tier!r}, known are {', '.join(ENHANCE_TIERS)}")
        if classes < 1 or looks < 1 or variations < 0:
            raise ValueError(f"classes, looks and variations are {classes}, {looks}, {variations}: at least 1, 1 and 0")
        self.args: dict[str, Any] = {
            "tier": tier,
            "classes": classes,
            "looks": looks,
            "variations": variations,
            "noise": noise,
        }
        self.looks, self.variations, self.noise = looks, variations, noise
        self.operator = None if edge is None else LaplacianEdges(edge)
        self.planes = 3 + int(noise) + (0 if edge is None else edge.planes)
        self._build(ENHANCE_TIERS[tier], classes)

    def _build(self, size: EnhanceTier, classes: int) -> None:
        c2, c4, c8, c16 = size.widths
        self.embed = LabelEmbedding(classes, LABEL_DIM)
        labels = self.embed.channels
        self.labels8 = nn.Conv2d(labels, size.label_width, 4, 4)
        self.labels16 = nn.Conv2d(size.label_width, size.label_width, 2, 2)
        self.style8 = nn.Linear(self.looks + self.variations, size.label_width, bias=False)
        self.style2 = nn.Linear(self.looks + self.variations, c2, bias=False)
        self.down2 = ConvReLU(4 * self.planes + labels, c2)
        self.down4 = chain(c2, c4, size.down, stride=2)
        self.down8 = ConvReLU(c4, c8, 2)
        self.down16 = ConvReLU(c8, c16, 2)
        self.trunk16 = Trunk(c16, size.trunk[1], size.label_width)
        self.up8 = Up(c16, c8)
        self.trunk8 = Trunk(c8, size.trunk[0], size.label_width)
        self.tone = nn.Conv2d(c8, TONE, 1)
        self.tone_up = nn.ModuleList(BilinearDoubling(TONE) for _ in range(TONE_DOUBLINGS))
        self.up4 = Up(c8, c4)
        self.out4 = chain(c4, c4, size.up[0])
        self.up2 = Up(c4, c2)
        self.modulate2 = LabelModulation(c2, labels)
        self.out2 = chain(c2, c2, size.up[1])
        self.head = ConvReLU(c2, size.tail)
        self.enlarge = BilinearDoubling(size.tail)
        self.blend = ConvReLU(size.tail + self.planes, size.tail)
        self.residual = Conv(size.tail, 3)
        nn.init.normal_(self.style8.weight, std=0.1 / STYLE_GAIN)
        for part in (self.style2, self.tone, self.residual):  # the identity at the start
            nn.init.zeros_(part.weight)
        for part in (self.tone, self.residual):
            nn.init.zeros_(part.bias)  # type: ignore[arg-type]

    @property
    def dtype(self) -> torch.dtype:
        """Of weights and arithmetic."""
        return self.head.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.head.weight.device

    def style(self, look: int | Sequence[float] = 0, seed: int = 0) -> Tensor:
        """Style of a look by number, or of weights for all looks, on the CPU; seed 0 is the look's average.

        Raises:
            ValueError: There is no such look, or another number of weights.
        """
        weights = [float(i == look) for i in range(self.looks)] if isinstance(look, int) else list(look)
        if len(weights) != self.looks or not any(weights):
            raise ValueError(f"look is {look!r}, but there are {self.looks}, numbered from 0: give one or all weights")
        varied = torch.zeros(self.variations)
        if seed:
            varied = torch.randn(self.variations, generator=torch.Generator().manual_seed(seed)).clamp(-2, 2)
        return torch.cat([torch.tensor(weights), varied])

    def forward(
        self,
        rgb: Tensor,
        labels: Tensor,
        style: Tensor | None = None,
        strength: Tensor | float = 1.0,
        noise: Tensor | None = None,
        edges: Tensor | None = None,
    ) -> Tensor:
        """The picture, float32 ``(N, 3, H, W)``, not clamped.

        Args:
            rgb: Float32 ``(N, 3, H, W)`` in -1..1; H and W multiples of 16.
            labels: Class ids, uint8 ``(N, H, W)``.
            style: ``(N, looks + variations)``; None for the first look's average.
            strength: 0 (the render, exactly) to 1; one for all or ``(N,)``.
            noise: Normal, ``(N, 1, H, W)``; None for zeros.
            edges: ``(N, P, H, W)`` in 0..1; None for zeros.
        """
        if style is None:
            style = self.style().to(rgb.device).expand(len(rgb), -1)
        seen = self._seen(rgb, noise, edges)
        tone, residual = self.changes(seen, labels, style.to(seen.dtype))
        gain, offset = tone.float().chunk(2, 1)
        share = strength.view(-1, 1, 1, 1) if isinstance(strength, Tensor) else strength
        return rgb + share * (rgb * gain + offset + residual.float())

    def changes(self, seen: Tensor, labels: Tensor, style: Tensor) -> tuple[Tensor, Tensor]:
        """Local tone ``(N, 6, H, W)``, first the gains, and residual ``(N, 3, H, W)``."""
        embedded, style = self.embed(labels).to(seen.dtype), STYLE_GAIN * style
        at8 = F.relu(self.labels8(embedded) + self.style8(style)[:, :, None, None])
        x2 = self.down2(concatenate([unshuffle(seen), embedded]))
        x4 = self.down4(x2)
        x8 = self.down8(x4)
        x = self.trunk16(self.down16(x8), F.relu(self.labels16(at8)))
        x8 = self.trunk8(self.up8(x, x8), at8)
        x = self.out4(self.up4(x8, x4))
        x = self.modulate2(self.up2(x, x2), embedded) + self.style2(style)[:, :, None, None]
        x = self.head(self.out2(x))
        residual: Tensor = self.residual(self.blend(concatenate([self.enlarge(x, 0), seen])))
        tone: Tensor = self.tone(x8)
        for double in self.tone_up:
            tone = double(tone, 0)
        return tone, residual

    def _seen(self, rgb: Tensor, noise: Tensor | None, edges: Tensor | None) -> Tensor:
        """What the network sees at full resolution."""
        n, _, h, w = rgb.shape
        planes = [rgb]
        if self.noise:
            planes.append(rgb.new_zeros(n, 1, h, w) if noise is None else noise)
        if self.operator is not None:
            count = self.planes - 3 - int(self.noise)
            planes.append(rgb.new_zeros(n, count, h, w) if edges is None else edges)
        return torch.cat([plane.to(self.dtype) for plane in planes], 1)

    @torch.inference_mode()
    def translate(
        self,
        rgb: Tensor,
        labels: Tensor,
        style: Tensor | None = None,
        strength: Tensor | float = 1.0,
        noise: Tensor | None = None,
    ) -> Tensor:
        """The live path: uint8 ``(N, H, W, 3)`` of any size to the same; the rest as in :meth:`forward`."""
        h, w = labels.shape[1:]
        edges = None if self.operator is None else self.operator(rgb).float()
        picture = rgb.permute(0, 3, 1, 2).float() / 127.5 - 1
        picture, labels = pad_picture(picture), pad_picture(labels[:, None])[:, 0]
        noise, edges = (None if plane is None else pad_picture(plane) for plane in (noise, edges))
        return to_pixels(self(picture, labels, style, strength, noise, edges)[:, :, :h, :w])


def pad_picture(planes: Tensor) -> Tensor:
    """Repeats the last row and column of ``(N, C, H, W)``, any type, up to multiples of :data:`STRIDE`."""
    h, w = planes.shape[2:]
    bottom, right = -h % STRIDE, -w % STRIDE
    if not (bottom or right):
        return planes
    rows = torch.arange(h + bottom, device=planes.device).clamp_(max=h - 1)
    columns = torch.arange(w + right, device=planes.device).clamp_(max=w - 1)
    return planes.index_select(2, rows).index_select(3, columns)
