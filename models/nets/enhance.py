"""A translator that keeps the render: graded by class, then its own detail scaled; trained without pairs.

Colour and the mean contrast of four bands of luma are a grade by class, fitted in closed form. The network varies the
bands' gains smoothly from place to place: it makes asphalt coarser and far windows softer, but draws nothing. So hues,
letters and paint survive by construction, and texture moves with the scene.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.edges import EdgeSettings, LaplacianEdges
from models.layers import BilinearDoubling, ConvReLU, LabelEmbedding, chain, concatenate, extend, luma_of, unshuffle
from models.nets.generator import STYLE_GAIN, Trunk, Up
from models.nets.sflow import to_pixels

STRIDE: Final = 16
LABEL_DIM: Final = 4
TONE: Final = 5
"""Of a class: gain of luma, gain of colour, offsets of red, green and blue."""
DETAIL: Final = 1.5
"""Largest factor of detail, and the inverse of the smallest, of classes of which nothing else is said."""
BANDS: Final = 4
"""Of luma, between Gaussians of about 0.8, 1.6, 3.2 and 6.4 pixels, finest first."""
GRADE: Final = TONE + BANDS
"""Of a class: its tone, and logarithms of its bands' gains."""
STRONG: Final = 0.08
"""Detail beyond it, in -1..1, is an edge: it is hardly scaled, so that edges get no halos."""
BLACK: Final = 0.04
"""Light, of 1, at which black counts: detail scales a pixel's light, and that of black is 0."""
GAIN_SCALE: Final = 0.1
"""Makes an optimiser's first steps small: gains that run into their bound come back slowly."""
GAIN_DOUBLINGS: Final = 2
"""Of the gains, from stride 4."""
CAMERA: Final = ("light", "contrast", "colour", "warmth")
CAMERA_SPREAD: Final = (0.04, 0.06, 0.08, 0.015)
"""Standard deviation of what a seed varies: offset of light, gain of luma, gain of colour, red above blue."""


@dataclass(frozen=True, slots=True)
class EnhanceTier:
    """Sizes of a network: channels, and counts of convolutions."""

    widths: tuple[int, int, int, int]  # strides 2, 4, 8, 16
    trunk: tuple[int, int]  # strides 8, 16
    down: int  # stride 4, before the trunk
    up: int  # stride 4, behind it
    label_width: int  # what modulates the trunk


ENHANCE_TIERS: Final = {
    "lite": EnhanceTier((32, 64, 96, 128), (5, 3), 1, 2, 32),
    "base": EnhanceTier((64, 112, 176, 224), (6, 5), 2, 3, 48),
}


