"""Building blocks shared by the networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Conv(nn.Conv2d):
    """A biased 3x3 convolution that starts as the identity plus a He-scaled perturbation.

    The start keeps deep chains trainable without normalisation, which would couple the frames of a batch.
    """

    def __init__(self, c_in: int, c_out: int, stride: int = 1, padding: int = 1) -> None:
        super().__init__(c_in, c_out, 3, stride, padding)
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")
        nn.init.zeros_(self.bias)  # type: ignore[arg-type]
        if c_in == c_out and stride == 1:
            with torch.no_grad():
                self.weight.mul_(0.3)
                self.weight[range(c_out), range(c_out), 1, 1] += 0.9


class ConvReLU(Conv):
    """:class:`Conv` and a ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        """``(N, c_in, H, W)`` to ``(N, c_out, H/stride, W/stride)``."""
        return F.relu(super().forward(x), inplace=not self.training)


def chain(c_in: int, c_out: int, count: int, stride: int = 1) -> nn.Sequential:
    """``count`` :class:`ConvReLU`; the first changes width and resolution."""
    return nn.Sequential(ConvReLU(c_in, c_out, stride), *(ConvReLU(c_out, c_out) for _ in range(count - 1)))


def space_to_depth_ids(ids: Tensor) -> Tensor:
    """Gathers 2x2 blocks, row by row: uint8 ``(N, H, W)``, H and W even, to ``(N, H/2, W/2, 4)``."""
    n, h, w = ids.shape
    if torch.compiler.is_exporting():  # a view as another type does not trace
        return ids.reshape(n, h // 2, 2, w // 2, 2).permute(0, 1, 3, 2, 4).reshape(n, h // 2, w // 2, 4)
    # Two neighbouring ids move as one 16-bit word: 15 times faster than moving bytes.
    words = ids.contiguous().view(torch.int16).view(n, h // 2, 2, w // 2)
    return words.transpose(2, 3).contiguous().view(torch.uint8)


class LabelEmbedding(nn.Module):
    """Class ids to vectors at half resolution: a low-rank convolution of a one-hot tensor, without the tensor."""

    def __init__(self, classes: int, dim: int) -> None:
        super().__init__()
        self.table = nn.Embedding(classes, dim)
        self.channels = 4 * dim

    def forward(self, ids: Tensor) -> Tensor:
        """uint8 ``(N, H, W)`` to channels-last ``(N, 4 dim, H/2, W/2)``."""
        n, h, w = ids.shape
        vectors = F.embedding(space_to_depth_ids(ids).int(), self.table.weight)
        return vectors.view(n, h // 2, w // 2, self.channels).permute(0, 3, 1, 2)


def label_boundary(ids: Tensor) -> Tensor:
    """Mask bool ``(N, H, W)`` of the pixels whose class or instance id differs from the left or upper neighbour's."""
    out = torch.zeros_like(ids, dtype=torch.bool)
    out[:, :, 1:] = ids[:, :, 1:] != ids[:, :, :-1]
    out[:, 1:] |= ids[:, 1:] != ids[:, :-1]
    return out


def concatenate(parts: Sequence[Tensor]) -> Tensor:
    """Concatenates ``(N, C_i, H, W)`` of any memory format along channels, channels last."""
    return torch.cat([p.permute(0, 2, 3, 1) for p in parts], 3).permute(0, 3, 1, 2)


def to_device(host: Tensor, device: torch.device) -> Tensor:
    """Sends a small host tensor in pinned memory, so that the host does not wait for the GPU's queue."""
    pinned = host.pin_memory() if (host.device.type, device.type) == ("cpu", "cuda") else host
    return pinned.to(device, non_blocking=True)


# Integer types as wide as two elements.
_PAIRS: Final = {torch.bfloat16: torch.int32, torch.float16: torch.int32, torch.float32: torch.int64}


def unshuffle(x: Tensor) -> Tensor:
    """Pixel unshuffle by two, ``(N, C, H, W)`` to channels-last ``(N, 4 C, H/2, W/2)``."""
    n, c, h, w = x.shape
    pair = None if x.requires_grad or torch.compiler.is_exporting() else _PAIRS.get(x.dtype)
    if pair is None:
        blocks = x.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5)
        return blocks.reshape(n, h // 2, w // 2, 4 * c).permute(0, 3, 1, 2)
    # Two neighbours in a row stay neighbours: they move as one word.
    words = x.contiguous().view(pair).view(n, c, h // 2, 2, w // 2).permute(0, 2, 4, 1, 3).contiguous()
    return words.view(x.dtype).view(n, h // 2, w // 2, 4 * c).permute(0, 3, 1, 2)


def extend(x: Tensor, margin: int) -> Tensor:
    """Repeats the border of ``(..., H, W)`` by ``margin`` pixels on each side; any element type."""
    for dim in (-2, -1):
        first = x.narrow(dim, 0, 1)
        last = x.narrow(dim, x.shape[dim] - 1, 1)
        x = torch.cat([*[first] * margin, x, *[last] * margin], dim)
    return x


def double(x: Tensor) -> Tensor:
    """Bilinear enlargement by two: ``interpolate``, but up to ten times as fast for few channels in bf16 on a CPU."""
    for dim in (2, 3):
        n = x.shape[dim]
        before = torch.cat([x.narrow(dim, 0, 1), x.narrow(dim, 0, n - 1)], dim)
        after = torch.cat([x.narrow(dim, 1, n - 1), x.narrow(dim, n - 1, 1)], dim)
        x = torch.stack([torch.lerp(x, before, 0.25), torch.lerp(x, after, 0.25)], dim + 1).flatten(dim, dim + 1)
    return x


LUMA: Final = (0.299, 0.587, 0.114)  # BT.601, as in JPEG and most video


def luma_of(rgb: Tensor) -> Tensor:
    """Luma ``(N, 1, H, W)`` of RGB ``(N, 3, H, W)``, of the same scale."""
    # By channel: a CUDA graph cannot capture the copy of a constant tensor, and autocast would multiply it in bf16.
    return LUMA[0] * rgb[:, 0:1] + LUMA[1] * rgb[:, 1:2] + LUMA[2] * rgb[:, 2:3]


def chroma_of(rgb: Tensor) -> tuple[Tensor, Tensor]:
    """Cb and Cr ``(N, 1, H, W)`` of RGB ``(N, 3, H, W)``, of half its scale."""
    luma = luma_of(rgb)
    return (rgb[:, 2:3] - luma) / (2 * (1 - LUMA[2])), (rgb[:, 0:1] - luma) / (2 * (1 - LUMA[0]))


class HalfChroma(nn.Module):
    """Halves the resolution of colour, as JPEG and video do (4:2:0), which removes fine colour noise."""

    SCALE: Final = 2  # luma resolution divided by chroma resolution

    luma: Tensor
    chroma: Tensor

    def __init__(self) -> None:
        super().__init__()
        luma = torch.tensor(LUMA)
        self.register_buffer("luma", luma[None, :, None, None].repeat(3, 1, 1, 1), persistent=False)
        difference = torch.eye(3) - luma  # channel less luma
        self.register_buffer("chroma", difference[..., None, None].expand(3, 3, 2, 2) / 4, persistent=False)
        self.enlarge = BilinearDoubling(3)

    def forward(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        """RGB ``(N, 3, H, W)`` in -1..1, H and W even, to the same; adds channels less luma ``(N, 3, H/2, W/2)``."""
        light, colour = F.conv2d(x, self.luma.to(x.dtype)), F.conv2d(x, self.chroma.to(x.dtype), stride=self.SCALE)
        if added is not None:
            colour = colour + added.to(x.dtype)
        enlarged: Tensor = self.enlarge(colour, 0)
        return (light + enlarged).clamp_(-1, 1)


class BilinearDoubling(nn.Module):
    """Bilinear enlargement by two as a transposed convolution with fixed weights; fast for many channels."""

    weight: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        line = torch.tensor([0.25, 0.75, 0.75, 0.25])
        kernel = torch.zeros(channels, channels, 4, 4)
        kernel[range(channels), range(channels)] = line[:, None] * line
        self.register_buffer("weight", kernel, persistent=False)

    def forward(self, x: Tensor, margin: int) -> Tensor:
        """``(N, C, H, W)`` to ``(N, C, 2 H + 2 margin, 2 W + 2 margin)``, the border repeated outwards."""
        half = margin // 2 + 1
        big = F.conv_transpose2d(extend(x, half), self.weight.to(x.dtype), stride=2, padding=1)
        return big[:, :, 2:-2, 2:-2]
