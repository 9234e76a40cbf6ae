"""The perceptual loss, eq. 6."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.nets.features import FeatureNetwork


class Perceptual(nn.Module):
    """L_percep, eq. 6: L1 between features of ``network``, which it freezes; mean over its P slices.

    Beyond the paper: ``blur`` both pictures by [1 2 1] x [1 2 1] first (a frozen strided network takes a checkerboard
    for texture), ``normalise`` each slice by the mean size of its real features, weigh slices other than by 1/P each.
    """

    kernel: Tensor | None

    def __init__(
        self,
        network: FeatureNetwork,
        *,
        blur: bool = True,
        normalise: bool = True,
        slice_weights: Sequence[float] = (),
    ) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self._normalise = normalise
        self._slice_weights = tuple(slice_weights)
        line = torch.tensor([1.0, 2.0, 1.0]) / 4
        kernel = (line[:, None] * line).expand(3, 1, 3, 3).contiguous() if blur else None
        self.register_buffer("kernel", kernel, persistent=False)

    def _prepare(self, image: Tensor) -> Tensor:
        if self.kernel is None:
            return image
        return F.conv2d(image, self.kernel.to(image.dtype), padding=1, groups=3)

    def forward(self, x: Tensor, fake: Tensor) -> Tensor:
        """The loss of ``fake`` against the photograph ``x``, both RGB ``(N, 3, H, W)`` in -1..1, by sample ``(N,)``.

        Raises ValueError when there are factors, but not one for each slice.
        """
        with torch.no_grad():
            wanted = self.network.features(self._prepare(x))
        got = self.network.features(self._prepare(fake))
        if len(self._slice_weights) not in (0, len(got)):
            raise ValueError(f"{len(self._slice_weights)} factors for a network of {len(got)} slices")
        factors = self._slice_weights or (1 / len(got),) * len(got)
        slices = [self._slice(w.float(), g.float()) * a for w, g, a in zip(wanted, got, factors, strict=True)]
        return torch.stack(slices).sum(0)

    def _slice(self, wanted: Tensor, got: Tensor) -> Tensor:
        difference = (wanted - got).abs().mean((1, 2, 3))
        return difference / (wanted.abs().mean() + 1e-3) if self._normalise else difference