class EnhanceNetwork(nn.Module):
    """Render and labels in, photograph-like picture out; starts as the identity.

    A style is ``(looks + 4,)``: weights of the looks, then :data:`CAMERA` in standard deviations, 0 on average.
    Looks are a count, or their names. By option the network sees an edge map, and draws what the render lacks.

    Attributes:
        grades: By look and class, :data:`GRADE`, ``(looks, classes, 9)``.
        detail: Logarithm of the largest factor of detail by class ``(classes,)``.

    Raises:
        ValueError: Unknown tier, or a count below its least.
    """

    grades: Tensor
    detail: Tensor

    def __init__(
        self,
        tier: str,
        classes: int,
        looks: int | Sequence[str] = 1,
        edge: EdgeSettings | None = None,
        *,
        draws: bool = False,
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
        }
        if draws:
            self.args["draws"] = True
        self.looks = count
        self.operator = None if edge is None else LaplacianEdges(edge)
        self.planes = 3 + (0 if edge is None else edge.planes)
        self._build(ENHANCE_TIERS[tier], classes)
        self.pencil = Pencil(*ENHANCE_TIERS[tier].widths[:2]) if draws else None

    def _build(self, size: EnhanceTier, classes: int) -> None:
        c2, c4, c8, c16 = size.widths
        self.embed = LabelEmbedding(classes, LABEL_DIM)
        labels = self.embed.channels
        self.labels8 = nn.Conv2d(labels, size.label_width, 4, 4)
        self.labels16 = nn.Conv2d(size.label_width, size.label_width, 2, 2)
        self.style8 = nn.Linear(self.looks, size.label_width, bias=False)
        self.down2 = ConvReLU(4 * self.planes + labels, c2)
        self.down4 = chain(c2, c4, size.down, stride=2)
        self.down8 = ConvReLU(c4, c8, 2)
        self.down16 = ConvReLU(c8, c16, 2)
        self.trunk16 = Trunk(c16, size.trunk[1], size.label_width)
        self.up8 = Up(c16, c8)
        self.trunk8 = Trunk(c8, size.trunk[0], size.label_width)
        self.up4 = Up(c8, c4)
        self.out4 = chain(c4, c4, size.up)
        self.gains = nn.Conv2d(c4, BANDS, 1)
        self.gains_up = nn.ModuleList(BilinearDoubling(BANDS) for _ in range(GAIN_DOUBLINGS))
        self.grade_up = BilinearDoubling(GRADE)
        self.bands = LumaBands()
        self.register_buffer("grades", torch.tensor([1.0, 1] + [0.0] * (GRADE - 2)).repeat(self.looks, classes, 1))
        self.register_buffer("detail", torch.full((classes,), math.log(DETAIL)))
        nn.init.normal_(self.style8.weight, std=0.1 / STYLE_GAIN)
        nn.init.zeros_(self.gains.weight)  # the identity at the start
        nn.init.zeros_(self.gains.bias)  # type: ignore[arg-type]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Keeps the tables in float32 whatever the weights become: bfloat16 would shift light by half a level."""
        tables = self.grades, self.detail
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.grades, self.detail = (table.to(self.grades.device) for table in tables)
        return self

    @property
    def dtype(self) -> torch.dtype:
        """Of weights and arithmetic."""
        return self.gains.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.gains.weight.device

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

    def forward(
        self,
        rgb: Tensor,
        labels: Tensor,
        style: Tensor | None = None,
        strength: Tensor | float = 1.0,
        edges: Tensor | None = None,
    ) -> Tensor:
        """The picture, float32 ``(N, 3, H, W)``, not clamped.

        Args:
            rgb: Float32 ``(N, 3, H, W)`` in -1..1; H and W multiples of 16.
            labels: Class ids, uint8 ``(N, H, W)``.
            style: ``(N, looks + 4)``; None for the first look's average.
            strength: 0 (the render, exactly) to 1; one for all or ``(N,)``.
            edges: ``(N, P, H, W)`` in 0..1; None for zeros.
        """
        if style is None:
            style = self.style().to(rgb.device).expand(len(rgb), -1)
        graded, bands = self.graded(rgb, labels, style)
        gains, drawn = self.find_changes(graded, labels, style, edges)
        made = self.detailed(graded, labels, gains, bands)
        made = made if drawn is None else made + drawn
        if isinstance(strength, float) and strength == 1:
            return made
        share = strength.view(-1, 1, 1, 1) if isinstance(strength, Tensor) else strength
        return rgb + share * (made - rgb)

    def graded(self, rgb: Tensor, labels: Tensor, style: Tensor) -> tuple[Tensor, Tensor]:
        """The render with its look's light and colour, float32 ``(N, 3, H, W)``, and its bands' gains as logarithms."""
        tables = self._tables(style.float())
        count = tables.shape[1]
        first = count * torch.arange(len(labels), device=rgb.device, dtype=torch.int32).view(-1, 1, 1)
        planes = F.embedding(labels[:, ::2, ::2].int() + first, tables.reshape(-1, GRADE)).permute(0, 3, 1, 2)
        # A border of two pixels: wider ones are seen as halos around trees, narrower ones as a cut.
        planes = self.grade_up(planes, 0)
        # gain * luma + vivid * (rgb - luma) + offset, in fewer passes over the picture
        gain, vivid = planes[:, 0:1], planes[:, 1:2]
        toned = torch.addcmul(torch.addcmul(planes[:, 2:TONE], gain - vivid, luma_of(rgb)), rgb, vivid)
        return toned, planes[:, TONE:]

    def _tables(self, style: Tensor) -> Tensor:
        """The grade of each picture ``(N, classes, 9)``, its tone varied as its style says."""
        tables = torch.einsum("nl,lck->nck", style[:, : self.looks], self.grades)
        light, contrast, colour, warmth = (
            spread * style[:, self.looks + i, None, None] for i, spread in enumerate(CAMERA_SPREAD)
        )
        gain, vivid, red, green, blue = (tables[:, :, i : i + 1] for i in range(TONE))
        tone = gain + contrast, vivid * (1 + colour), red + light + warmth, green + light, blue + light - warmth
        parts = *tone, tables[:, :, TONE:]
        return torch.cat(parts, 2)

    def detailed(self, picture: Tensor, labels: Tensor, gains: Tensor, bands: Tensor | None = None) -> Tensor:
        """A graded render, or a photograph, with its detail scaled by :meth:`find_gains`' result.

        ``bands`` are :meth:`graded`'s; None for a photograph.
        """
        most = F.embedding(labels.int(), self.detail[:, None]).permute(0, 3, 1, 2)
        luma = luma_of(picture)
        factors = most * torch.tanh(gains)
        factors = factors if bands is None else factors + bands
        added = (torch.expm1(factors) * self.bands(luma)).sum(1, keepdim=True)
        white = 1 + 2 * BLACK
        share: Tensor = added / (luma + white).clamp_min(2 * BLACK)
        return torch.addcmul(picture, picture + white, share)  # alike for red, green and blue, which keeps the hue

    def find_gains(self, picture: Tensor, labels: Tensor, style: Tensor, edges: Tensor | None = None) -> Tensor:
        """Gains before their bound, float32 ``(N, 4, H, W)``: 0 changes nothing, 2 is nearly the bound of the class.

        ``picture`` is graded, or a photograph; the rest as in :meth:`forward`.
        """
        return self.find_changes(picture, labels, style, edges)[0]

    def find_changes(
        self, picture: Tensor, labels: Tensor, style: Tensor, edges: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """:meth:`find_gains`, and what is drawn on top, float32 ``(N, 3, H, W)``; None if the network does not draw."""
        seen = self._seen(picture, edges)
        x4, x2 = self._decode(seen, labels, style[:, : self.looks])
        gains: Tensor = self.gains(x4)
        for double in self.gains_up:
            gains = double(gains, 0)
        drawn = None if self.pencil is None else self.pencil(x4, x2).float()
        return GAIN_SCALE * gains.float(), drawn

    def _decode(self, seen: Tensor, labels: Tensor, looks: Tensor) -> tuple[Tensor, Tensor]:
        """What the network knows at stride 4, and the render's own features at stride 2."""
        embedded, style = self.embed(labels).to(seen.dtype), STYLE_GAIN * looks.to(seen.dtype)
        at8 = F.relu(self.labels8(embedded) + self.style8(style)[:, :, None, None])
        x2 = self.down2(concatenate([unshuffle(seen), embedded]))
        x4 = self.down4(x2)
        x8 = self.down8(x4)
        x = self.trunk16(self.down16(x8), F.relu(self.labels16(at8)))
        x = self.trunk8(self.up8(x, x8), at8)
        return self.out4(self.up4(x, x4)), x2

    def _seen(self, rgb: Tensor, edges: Tensor | None) -> Tensor:
        """What the network sees at full resolution."""
        n, _, h, w = rgb.shape
        planes = [rgb]
        if self.operator is not None:
            planes.append(rgb.new_zeros(n, self.planes - 3, h, w) if edges is None else edges)
        return torch.cat([plane.to(self.dtype) for plane in planes], 1)

    @torch.inference_mode()
    def translate(
        self,
        rgb: Tensor,
        labels: Tensor,
        style: Tensor | None = None,
        strength: Tensor | float = 1.0,
    ) -> Tensor:
        """The live path: uint8 ``(N, H, W, 3)`` of any size to the same; the rest as in :meth:`forward`."""
        h, w = labels.shape[1:]
        edges = None if self.operator is None else self.operator(rgb).float()
        picture = rgb.permute(0, 3, 1, 2).float() / 127.5 - 1
        picture, labels = pad_picture(picture), pad_picture(labels[:, None])[:, 0]
        edges = None if edges is None else pad_picture(edges)
        return to_pixels(self(picture, labels, style, strength, edges)[:, :, :h, :w])


class Pencil(nn.Module):
    """Draws what a render lacks, in RGB, from features at strides 2 and 4; draws nothing at the start."""

    def __init__(self, c2: int, c4: int) -> None:
        super().__init__()
        self.up2 = Up(c4, c2)
        self.out2 = ConvReLU(c2, c2)
        self.draw = nn.Conv2d(c2, 12, 3, 1, 1)
        nn.init.zeros_(self.draw.weight)
        nn.init.zeros_(self.draw.bias)  # type: ignore[arg-type]

    def forward(self, x4: Tensor, x2: Tensor) -> Tensor:
        """``(N, c4, H/4, W/4)`` and ``(N, c2, H/2, W/2)`` to ``(N, 3, H, W)``."""
        return F.pixel_shuffle(self.draw(self.out2(self.up2(x4, x2))), 2)


class LumaBands(nn.Module):
    """Splits luma into four bands, finest first, each limited to about :data:`STRONG`.

    The two coarse ones come from half and quarter resolution, behind a Gaussian that leaves nothing to alias.
    """

    fine: Tensor
    wide: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("fine", _gaussian(0.8, 2), persistent=False)
        self.register_buffer("wide", _gaussian(1.39, 4), persistent=False)  # 1.39^2 + 0.8^2 = 1.6^2
        self.enlarge = BilinearDoubling(1)

    def forward(self, luma: Tensor) -> Tensor:
        """``(N, 1, H, W)``, H and W multiples of 4, to ``(N, 4, H, W)``."""
        with torch.autocast(luma.device.type, enabled=False):  # bfloat16 would make bands of its own rounding
            first = _blur(luma, self.fine)
            second = _blur(first, self.wide)
            half = _blur(F.avg_pool2d(second, 2), self.wide)
            quarter = _blur(F.avg_pool2d(half, 2), self.wide)
            third, fourth = self.enlarge(half, 0), self.enlarge(self.enlarge(quarter, 0), 0)
        bands = torch.cat([luma - first, first - second, second - third, third - fourth], 1)
        limited: Tensor = STRONG * torch.tanh(bands / STRONG)
        return limited


def _gaussian(sigma: float, reach: int) -> Tensor:
    line = torch.exp(-(torch.arange(-reach, reach + 1.0) ** 2) / (2 * sigma**2))
    return line / line.sum()


def _blur(plane: Tensor, line: Tensor) -> Tensor:
    """A separable blur of ``(N, 1, H, W)``, the border repeated outwards."""
    line = line.float() / line.float().sum()  # bfloat16's rounding must not make a flat surface anything else
    x = extend(plane, len(line) // 2)
    return F.conv2d(F.conv2d(x, line.view(1, 1, 1, -1)), line.view(1, 1, -1, 1))


def pad_picture(planes: Tensor) -> Tensor:
    """Repeats the last row and column of ``(N, C, H, W)``, any type, up to multiples of :data:`STRIDE`."""
    h, w = planes.shape[2:]
    bottom, right = -h % STRIDE, -w % STRIDE
    if not (bottom or right):
        return planes
    rows = torch.arange(h + bottom, device=planes.device).clamp_(max=h - 1)
    columns = torch.arange(w + right, device=planes.device).clamp_(max=w - 1)
    return planes.index_select(2, rows).index_select(3, columns)
