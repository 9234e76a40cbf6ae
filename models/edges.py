"""The edge operator E(x): a spatial Laplacian with a threshold (S-Flow GAN, section 3.2).

Grey values, blur, Laplacian and box sums are integer arithmetic, so a CPU gives the same map for any batch size,
thread count or tiling, and the same as OpenCV's operator. Training and the live bridge call this one module.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import torch
from torch import Tensor, nn

_GREY_SHIFT: Final = 15
# OpenCV's fixed-point weights of R, G and B; they sum to 2**15.
_GREY_RGB: Final = (9798, 19235, 3735)
_BLUR_UNIT: Final = 256
"""Sum of the fixed-point Gaussian along one axis; a blurred value is in units of 1/65536 grey level."""


@dataclass(frozen=True, slots=True)
class EdgeSettings:
    """Settings of the edge operator; they belong to a bundle's card.

    The default is the paper's: the plain 4-neighbour Laplacian with a threshold.

    Attributes:
        threshold: In grey levels for the plain operator; with contrast normalisation, in units of the local contrast.
        blur: Standard deviation of the Gaussian before the Laplacian, pixels; 0 for none.
        kernel: 1 for the 4-neighbour Laplacian, 3 for OpenCV's ``ksize=3``.
        contrast_window: Odd side of the box in which the local standard deviation is taken, pixels; 0 for no
            normalisation.
        contrast_floor: Added to the local standard deviation, grey levels, so that flat areas do not amplify noise.
        signed: Two planes, dark side (L > 0) and bright side (L < 0) of an edge, instead of one.
        coarse_blur: Standard deviation of a second, coarser Gaussian, pixels, whose edges are further planes; 0 for
            none.
    """

    threshold: float = 25.0
    blur: float = 0.0
    kernel: int = 1
    contrast_window: int = 0
    contrast_floor: float = 6.0
    signed: bool = False
    coarse_blur: float = 0.0

    def __post_init__(self) -> None:
        if not (self.threshold >= 0 and self.blur >= 0 and self.contrast_floor > 0):
            raise ValueError(f"edge settings must not be negative and contrast_floor above 0, got {self}")
        if self.kernel not in (1, 3):
            raise ValueError(f"edge kernel is {self.kernel}, known are 1 and 3")
        if self.contrast_window and (self.contrast_window % 2 == 0 or not 3 <= self.contrast_window <= 63):
            raise ValueError(f"edge contrast_window is {self.contrast_window}, it must be 0 or odd from 3 to 63")
        if self.coarse_blur and not self.coarse_blur > self.blur > 0:
            raise ValueError(
                f"edge coarse_blur is {self.coarse_blur}, it must be above blur {self.blur}, and that above 0"
            )

    @property
    def planes(self) -> int:
        """Number of edge planes: of each scale 1, or 2 when signed."""
        return len(self.scales) * (2 if self.signed else 1)

    @property
    def scales(self) -> tuple[EdgeSettings, ...]:
        """Those of one scale each, fine to coarse.

        A wider Gaussian makes the Laplacian of the same step smaller, by the square of the widths; the threshold
        follows (scale-normalised derivatives, Lindeberg 1998, section 3).
        """
        fine = replace(self, coarse_blur=0.0)
        if not self.coarse_blur:
            return (fine,)
        threshold = self.threshold * (self.blur / self.coarse_blur) ** 2
        return fine, replace(fine, blur=self.coarse_blur, threshold=threshold)

    def as_dict(self) -> dict[str, Any]:
        """The settings as plain values for a card."""
        return asdict(self)


def grey(rgb: Tensor) -> Tensor:
    """Luma of an RGB picture, bit-exact OpenCV ``COLOR_RGB2GRAY``.

    Args:
        rgb: uint8 ``(N, H, W, 3)``.

    Returns:
        int32 ``(N, H, W)`` in 0..255.
    """
    r, g, b = rgb.to(torch.int32).unbind(-1)
    wr, wg, wb = _GREY_RGB
    return (r * wr + g * wg + b * wb + (1 << (_GREY_SHIFT - 1))) >> _GREY_SHIFT


def gaussian_weights(sigma: float) -> list[int]:
    """Half of a fixed-point Gaussian, centre first; the whole kernel sums to 256."""
    radius = max(1, math.ceil(3 * sigma))
    real = [math.exp(-0.5 * (i / sigma) ** 2) for i in range(radius + 1)]
    total = real[0] + 2 * sum(real[1:])
    half = [round(_BLUR_UNIT * v / total) for v in real]
    while len(half) > 2 and half[-1] == 0:
        half.pop()
    half[0] = _BLUR_UNIT - 2 * sum(half[1:])
    return half


def _reflect(x: Tensor, pad: int) -> Tensor:
    """Pads ``(N, H, W)`` by mirroring without repeating the border pixel (OpenCV's default), for any H, W >= 1."""
    for dim in (1, 2):
        n = x.shape[dim]
        i = torch.arange(-pad, n + pad, device=x.device)
        period = max(1, 2 * (n - 1))
        i = i.remainder(period)
        x = x.index_select(dim, torch.minimum(i, period - i) if n > 1 else torch.zeros_like(i))
    return x


def _filter_axis(x: Tensor, half: list[int], dim: int) -> Tensor:
    """Correlates with a symmetric integer kernel along ``dim``; the result is shorter by ``2 * (len(half) - 1)``."""
    radius = len(half) - 1
    n = x.shape[dim] - 2 * radius
    out = x.narrow(dim, radius, n) * half[0]
    for k in range(1, radius + 1):
        out.add_(x.narrow(dim, radius - k, n) + x.narrow(dim, radius + k, n), alpha=half[k])
    return out


def _box_axis(x: Tensor, window: int, dim: int) -> Tensor:
    """Sums of ``window`` neighbours along ``dim`` by doubling: log2(window) additions, all of them integer."""
    n = x.shape[dim] - window + 1
    out: Tensor | None = None
    taken, width, sums = 0, 1, x
    while True:
        if window & width:
            part = sums.narrow(dim, taken, n)
            out = part if out is None else out + part
            taken += width
        if taken == window:
            break
        sums = sums.narrow(dim, 0, sums.shape[dim] - width) + sums.narrow(dim, width, sums.shape[dim] - width)
        width *= 2
    assert out is not None
    return out


def _box(x: Tensor, window: int) -> Tensor:
    return _box_axis(_box_axis(x, window, 1), window, 2)


def _crop(x: Tensor, margin: int) -> Tensor:
    """Takes ``margin`` pixels off every side."""
    return x[:, margin : x.shape[1] - margin, margin : x.shape[2] - margin]


class ScaleOperator:
    """The operator at one scale."""

    def __init__(self, settings: EdgeSettings) -> None:
        self.settings = settings
        self._gauss = gaussian_weights(self.settings.blur) if self.settings.blur > 0 else [1]
        self._unit = _BLUR_UNIT**2 if self.settings.blur > 0 else 1

    @property
    def margin(self) -> int:
        """How far the operator looks beyond a pixel."""
        return max(len(self._gauss), self.settings.contrast_window // 2)

    def response(self, mirrored: Tensor) -> Tensor:
        """The Laplacian of the blurred grey picture.

        Args:
            mirrored: int32 ``(N, H + 2 m, W + 2 m)`` grey levels in 0..255 with a mirrored border of m =
                :attr:`margin`.

        Returns:
            int32 ``(N, H, W)`` in units of ``1/65536`` grey level with blur, of 1 grey level without.
        """
        radius = len(self._gauss) - 1
        x = _crop(mirrored, self.margin - radius - 1)
        if radius:
            x = _filter_axis(_filter_axis(x, self._gauss, 1), self._gauss, 2)
        centre, up, down, middle = x[:, 1:-1, 1:-1], x[:, :-2], x[:, 2:], x[:, 1:-1]
        if self.settings.kernel == 1:
            return (up + down)[..., 1:-1] + middle[..., :-2] + middle[..., 2:] - 4 * centre
        rows = up + down
        return 2 * (rows[..., :-2] + rows[..., 2:]) - 8 * centre

    def limit(self, mirrored: Tensor) -> Tensor | int:
        """What ``|response|`` must exceed to be an edge, in the response's unit: a number, or float64 ``(N, H, W)``.

        Args:
            mirrored: As for :meth:`response`.
        """
        s = self.settings
        if not s.contrast_window:
            return math.floor(s.threshold * self._unit)
        window, area = s.contrast_window, s.contrast_window**2
        x = _crop(mirrored, self.margin - window // 2)
        # The sums are below 2**28, the products below 2**41: area^2 * variance is exact in float64.
        first, second = _box(x, window).to(torch.float64), _box(x * x, window).to(torch.float64)
        deviation = torch.addcmul(second.mul_(area), first, first, value=-1).sqrt_()
        scale = s.threshold * self._unit
        return deviation.mul_(scale / area).add_(s.contrast_floor * scale)

    def measure(self, rgb: Tensor) -> tuple[Tensor, Tensor | int]:
        """Response and limit of RGB pictures uint8 ``(N, H, W, 3)``; an edge is where ``|response| > limit``."""
        mirrored = _reflect(grey(rgb), self.margin)
        return self.response(mirrored), self.limit(mirrored)

    def edges(self, rgb: Tensor) -> list[Tensor]:
        """Edge planes bool ``(N, H, W)`` of RGB pictures: one, or the dark and the bright side."""
        response, limit = self.measure(rgb)
        return [response > limit, response < -limit] if self.settings.signed else [response.abs() > limit]


class LaplacianEdges(nn.Module):
    """E(x) with the settings of a bundle's card. It has no parameters."""

    def __init__(self, settings: EdgeSettings | None = None) -> None:
        super().__init__()
        self.settings = settings or EdgeSettings()
        self.scales = tuple(ScaleOperator(scale) for scale in self.settings.scales)

    @property
    def margin(self) -> int:
        """How far the operator looks beyond a pixel."""
        return max(scale.margin for scale in self.scales)

    @torch.no_grad()
    def forward(self, rgb: Tensor) -> Tensor:
        """Edge planes of RGB pictures.

        Args:
            rgb: uint8 ``(N, H, W, 3)``.

        Returns:
            bool ``(N, P, H, W)``; P is 1, or 2 (dark side, bright side) when signed, for each scale, fine to coarse.
        """
        return torch.stack([plane for scale in self.scales for plane in scale.edges(rgb)], 1)
