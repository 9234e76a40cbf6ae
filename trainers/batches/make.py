"""Training batches: tensors made of samples and of what was drawn for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.layers import label_boundary
from sim_bridge.frames import ByteArray
from trainers.batches.degrade import Degradation, apply_degradation
from trainers.batches.draw import Colour, Place
from trainers.batches.held import LazySample, SampleSource
from trainers.batches.sample import Sample


class Batch(NamedTuple):
    """One training batch.

    Attributes:
        x: The photographs, RGB ``(N, 3, H, W)`` in -1..1.
        s: Their labels, uint8 ``(N, H, W)``.
        e: E(x), ``(N, P, H, W)``, 0 or 1.
        e_degraded: The map DNED is shown, likewise.
        hint_rgb: The pictures that colour hints are taken from, as ``x``.
        borders: Where instances end, ``(N, 1, H, W)``, 0 or 1; ``(N, 0, H, W)`` where nobody asked for instances.
    """

    x: Tensor
    s: Tensor
    e: Tensor
    e_degraded: Tensor
    hint_rgb: Tensor
    borders: Tensor

    def to(self, device: torch.device) -> Batch:
        """The batch on a device, pictures channels-last."""
        moved = [t.to(device, non_blocking=True) for t in self]
        for i in (0, 4):
            moved[i] = moved[i].contiguous(memory_format=torch.channels_last)
        return Batch(*moved)

    def part(self, samples: slice) -> Batch:
        """Some of its samples."""
        return Batch(*(t[samples] for t in self))


def coloured(rgb: ByteArray, colour: Colour | None) -> ByteArray | npt.NDArray[np.float32]:
    """A picture ``(H, W, 3)`` with its colours changed, in 0..255; itself where there is nothing to change."""
    if colour is None:
        return rgb
    gain, shift = colour
    changed: npt.NDArray[np.float64] = rgb.astype(np.float32) * gain + shift
    return np.clip(changed, 0, 255).astype(np.float32)


def make_batch(
    samples: Sequence[SampleSource],
    places: Sequence[Place],
    degradations: Sequence[Degradation | None],
    size: tuple[int, int],
) -> Batch:
    """Cuts crops of ``(width, height)`` out of samples and does to them what was drawn."""
    crops = [_cut(sample, place, size) for sample, place in zip(samples, places, strict=True)]
    # Edges are those of the picture before its colours are changed: they say what stands where, and must not say in
    # which light, or G would read the light off them that it is to be independent of.
    x = _as_tensor([coloured(c.rgb, place.colour) for c, place in zip(crops, places, strict=True)])
    hint_rgb = x
    if any(c.shown_rgb is not c.rgb for c in crops):
        hint_rgb = _as_tensor([coloured(c.shown_rgb, place.colour) for c, place in zip(crops, places, strict=True)])
    shown = [c.shown if d is None else apply_degradation(c, d) for c, d in zip(crops, degradations, strict=True)]
    return Batch(
        x,
        torch.from_numpy(np.stack([c.labels for c in crops])),
        torch.from_numpy(np.stack([c.edges for c in crops])).float(),
        torch.from_numpy(np.stack(shown)).float(),
        hint_rgb,
        _borders(crops),
    )


def _borders(crops: Sequence[Sample]) -> Tensor:
    instances = [crop.instances for crop in crops if crop.instances is not None]
    if not instances:
        return torch.zeros(len(crops), 0, *crops[0].labels.shape)
    return label_boundary(torch.from_numpy(np.stack(instances).astype(np.int32)))[:, None].float()


def _as_tensor(pictures: Sequence[ByteArray | npt.NDArray[np.float32]]) -> Tensor:
    """``(H, W, 3)`` each, 0 to 255, to ``(N, 3, H, W)`` in -1..1."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def _cut(sample: SampleSource, place: Place, size: tuple[int, int]) -> Sample:
    if isinstance(sample, LazySample):
        sample = sample.scaled(place.scale)
    return sample.crop(place.top, place.left, size[1], size[0], flip=place.flip)
