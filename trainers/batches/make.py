"""Training batches: tensors made of samples and of what was drawn for them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, repeat
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.layers import label_boundary
from sim_bridge.frames import ByteArray
from trainers.batches.degrade import Degradation, apply_degradation
from trainers.batches.draw import Colour, Place
from trainers.batches.held import FrameSource, LazySample, SampleSource
from trainers.batches.sample import Sample


class Batch(NamedTuple):
    """N clips of T frames each; M = N * T, the frames of a clip one after the other.

    Attributes:
        x: The photographs, RGB ``(M, 3, H, W)`` in -1..1.
        s: Their labels, uint8 ``(M, H, W)``; all void where ``labelled`` is False.
        e: E(x), ``(M, P, H, W)``, 0 or 1.
        e_degraded: The map that DNED sees, as ``e``.
        hint_rgb: The pictures that colour hints are taken from, as ``x``.
        borders: Where instances end, ``(M, 1, H, W)``, 0 or 1; ``(M, 0, H, W)`` where the recipe needs no instances.
        labelled: Which frames have labels, bool ``(N, T)``.
        flow: Exact motion to the next frame, float32 ``(N, T-1, 2, H, W)``, pixels to the right and down; NaN where it
            is hidden or outside the crop. ``(N, 0, 2, H, W)`` where the data set has none.
    """

    x: Tensor
    s: Tensor
    e: Tensor
    e_degraded: Tensor
    hint_rgb: Tensor
    borders: Tensor
    labelled: Tensor
    flow: Tensor

    @property
    def frames(self) -> int:
        """T."""
        return self.labelled.shape[1]

    def to(self, device: torch.device) -> Batch:
        """The batch on a device, pictures channels-last."""
        moved = [t.to(device, non_blocking=True) for t in self]
        for i in (0, 4):
            moved[i] = moved[i].contiguous(memory_format=torch.channels_last)
        return Batch(*moved)

    def part(self, clips: slice) -> Batch:
        """Some of its clips."""
        frames = [self.by_clip(t)[clips].flatten(0, 1) for t in self[:6]]
        return Batch(*[*frames, self.labelled[clips], self.flow[clips]])

    def by_clip(self, values: Tensor) -> Tensor:
        """Values of all frames ``(M, ...)``, viewed as ``(N, T, ...)``."""
        return values.view(*self.labelled.shape, *values.shape[1:])

    def per_frame(self, values: Tensor) -> Tensor:
        """What was drawn for each clip ``(N, ...)``, repeated for its frames: ``(M, ...)``."""
        return values if self.frames == 1 else values.repeat_interleave(self.frames, 0)


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
    """Cuts crops of ``(width, height)`` out of samples and does to all frames of a sample what was drawn for it."""
    clips = [[_cut(frame, place, size) for frame in clip.frames] for clip, place in zip(samples, places, strict=True)]
    crops, length = list(chain.from_iterable(clips)), len(clips[0])
    colours = [colour for place in places for colour in repeat(place.colour, length)]
    drawn = [degradation for one in degradations for degradation in repeat(one, length)]
    # Edges are those of the picture before its colours are changed: they say what is where, and must not say in
    # which light, or G would read the light off them that it is to be independent of.
    x = _as_tensor([coloured(c.rgb, colour) for c, colour in zip(crops, colours, strict=True)])
    hint_rgb = x
    if any(c.shown_rgb is not c.rgb for c in crops):
        hint_rgb = _as_tensor([coloured(c.shown_rgb, colour) for c, colour in zip(crops, colours, strict=True)])
    shown = [c.shown if d is None else apply_degradation(c, d) for c, d in zip(crops, drawn, strict=True)]
    return Batch(
        x,
        torch.from_numpy(np.stack([c.labels for c in crops])),
        torch.from_numpy(np.stack([c.edges for c in crops])).float(),
        torch.from_numpy(np.stack(shown)).float(),
        hint_rgb,
        _borders(crops),
        torch.tensor([[frame.labelled for frame in clip] for clip in clips]),
        _flow(clips, size),
    )


def _borders(crops: Sequence[Sample]) -> Tensor:
    instances = [crop.instances for crop in crops if crop.instances is not None]
    if not instances:
        return torch.zeros(len(crops), 0, *crops[0].labels.shape)
    return label_boundary(torch.from_numpy(np.stack(instances).astype(np.int32)))[:, None].float()


def _flow(clips: Sequence[Sequence[Sample]], size: tuple[int, int]) -> Tensor:
    motions = [frame.flow for clip in clips for frame in clip[:-1] if frame.flow is not None]
    if not motions:
        return torch.zeros(len(clips), 0, 2, *size[::-1])
    stacked = torch.from_numpy(np.stack(motions)).permute(0, 3, 1, 2)
    return stacked.reshape(len(clips), -1, 2, *size[::-1])


def _as_tensor(pictures: Sequence[ByteArray | npt.NDArray[np.float32]]) -> Tensor:
    """``(H, W, 3)`` each, 0 to 255, to ``(N, 3, H, W)`` in -1..1."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def _cut(frame: FrameSource, place: Place, size: tuple[int, int]) -> Sample:
    if isinstance(frame, LazySample):
        frame = frame.scaled(place.scale)
    return frame.crop(place.top, place.left, size[1], size[0], flip=place.flip)
