"""A translator that keeps the render: graded by class, then textured within a bound by class; trained without pairs.

Colour is a grade, fitted in closed form. The network gives texture of luma alone, a factor within the bound of its
class: hues, letters and paint survive by construction, not by a loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.edges import EdgeSettings, LaplacianEdges
from models.layers import BilinearDoubling, Conv, ConvReLU, LabelEmbedding, chain, concatenate, luma_of, unshuffle
from models.nets.generator import STYLE_GAIN, LabelModulation, Trunk, Up
from models.nets.sflow import to_pixels

STRIDE: Final = 16
LABEL_DIM: Final = 4
GRADE: Final = 5
"""Of a class: gain of luma, gain of colour, offsets of red, green and blue."""
GRADE_DOUBLINGS: Final = 3
"""From stride 8, so that classes have no seams."""
REACH: Final = 0.3
"""Largest change of a pixel's light, as a share, for classes of which nothing else is said."""
BLACK: Final = 0.04
"""Light that texture also gets hold of in black, of 1."""
CAMERA: Final = ("light", "contrast", "colour", "warmth")
CAMERA_SPREAD: Final = (0.04, 0.06, 0.08, 0.015)
"""Standard deviation of what a seed varies: offset of light, gain of luma, gain of colour, red above blue."""


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

    A style is ``(looks + 4,)``: weights of the looks, then :data:`CAMERA` in standard deviations, 0 on average.
    Looks are a count, or their names. By option the network sees a plane of noise, to make texture of, and an edge map.

    Attributes:
        grades: By look and class, :data:`GRADE`, ``(looks, classes, 5)``.
        reach: Largest change of light by class ``(classes,)``.

    Raises:
        ValueError: Unknown tier, or a count below its least.
    """

    grades: Tensor
    reach: Tensor

    def __init__(
        self,
        tier: str,
        classes: int,
        looks: int | Sequence[str] = 1,
        noise: bool = False,
        edge: EdgeSettings | None = None,
    ) -> None:
        super().__init__()
        if tier not in ENHANCE_TIERS:
            raise ValueError(f"generator tier is {tier!r}, known are {', '.join(ENHANCE_TIERS)}")
        self.look_names = tuple(f"look {i}" for i in range(looks)) if isinstance(looks, int) else tuple(looks)
        count = len(self.look_names)
        if classes < 1 or count < 1:
            raise ValueError(f"classes and looks are {classes} and {count}: at least 1 of each")
        self.args: dict[str, Any] = {
            "tier": tier,
            "classes": classes,
            "looks": looks if isinstance(looks, int) else list(looks),
            "noise": noise,
        }
        self.looks, self.noise = count, noise
        self.operator = None if edge is None else LaplacianEdges(edge)
        self.planes = 3 + int(noise) + (0 if edge is None else edge.planes)
        self._build(ENHANCE_TIERS[tier], classes)

    def _build(self, size: EnhanceTier, classes: int) -> None:
        c2, c4, c8, c16 = size.widths
        self.embed = LabelEmbedding(classes, LABEL_DIM)
        labels = self.embed.channels
        self.labels8 = nn.Conv2d(labels, size.label_width, 4, 4)
        self.labels16 = nn.Conv2d(size.label_width, size.label_width, 2, 2)
        self.style8 = nn.Linear(self.looks, size.label_width, bias=False)
        self.style2 = nn.Linear(self.looks, c2, bias=False)
        self.down2 = ConvReLU(4 * self.planes + labels, c2)
        self.down4 = chain(c2, c4, size.down, stride=2)
        self.down8 = ConvReLU(c4, c8, 2)
        self.down16 = ConvReLU(c8, c16, 2)
        self.trunk16 = Trunk(c16, size.trunk[1], size.label_width)
        self.up8 = Up(c16, c8)
        self.trunk8 = Trunk(c8, size.trunk[0], size.label_width)
        self.up4 = Up(c8, c4)
        self.out4 = chain(c4, c4, size.up[0])
        self.up2 = Up(c4, c2)
        self.modulate2 = LabelModulation(c2, labels)
        self.out2 = chain(c2, c2, size.up[1])
        self.head = ConvReLU(c2, size.tail)
        self.enlarge = BilinearDoubling(size.tail)
        self.blend = ConvReLU(size.tail + self.planes, size.tail)
        self.texture = Conv(size.tail, 1)
        self.grade_up = nn.ModuleList(BilinearDoubling(GRADE) for _ in range(GRADE_DOUBLINGS))
        self.register_buffer("grades", torch.tensor([1.0, 1, 0, 0, 0]).repeat(self.looks, classes, 1))
        self.register_buffer("reach", torch.full((classes,), REACH))
        nn.init.normal_(self.style8.weight, std=0.1 / STYLE_GAIN)
        for weight in (self.style2.weight, self.texture.weight):  # the identity at the start
            nn.init.zeros_(weight)

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
        varied = torch.zeros(len(CAMERA))
        if seed:
            varied = torch.randn(len(CAMERA), generator=torch.Generator().manual_seed(seed)).clamp(-2, 2)
        return torch.cat([torch.tensor(weights), varied])

    def draw_noise(self, height: int, width: int, seed: int = 0) -> Tensor:
        """What texture is made of, ``(1, 1, height, width)`` on the CPU; one seed draws the same for every frame."""
        return torch.randn(1, 1, height, width, generator=torch.Generator().manual_seed(seed))

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
            style: ``(N, looks + 4)``; None for the first look's average.
            strength: 0 (the render, exactly) to 1; one for all or ``(N,)``.
            noise: Normal, ``(N, 1, H, W)``; None for zeros.
            edges: ``(N, P, H, W)`` in 0..1; None for zeros.
        """
        if style is None:
            style = self.style().to(rgb.device).expand(len(rgb), -1)
        made = self.textured(self.graded(rgb, labels, style), labels, style, noise, edges)
        share = strength.view(-1, 1, 1, 1) if isinstance(strength, Tensor) else strength
        return rgb + share * (made - rgb)

    def graded(self, rgb: Tensor, labels: Tensor, style: Tensor) -> Tensor:
        """The render with its look's light and colour, float32 ``(N, 3, H, W)``."""
        tables = torch.einsum("nl,lck->nck", style[:, : self.looks].float(), self.grades)
        classes = tables.shape[1]
        places = labels[:, ::2, ::2].int() + classes * torch.arange(
            len(labels), device=rgb.device, dtype=torch.int32
        ).view(-1, 1, 1)
        planes = F.embedding(places, tables.reshape(-1, GRADE)).permute(0, 3, 1, 2)
        planes = F.avg_pool2d(planes, 4)
        for double in self.grade_up:
            planes = double(planes, 0)
        light, contrast, colour, warmth = (
            spread * style[:, self.looks + i, None, None, None] for i, spread in enumerate(CAMERA_SPREAD)
        )
        gain, vivid, offset = planes[:, 0:1] + contrast, planes[:, 1:2] * (1 + colour), planes[:, 2:] + light
        warm = torch.cat([warmth, torch.zeros_like(warmth), -warmth], 1)
        luma = luma_of(rgb)
        return gain * luma + vivid * (rgb - luma) + offset + warm

    def textured(
        self,
        picture: Tensor,
        labels: Tensor,
        style: Tensor,
        noise: Tensor | None = None,
        edges: Tensor | None = None,
    ) -> Tensor:
        """A graded render, or a photograph, with the light of each pixel times 1 - reach to 1 + reach."""
        raw = self.changes(self._seen(picture, noise, edges), labels, style[:, : self.looks])
        reach = F.embedding(labels.int(), self.reach[:, None]).permute(0, 3, 1, 2)
        return picture + (picture + (1 + 2 * BLACK)) * (reach * torch.tanh(raw.float()))

    def changes(self, seen: Tensor, labels: Tensor, looks: Tensor) -> Tensor:
        """Texture before its bound ``(N, 1, H, W)``."""
        embedded, style = self.embed(labels).to(seen.dtype), STYLE_GAIN * looks.to(seen.dtype)
        at8 = F.relu(self.labels8(embedded) + self.style8(style)[:, :, None, None])
        x2 = self.down2(concatenate([unshuffle(seen), embedded]))
        x4 = self.down4(x2)
        x8 = self.down8(x4)
        x = self.trunk16(self.down16(x8), F.relu(self.labels16(at8)))
        x = self.trunk8(self.up8(x, x8), at8)
        x = self.out4(self.up4(x, x4))
        x = self.modulate2(self.up2(x, x2), embedded) + self.style2(style)[:, :, None, None]
        x = self.head(self.out2(x))
        texture: Tensor = self.texture(self.blend(concatenate([self.enlarge(x, 0), seen])))
        return texture

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
