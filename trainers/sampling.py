"""Random training batches from photographs held in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sim_bridge.frames import ByteArray
from trainers.data import Sample
from trainers.edge_augmentation import degrade
from trainers.recipe import ImageRecipe


class Batch(NamedTuple):
    """One training batch.

    Attributes:
        x: The photographs, RGB ``(N, 3, H, W)`` in -1..1.
        s: Their labels, uint8 ``(N, H, W)``.
        e: E(x), ``(N, P, H, W)``, 0 or 1.
        e_degraded: The map DNED is shown, likewise.
        seen: The pictures that colour hints are taken from, as ``x``.
    """

    x: Tensor
    s: Tensor
    e: Tensor
    e_degraded: Tensor
    seen: Tensor

    def to(self, device: torch.device) -> Batch:
        """The batch on a device, pictures channels-last."""
        moved = [t.to(device, non_blocking=True) for t in self]
        for i in (0, 4):
            moved[i] = moved[i].contiguous(memory_format=torch.channels_last)
        return Batch(*moved)

    def part(self, samples: slice) -> Batch:
        """Some of its samples."""
        return Batch(*(t[samples] for t in self))


class Sampler:
    """Draws crops: flipped at random, edges degraded as the recipe says. Its state is part of a checkpoint.

    Args:
        samples: What crops are cut from.
        recipe: How.
        classes: How many there are.
        rank: Number of this process in the training.
        world_size: How many train; all draw the same, and each gets its share.
    """

    def __init__(
        self, samples: Sequence[Sample], recipe: ImageRecipe, classes: int, rank: int = 0, world_size: int = 1
    ) -> None:
        self._samples = samples
        self._recipe = recipe
        self._classes = classes
        size = recipe.step_batch // world_size
        self._share = slice(rank * size, (rank + 1) * size)
        self.rng = np.random.default_rng(recipe.seed)

    def state(self) -> dict[str, Any]:
        """The random generator's state, plain values."""
        return dict(self.rng.bit_generator.state)

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on where :meth:`state` was taken."""
        self.rng.bit_generator.state = state

    def draw(self) -> Batch:
        """The next step's samples, or this process's share of them."""
        width, height = self._recipe.data.crop
        crops = []
        for k in self.rng.integers(len(self._samples), size=self._recipe.step_batch):
            sample = self._samples[k]
            top = int(self.rng.integers(sample.labels.shape[0] - height + 1))
            left = int(self.rng.integers(sample.labels.shape[1] - width + 1))
            crops.append(sample.crop(top, left, height, width, flip=bool(self.rng.random() < 0.5)))
        augmentation = self._recipe.edge_augmentation
        shown = [c.shown if augmentation is None else degrade(c, augmentation, self._classes, self.rng) for c in crops]
        whole = Batch(
            _as_pictures([c.rgb for c in crops]),
            torch.from_numpy(np.stack([c.labels for c in crops])),
            torch.from_numpy(np.stack([c.edges for c in crops])).float(),
            torch.from_numpy(np.stack(shown)).float(),
            _as_pictures([c.seen for c in crops]),
        )
        return whole.part(self._share)

    def judge_window(self, height: int, width: int) -> tuple[slice, slice]:
        """Rows and columns of a crop that the losses' networks see.

        Shifted at random, so that no phase of theirs stays aligned with the generator's.
        """
        w, h = self._recipe.judge_crop or (width, height)
        top, left = int(self.rng.integers(height - h + 1)), int(self.rng.integers(width - w + 1))
        return slice(top, top + h), slice(left, left + w)


def _as_pictures(crops: Sequence[ByteArray]) -> Tensor:
    """uint8 ``(H, W, 3)`` each to ``(N, 3, H, W)`` in -1..1."""
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
