"""Random training batches, drawn in order: each from the random generator that the last one left."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from sim_bridge.errors import UsageError
from trainers.batches.degrade import draw_degradation
from trainers.batches.draw import draw_place, too_small_to_train
from trainers.batches.held import InMemory, SampleSource
from trainers.batches.make import Batch, make_batch
from trainers.recipes.schema import DataRecipe, Recipe


def refuse_small_pictures(samples: Sequence[SampleSource], data: DataRecipe) -> None:
    """Raises SizeMismatchError for a sample in memory that is smaller than a crop; streamed ones raise when drawn."""
    if not isinstance(samples, InMemory) or data.resize is not None:
        return
    for index, sample in enumerate(samples):
        height, width = sample.labels.shape
        if (problem := too_small_to_train((width, height), data, samples.files_of(index)[0])) is not None:
            raise problem.error


def drawn_at_once(recipe: Recipe) -> int:
    """Samples of one draw, those of all processes together."""
    return recipe.step_batch


def rank_slice(total: int, rank: int, world_size: int) -> slice:
    """One process's slice of a step's samples; UsageError where they cannot be shared out evenly."""
    if total % world_size:
        raise UsageError(f"batch {total} cannot be shared out evenly among {world_size} processes: change the recipe's")
    each = total // world_size
    return slice(rank * each, (rank + 1) * each)


class Sampler:
    """Draws batches in order; what is random is drawn once a clip.

    Every process draws for the whole batch and makes its share, the ``rank``-th of ``world_size`` equal ones.
    """

    def __init__(
        self, samples: Sequence[SampleSource], recipe: Recipe, classes: int, rank: int = 0, world_size: int = 1
    ) -> None:
        self._samples = samples
        self._recipe = recipe
        self._classes = classes
        self._share = rank_slice(drawn_at_once(recipe), rank, world_size)
        self._waited, self._since = 0, 0
        self.rng = np.random.default_rng(recipe.seed)

    def state(self) -> dict[str, Any]:
        """For a checkpoint: plain values."""
        return dict(self.rng.bit_generator.state)

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on where :meth:`state` was taken; UsageError where that was of batches by number."""
        if "bit_generator" not in state:
            raise UsageError(
                "the checkpoint's batches were drawn by number, the recipe's are drawn in order: give data.memory and"
                " data.workers as the run began"
            )
        self.rng.bit_generator.state = state

    def draw(self) -> Batch:
        """The next batch, or this process' share of it; SimBridgeError where a sample is unreadable or too small."""
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
        """Share of the time since the last call (or the first draw) that draw() took."""
        now = time.perf_counter_ns()
        share = self._waited / max(1, now - self._since)
        self._waited, self._since = 0, now
        return share

    def close(self) -> None:
        """Ends what runs beside the training process; the next draw() starts it again."""

    def loss_window(self, height: int, width: int) -> tuple[slice, slice]:
        """Rows and columns of a crop that the losses' networks see, the same in all processes.

        Shifted at random, so that no phase of theirs stays aligned with the generator's.
        """
        w, h = self._recipe.loss_window or (width, height)
        top, left = int(self.rng.integers(height - h + 1)), int(self.rng.integers(width - w + 1))
        return slice(top, top + h), slice(left, left + w)
