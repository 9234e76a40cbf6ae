"""Random training batches.

Either in order, each batch from the random generator that the last one left (the training process makes them itself),
or by number: batch t is a pure function of the recipe's seed and t, so that any process can make it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.layers import label_boundary
from sim_bridge.errors import SizeMismatchError, UsageError
from sim_bridge.frames import ByteArray
from trainers.batches.degrade import Degradation, apply_degradation, draw_degradation
from trainers.batches.held import Croppable, Held, Unprepared
from trainers.data.photograph import Sample
from trainers.data.problems import Problem
from trainers.loop.processes import own_share
from trainers.recipes.schema import DataRecipe, Recipe


class Batch(NamedTuple):
    """One training batch.

    Attributes:
        x: The photographs, RGB ``(N, 3, H, W)`` in -1..1.
        s: Their labels, uint8 ``(N, H, W)``.
        e: E(x), ``(N, P, H, W)``, 0 or 1.
        e_degraded: The map DNED is shown, likewise.
        seen: The pictures that colour hints are taken from, as ``x``.
        borders: Where instances end, ``(N, 1, H, W)``, 0 or 1; ``(N, 0, H, W)`` where nobody asked for instances.
    """

    x: Tensor
    s: Tensor
    e: Tensor
    e_degraded: Tensor
    seen: Tensor
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


Colour = tuple[npt.NDArray[np.float64], float]
"""Gain of each channel, and shift in grey levels."""


class Place(NamedTuple):
    """What was drawn for one crop.

    Attributes:
        scale: Factor by which the picture is resized first.
        top: First row.
        left: First column.
        flip: Whether it is mirrored.
        colour: Change of colours; None for none.
    """

    scale: float
    top: int
    left: int
    flip: bool
    colour: Colour | None


def draw_place(shape: tuple[int, ...], data: DataRecipe, rng: np.random.Generator) -> Place:
    """Draws scale, window, mirroring and colour of a crop; keys that are off draw nothing.

    Args:
        shape: Height and width of the picture.
        data: What may be drawn.
        rng: From which.

    Raises:
        UsageError: The crop does not fit into the picture.
    """
    scale = 1.0 if data.scale is None else float(np.exp(rng.uniform(*np.log(data.scale))))
    height, width = (round(side * scale) for side in shape)
    if width < data.crop[0] or height < data.crop[1]:
        raise UsageError(
            f"a picture is {width}x{height} when its crop is cut, but data.crop is {data.crop[0]}x{data.crop[1]}:"
            " lower data.crop, or set data.resize"
        )
    top, left = int(rng.integers(height - data.crop[1] + 1)), int(rng.integers(width - data.crop[0] + 1))
    flip = data.flip and bool(rng.random() < 0.5)
    if data.colour is None:
        return Place(scale, top, left, flip, None)
    gain = rng.uniform(1 - data.colour.gain, 1 + data.colour.gain, 3)
    return Place(scale, top, left, flip, (gain, float(rng.uniform(-data.colour.shift, data.colour.shift))))


def too_small_to_train(size: tuple[int, int], data: DataRecipe, file: Path) -> Problem | None:
    """A picture of that width and height that a crop does not fit into; of a ``resize`` the recipe itself was checked.

    Args:
        size: Width and height of the file's picture.
        data: How crops are cut.
        file: Its name.
    """
    factor = 1.0 if data.scale is None else data.scale[0]
    width, height = (round(side * factor) for side in data.resize or size)
    if width >= data.crop[0] and height >= data.crop[1]:
        return None
    sentence = (
        f"{file} is {size[0]}x{size[1]}, smaller than data.crop {data.crop[0]}x{data.crop[1]}"
        f"{'' if data.scale is None else f' at scale {factor}'}: lower data.crop, or set data.resize"
    )
    return Problem(file, SizeMismatchError(sentence))


def refuse_small_pictures(samples: Sequence[Croppable], data: DataRecipe) -> None:
    """Looks whether a crop fits into every sample that is held; what is streamed is met when it is drawn.

    Raises:
        SizeMismatchError: It does not fit into one, whose file is named.
    """
    if not isinstance(samples, Held) or data.resize is not None:
        return
    for index, sample in enumerate(samples.load()):
        height, width = sample.labels.shape
        if (problem := too_small_to_train((width, height), data, samples.data.files_of(index)[0])) is not None:
            raise problem.error


def coloured(rgb: ByteArray, colour: Colour | None) -> ByteArray | npt.NDArray[np.float32]:
    """A picture ``(H, W, 3)`` with its colours changed, in 0..255; itself where there is nothing to change."""
    if colour is None:
        return rgb
    gain, shift = colour
    changed: npt.NDArray[np.float64] = rgb.astype(np.float32) * gain + shift
    return np.clip(changed, 0, 255).astype(np.float32)


def make_batch(
    samples: Sequence[Croppable],
    places: Sequence[Place],
    degradations: Sequence[Degradation | None],
    size: tuple[int, int],
) -> Batch:
    """Cuts crops of ``(width, height)`` out of samples and does to them what was drawn."""
    crops = [_cut(sample, place, size) for sample, place in zip(samples, places, strict=True)]
    # Edges are those of the picture before its colours are changed: they say what stands where, and must not say in
    # which light, or G would read the light off them that it is to be independent of.
    x = _as_tensor([coloured(c.rgb, place.colour) for c, place in zip(crops, places, strict=True)])
    seen = x
    if any(c.seen is not c.rgb for c in crops):
        seen = _as_tensor([coloured(c.seen, place.colour) for c, place in zip(crops, places, strict=True)])
    shown = [c.shown if d is None else apply_degradation(c, d) for c, d in zip(crops, degradations, strict=True)]
    return Batch(
        x,
        torch.from_numpy(np.stack([c.labels for c in crops])),
        torch.from_numpy(np.stack([c.edges for c in crops])).float(),
        torch.from_numpy(np.stack(shown)).float(),
        seen,
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


def _cut(sample: Croppable, place: Place, size: tuple[int, int]) -> Sample:
    if isinstance(sample, Unprepared):
        sample = sample.scaled(place.scale)
    return sample.crop(place.top, place.left, size[1], size[0], flip=place.flip)


def drawn_at_once(recipe: Recipe) -> int:
    """Samples of one draw, those of all processes together."""
    return recipe.step_batch


class Sampler:
    """Draws batches in order: crops flipped at random, edges degraded as the recipe says.

    Its state is part of a checkpoint. In a training of several processes each draws all that is random of the whole
    batch, and makes its own share of it.

    Args:
        samples: What crops are cut from.
        recipe: How.
        classes: How many there are.
        rank: Number of this process in the training, from 0.
        world_size: How many processes train.

    Raises:
        UsageError: The batch cannot be shared out evenly.
    """

    def __init__(
        self, samples: Sequence[Croppable], recipe: Recipe, classes: int, rank: int = 0, world_size: int = 1
    ) -> None:
        self._samples = samples
        self._recipe = recipe
        self._classes = classes
        self._share = own_share(drawn_at_once(recipe), rank, world_size)
        self._waited, self._since = 0, 0
        self.rng = np.random.default_rng(recipe.seed)

    def state(self) -> dict[str, Any]:
        """The random generator's state, plain values."""
        return dict(self.rng.bit_generator.state)

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on where :meth:`state` was taken.

        Raises:
            UsageError: It was taken of batches by number.
        """
        if "bit_generator" not in state:
            raise UsageError(
                "the checkpoint's batches were drawn by number, the recipe's are drawn in order: give data.memory and"
                " data.workers as the run began"
            )
        self.rng.bit_generator.state = state

    def draw(self) -> Batch:
        """The next batch, or this process' share of it.

        Raises:
            SimBridgeError: A sample cannot be read, or is smaller than a crop.
        """
        begun = time.perf_counter_ns()
        self._since = self._since or begun
        try:
            return self._next()
        finally:
            self._waited += time.perf_counter_ns() - begun

    def _next(self) -> Batch:
        recipe, rng = self._recipe, self.rng
        samples = [self._samples[k] for k in rng.integers(len(self._samples), size=drawn_at_once(recipe))]
        places = [draw_place(sample.labels.shape, recipe.data, rng) for sample in samples]
        augmentation = recipe.edge_augmentation
        degradations = [
            None if augmentation is None else draw_degradation(augmentation, self._classes, rng) for _ in samples
        ]
        own = self._share
        return make_batch(samples[own], places[own], degradations[own], recipe.data.crop)

    def wait_share(self) -> float:
        """Share of the time since it was last asked (or the first draw) that the training stood waiting in draw()."""
        now = time.perf_counter_ns()
        share = self._waited / max(1, now - self._since)
        self._waited, self._since = 0, now
        return share

    def close(self) -> None:
        """Ends what runs beside the training process; the next draw() starts it again."""

    def loss_window(self, height: int, width: int) -> tuple[slice, slice]:
        """Rows and columns of a crop that the losses' networks see.

        Shifted at random, so that no phase of theirs stays aligned with the generator's. The same in all processes of a
        training.
        """
        w, h = self._recipe.loss_window or (width, height)
        top, left = int(self.rng.integers(height - h + 1)), int(self.rng.integers(width - w + 1))
        return slice(top, top + h), slice(left, left + w)
