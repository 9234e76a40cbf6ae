"""Batches by number: batch t depends on the recipe's seed and t alone, whichever process makes it."""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from sim_bridge.errors import SimBridgeError, UsageError
from trainers.batches.degrade import draw_degradation
from trainers.batches.draw import draw_place
from trainers.batches.held import OnDisk, SampleSource, load
from trainers.batches.make import Batch, make_batch
from trainers.batches.sampler import Sampler, drawn_at_once, rank_slice
from trainers.errors import TrainingError
from trainers.recipes.schema import Recipe

_log = logging.getLogger(__name__)
_ASKED_TO_END = {0, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP}
"""Exit codes of workers that somebody ended; any other is a crash."""


class NumberedBatches(Dataset[Batch | SimBridgeError]):
    """Batch t of a training, its ``share`` alone; or an error, which would lose its sentence if a worker raised it."""

    def __init__(self, samples: Sequence[SampleSource], recipe: Recipe, classes: int, share: slice) -> None:
        self._samples, self._recipe, self._classes = samples, recipe, classes
        self._items = range(drawn_at_once(recipe))[share]
        self._reading = torch.full((max(1, recipe.data.workers), 2), -1, dtype=torch.int64)
        self._reading.share_memory_()  # type: ignore[no-untyped-call]
        """Process id of every worker, and the sample that it reads: all that is left of one that crashes."""

    def generator(self, number: int, item: int) -> np.random.Generator:
        """The random generator of one sample of one batch; of the batch itself for the item after its last."""
        return np.random.default_rng((self._recipe.seed, number, item))

    def __getitem__(self, number: int) -> Batch | SimBridgeError:
        """Makes a batch."""
        try:
            return self._make(number)
        except SimBridgeError as error:
            return error

    def _make(self, number: int) -> Batch:
        recipe, samples, places, degradations = self._recipe, [], [], []
        for rng in (self.generator(number, item) for item in self._items):
            index = int(rng.integers(len(self._samples)))
            if (worker := get_worker_info()) is not None:
                self._reading[worker.id] = torch.tensor([os.getpid(), index])
            samples.append(self._samples[index])
            places.append(draw_place(samples[-1].labels.shape, recipe.data, rng))
            augmentation = recipe.edge_augmentation
            degradations.append(None if augmentation is None else draw_degradation(augmentation, self._classes, rng))
        return make_batch(samples, places, degradations, recipe.data.crop)

    def death_of(self, worker: BaseProcess) -> str:
        """What a worker process did when it died, and what to do about it."""
        if not isinstance(self._samples, OnDisk):  # nothing was read, so no file can be the cause
            return "while it cut crops from samples in memory: lower data.workers if memory ran out"
        index = next((int(k) for pid, k in self._reading.tolist() if pid == worker.pid), None)
        files = "its first sample" if index is None else " and ".join(map(str, self._samples.files_of(index)))
        return f"while it read {files}: look at that file, or lower data.workers if memory ran out"


def _begin_worker(_number: int) -> None:
    """What a worker does first."""
    # Ctrl-C reaches the whole process group, but it is the training that decides when to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # OpenCV's threads did not survive the fork, and one core a worker is what was asked for.
    cv2.setNumThreads(0)


@contextmanager
def _child_signals_kept() -> Iterator[None]:
    """Keeps the handler of SIGCHLD: torch's raises an error wherever the training happens to be, also within a step."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before or signal.SIG_DFL)


class NumberedSampler(Sampler):
    """Draws batches by number, in this process or by the recipe's worker processes. See :class:`Sampler`."""

    def __init__(
        self, samples: Sequence[SampleSource], recipe: Recipe, classes: int, rank: int = 0, world_size: int = 1
    ) -> None:
        super().__init__(samples, recipe, classes, rank, world_size)
        self._batches = NumberedBatches(samples, recipe, classes, rank_slice(drawn_at_once(recipe), rank, world_size))
        self._number = 0
        self._made: Iterator[Batch | SimBridgeError] | None = None
        self._workers: list[BaseProcess] = []

    def state(self) -> dict[str, Any]:
        """The number of the next batch."""
        return {"number": self._number}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on where :meth:`state` was taken; UsageError where that was of batches in order."""
        if "number" not in state:
            raise UsageError(
                "the checkpoint's batches were drawn in order, the recipe's are drawn by number: give data.memory and"
                " data.workers as the run began"
            )
        self.close()
        self._number = state["number"]

    def close(self) -> None:
        """Ends the workers; the next draw() starts them again."""
        self._made = None
        self._workers = []

    def _next(self) -> Batch:
        self.rng = self._batches.generator(self._number, drawn_at_once(self._recipe))
        made = self._from_workers() if self._recipe.data.workers else self._batches[self._number]
        self._number += 1
        if isinstance(made, SimBridgeError):
            raise made
        return made

    def _start(self) -> Iterator[Batch | SimBridgeError]:
        # Forked, so that samples in memory are shared and not copied.
        load(self._samples)
        loader = DataLoader(
            self._batches,
            batch_size=None,
            sampler=itertools.count(self._number),
            num_workers=self._recipe.data.workers,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=_begin_worker,
            multiprocessing_context="fork",
            generator=torch.Generator(),  # nothing is drawn with it here, and the training's own is left alone
        )
        others = set(multiprocessing.active_children())
        with _child_signals_kept():
            self._made = iter(loader)
        self._workers = [p for p in multiprocessing.active_children() if p not in others]
        return self._made

    def _from_workers(self) -> Batch | SimBridgeError:
        try:
            return next(self._start() if self._made is None else self._made)
        except RuntimeError as error:
            lost = [worker for worker in self._workers if worker.exitcode is not None]
            if not lost:
                raise
            self.close()
            worker, code = lost[0], lost[0].exitcode
            if code not in _ASKED_TO_END:
                raise TrainingError(
                    f"data worker {worker.pid} died ({_reason(code)}) {self._batches.death_of(worker)}, and go on from"
                    " the last checkpoint with --resume"
                ) from error
        # A signal to the whole process group ends the workers before the training, which has its step to finish.
        _log.warning("data worker %s was ended (%s): making batch %d without", worker.pid, _reason(code), self._number)
        return self._batches[self._number]


def _reason(code: int | None) -> str:
    return signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"


def make_sampler(
    samples: Sequence[SampleSource], recipe: Recipe, classes: int, rank: int = 0, world_size: int = 1
) -> Sampler:
    """The sampler that a recipe's ``data.memory`` and ``data.workers`` ask for. See :class:`Sampler`."""
    by_number = recipe.data.workers > 0 or recipe.data.memory == "stream"
    kind = NumberedSampler if by_number else Sampler
    return kind(samples, recipe, classes, rank, world_size)
