"""The edge operator E(x): a Laplacian with a threshold (S-Flow GAN, section 3.2).

Grey values, blur, Laplacian and box sums are integers, so batch size, threads and tiling never change the map.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import torch
from torch import Tensor, nn

_GREY_SHIFT: Final = 15
_GREY_RGB: Final = (9798, 19235, 3735)  # OpenCV's fixed-point weights; they sum to 2**15
_MAX_BLUR: Final = 64.0  # pixels; wider Gaussians lose their tails to the fixed point
_MAX_THRESHOLD: Final = 10_000.0  # grey levels; no Laplacian reaches it, and 65536 times it is an int32
_BLUR_UNIT: Final = 256  # sum of the fixed-point Gaussian along one axis


@dataclass(frozen=True, slots=True)
class EdgeSettings:
    """Settings of the edge operator, stored in a bundle's card; the paper's by default."""

    threshold: float = 25.0  # grey levels; with a contrast window, in units of the local contrast
    blur: float = 0.0  # standard deviation of the Gaussian before the Laplacian, pixels; 0 for none
    kernel: int = 1  # 1: the 4-neighbour Laplacian; 3: OpenCV's ksize=3
    contrast_window: int = 0  # odd side of the box that gives the local standard deviation, pixels; 0 for none
    contrast_floor: float = 6.0  # grey levels added to that deviation, so that flat areas do not amplify noise
    signed: bool = False  # two planes, the dark (L > 0) and the bright side (L < 0) of an edge, instead of one
    coarse_blur: float = 0.0  # standard deviation of a second Gaussian that adds coarser planes, pixels; 0 for none

    def __post_init__(self) -> None:
        for name, most in (("threshold", _MAX_THRESHOLD), ("blur", _MAX_BLUR), ("coarse_blur", _MAX_BLUR)):
            if not 0 <= (value := getattr(self, name)) <= most:
                raise ValueError(f"edge {name} is {value}, it must be from 0 to {most:g}")
        if not self.contrast_floor > 0:
            raise ValueError(f"edge contrast_floor is {self.contrast_floor}, it must be above 0")
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
        """Number of edge planes P: one a scale, or two when signed."""
        return len(self.scales) * (2 if self.signed else 1)

    @property
    def scales(self) -> tuple[EdgeSettings, ...]:
        """The settings of each scale, fine to coarse."""
        fine = replace(self, coarse_blur=0.0)
        if not self.coarse_blur:
            return (fine,)
        # The Laplacian of a step shrinks with the square of the width (Lindeberg 1998, section 3).
        threshold = self.threshold * (self.blur / self.coarse_blur) ** 2
        return fine, replace(fine, blur=self.coarse_blur, threshold=threshold)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a card."""
        return asdict(self)


def grey(rgb: Tensor) -> Tensor:
    """Luma int32 ``(N, H, W)`` in 0..255 of uint8 ``(N, H, W, 3)``, bit-exact OpenCV ``COLOR_RGB2GRAY``."""
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
    """Mirrors the border of ``(N, H, W)`` without repeating its last pixel (OpenCV's default), for any H, W >= 1."""
    for dim in (1, 2):
        n = x.shape[dim]
        i = torch.arange(-pad, n + pad, device=x.device)
        period = max(1, 2 * (n - 1))
        i = i.remainder(period)
        x = x.index_select(dim, torch.minimum(i, period - i) if n > 1 else torch.zeros_like(i))
    return x


def _filter_axis(x: Tensor, half: list[int], dim: int) -> Tensor:
    """Correlates with a symmetric kernel along ``dim``, which shrinks by ``2 * (len(half) - 1)``."""
    radius = len(half) - 1
    n = x.shape[dim] - 2 * radius
    out = x.narrow(dim, radius, n) * half[0]
    for k in range(1, radius + 1):
        out.add_(x.narrow(dim, radius - k, n) + x.narrow(dim, radius + k, n), alpha=half[k])
    return out


def _box_axis(x: Tensor, window: int, dim: int) -> Tensor:
    """Sums ``window`` neighbours along ``dim``, which shrinks by ``window - 1``, in log2(window) additions."""
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
    return x[:, margin : x.shape[1] - margin, margin : x.shape[2] - margin]


class ScaleOperator:
    """The operator at one scale."""

    def __init__(self, settings: EdgeSettings) -> None:
        self.settings = settings
        self._gauss = gaussian_weights(self.settings.blur) if self.settings.blur > 0 else [1]
        self._unit = _BLUR_UNIT**2 if self.settings.blur > 0 else 1

    @property
    def margin(self) -> int:
        """Pixels that the operator needs beyond each border."""
        return max(len(self._gauss), self.settings.contrast_window // 2)

    def response(self, mirrored: Tensor) -> Tensor:
        """The Laplacian int32 ``(N, H, W)``: in grey levels, or in 1/65536 of one after blur.

        Takes grey levels int32 ``(N, H + 2 m, W + 2 m)`` in 0..255 with a mirrored border of m = :attr:`margin`.
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
        """What ``|response|`` must exceed at an edge, in its unit: a number, or float64 ``(N, H, W)``."""
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
        """Response and limit of RGB uint8 ``(N, H, W, 3)``."""
        mirrored = _reflect(grey(rgb), self.margin)
        return self.response(mirrored), self.limit(mirrored)

    def edges(self, rgb: Tensor) -> list[Tensor]:
        """One plane bool ``(N, H, W)``, or the dark and the bright side."""
        response, limit = self.measure(rgb)
        return [response > limit, response < -limit] if self.settings.signed else [response.abs() > limit]


class LaplacianEdges(nn.Module):
    """E(x); it has no parameters."""

    def __init__(self, settings: EdgeSettings | None = None) -> None:
        super().__init__()
        self.settings = settings or EdgeSettings()
        self.scales = tuple(ScaleOperator(scale) for scale in self.settings.scales)

    @property
    def margin(self) -> int:
        """Pixels that the operator needs beyond each border."""
        return max(scale.margin for scale in self.scales)

    @torch.no_grad()
    def forward(self, rgb: Tensor) -> Tensor:
        """Edge planes bool ``(N, P, H, W)`` of uint8 ``(N, H, W, 3)``: fine before coarse, dark before bright."""
        return torch.stack([plane for scale in self.scales for plane in scale.edges(rgb)], 1)
