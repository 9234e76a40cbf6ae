"""Segmentation networks: one whose features train the generator, one that only judges it.

The two have different architectures on purpose: a judge that shared its network with a loss would reward what the
loss rewards.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _block(c_in: int, c_out: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, stride, dilation, dilation, bias=False), nn.BatchNorm2d(c_out), nn.ReLU(inplace=True)
    )


def _grow(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="nearest")


class Segmenter(nn.Module):
    """Base of the segmentation networks.

    Args:
        classes: Number of classes, the ignored one included.
        width: Channels at full resolution (or at stride 2).
    """

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.args: dict[str, Any] = {"classes": classes, "width": width}

    def features(self, image: Tensor) -> list[Tensor]:
        """Feature maps of RGB ``(N, 3, H, W)`` in -1..1, fine to coarse."""
        raise NotImplementedError

    @torch.inference_mode()
    def predict(self, rgb: Tensor) -> Tensor:
        """Class ids uint8 ``(N, H, W)`` of RGB uint8 ``(N, H, W, 3)``; H and W multiples of 16."""
        x = rgb.permute(0, 3, 1, 2).to(next(self.parameters()).dtype).div(127.5).sub(1)
        logits: Tensor = self(x.contiguous(memory_format=torch.channels_last))
        return logits.argmax(1).to(torch.uint8)


class UNetSegmenter(Segmenter):
    """A small U-Net; its encoder gives five perceptual features at strides 1 to 16."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__(classes, width)
        c = [width, 2 * width, 4 * width, 6 * width, 8 * width]
        self.encoder = nn.ModuleList(
            [nn.Sequential(_block(3, c[0]), _block(c[0], c[0]))]
            + [nn.Sequential(_block(a, b, 2), _block(b, b)) for a, b in pairwise(c)]
        )
        self.up8 = _block(c[4] + c[3], c[2])
        self.up4 = _block(c[2] + c[2], c[1])
        self.up2 = _block(c[1] + c[1], c[1])
        self.classify = nn.Conv2d(c[1], classes, 1)

    def features(self, image: Tensor) -> list[Tensor]:
        """Five maps, strides 1, 2, 4, 8, 16."""
        out = []
        for stage in self.encoder:
            image = stage(image)
            out.append(image)
        return out

    def forward(self, image: Tensor) -> Tensor:
        """Logits ``(N, classes, H, W)``."""
        _, b, c, d, e = self.features(image)
        x = self.up8(torch.cat([_grow(e, d), d], 1))
        x = self.up4(torch.cat([_grow(x, c), c], 1))
        x = self.up2(torch.cat([_grow(x, b), b], 1))
        return F.interpolate(self.classify(x), scale_factor=2, mode="bilinear", align_corners=False)


class PyramidSegmenter(Segmenter):
    """A dilated backbone at stride 8 with pyramid pooling (as PSPNet has it) and one fine skip."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__(classes, width)
        w = width
        self.stem = nn.Sequential(_block(3, w, 2), _block(w, w))
        self.stride4 = nn.Sequential(_block(w, 2 * w, 2), _block(2 * w, 2 * w))
        self.stride8 = nn.Sequential(
            _block(2 * w, 4 * w, 2),
            _block(4 * w, 4 * w),
            _block(4 * w, 4 * w, dilation=2),
            _block(4 * w, 4 * w, dilation=4),
        )
        self.pyramid = nn.ModuleList([nn.Conv2d(4 * w, w, 1) for _ in (1, 2, 4)])
        self.mix = _block(4 * w + 3 * w, 4 * w)
        self.refine = _block(4 * w + 2 * w, 2 * w)
        self.classify = nn.Conv2d(2 * w, classes, 1)

    def features(self, image: Tensor) -> list[Tensor]:
        """Three maps, strides 2, 4, 8."""
        a = self.stem(image)
        b = self.stride4(a)
        return [a, b, self.stride8(b)]

    def forward(self, image: Tensor) -> Tensor:
        """Logits ``(N, classes, H, W)``."""
        _, b, c = self.features(image)
        pooled = [
            _grow(F.relu(conv(F.adaptive_avg_pool2d(c, bins))), c)
            for conv, bins in zip(self.pyramid, ((1, 1), (2, 2), (4, 4)), strict=True)
        ]
        x = self.mix(torch.cat([c, *pooled], 1))
        x = self.refine(torch.cat([F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False), b], 1))
        return F.interpolate(self.classify(x), scale_factor=4, mode="bilinear", align_corners=False)


SEGMENTERS: dict[str, type[Segmenter]] = {"unet-segmenter": UNetSegmenter, "pyramid-segmenter": PyramidSegmenter}
