"""Training on several processes: what they agree on, and how all end when one fails.

``torchrun`` starts the processes. Each draws the same random numbers and trains on its share of the same total batch.
Their number changes a training's result only by rounding, and by losses that are no means over samples.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from sim_bridge.errors import SimBridgeError, UsageError
from trainers.batches.sampler import rank_slice

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

PATIENCE: Final = timedelta(minutes=10)
"""Longest wait for another process; process 0 alone writes sheets and checkpoints meanwhile."""
FAILURE: Final = "sim_bridge_failure"
"""Key in the common store for the sentence of the first process that fails."""


class LostProcessError(SimBridgeError):
    """Another process has failed, ended or stopped answering."""


class Group:
    """The processes that train one network; without ``torchrun``, one alone. Several need a store for messages."""

    def __init__(self, rank: int = 0, size: int = 1, store: Store | None = None) -> None:
        self.rank, self.size = rank, size
        self._store = store

    @property
    def is_first(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def share(self, total: int) -> slice:
        """This process's part of ``total`` samples; see :func:`rank_slice`."""
        return rank_slice(total, self.rank, self.size)

    def any(self, flag: bool) -> bool:
        """Whether it is true on one process at least; all get the same answer."""
        if self.size == 1:
            return flag
        return bool(self._sum(torch.tensor([float(flag)])))

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        """Means over the processes, each of which must give the same names."""
        if self.size == 1 or not values:
            return values
        names = sorted(values)
        means = self._sum(torch.tensor([values[n] for n in names], dtype=torch.float64)) / self.size
        by_name = dict(zip(names, means.tolist(), strict=True))
        return {name: by_name[name] for name in values}

    def spread(self, value: float) -> float:
        """Largest minus smallest of the processes' values."""
        if self.size == 1:
            return 0.0
        extremes = torch.tensor([value, -value], dtype=torch.float64)
        self._reduce(extremes, dist.ReduceOp.MAX)
        return float(extremes.sum())

    def average(self, tensors: Sequence[Tensor], parts: int = 1) -> None:
        """Replaces tensors, the same on every process but for their values, by their means.

        They are floats of one type and device, sums over ``parts`` micro-batches on each process.
        """
        if self.size == 1:
            if parts > 1:
                torch._foreach_div_(list(tensors), parts)
            return
        flat = torch.cat([t.reshape(-1) for t in tensors])
        if flat.is_cuda:
            self.any(False)  # by gloo, which misses a lost process; NCCL would only block the next read from the GPU
        self._sum(flat)
        flat /= self.size * parts
        for tensor, mean in zip(tensors, torch.split(flat, [t.numel() for t in tensors]), strict=True):
            tensor.copy_(mean.view(tensor.shape))

    def first_sentence(self, sentence: str | None, key: str) -> str | None:
        """Collective: the sentence of the lowest process that has one; ``key`` must be new in this training."""
        if self._store is None:
            return sentence
        if sentence is not None:
            self._store.set(f"{key}/{self.rank}", sentence)
        self.any(False)  # by now every process has written what it has
        written = [rank for rank in range(self.size) if self._store.check([f"{key}/{rank}"])]
        first = self._store.get(f"{key}/{written[0]}").decode() if written else None
        self.any(False)  # and read it: the store ends with the process that holds it, which may be about to
        return first

    def leave(self, sentence: str) -> str:
        """Leaves the reason why this process ends; returns the first reason that any process left."""
        if self._store is None:
            return sentence
        try:
            return self._store.compare_set(FAILURE, "", sentence).decode()
        except RuntimeError:  # the store ended with the process that held it
            return sentence

    def _sum(self, tensor: Tensor) -> Tensor:
        self._reduce(tensor, dist.ReduceOp.SUM)
        return tensor

    def _reduce(self, tensor: Tensor, operation: dist.ReduceOp.RedOpType) -> None:
        try:
            dist.all_reduce(tensor, operation)
        except RuntimeError as e:
            raise LostProcessError(_why_lost(self.rank, self.size, e)) from e


def launched() -> int:
    """Number of processes that ``torchrun`` started; 1 without it. UsageError where ``WORLD_SIZE`` is no number."""
    text = os.environ.get("WORLD_SIZE", "1")
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"WORLD_SIZE is {text!r} in the environment: start with torchrun, which sets it")
    return int(text)


@contextmanager
def joined(patience: timedelta = PATIENCE) -> Iterator[Group]:
    """The group of the processes that ``torchrun`` started; this one alone without it.

    A failure on one ends all: the first leaves its sentence, the others raise it as LostProcessError. ``patience`` is
    how long to wait for another process. UsageError where there are more processes than GPUs.
    """
    size = launched()
    if size == 1:
        yield Group()
        return
    group = _start(patience)
    try:
        yield group
    except LostProcessError as e:
        # A killed process left no word; the first to miss it does.
        raise LostProcessError(group.leave(str(e))) from e
    except Exception as e:
        name = "" if isinstance(e, SimBridgeError) else f"{type(e).__name__}: "
        group.leave(f"process {group.rank} of {size} failed: {name}{e}")
        raise
    # Not after a failure: it would wait for a collective that nobody answers.
    dist.destroy_process_group()


def _start(patience: timedelta) -> Group:
    cuda = torch.cuda.is_available()
    if cuda:
        place, gpus = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if place >= gpus:
            raise UsageError(f"torchrun started process {place + 1} on a machine of {gpus} GPUs: ask for that many")
        torch.cuda.set_device(place)
    store, rank, size = next(rendezvous("env://", timeout=patience))
    # Gradients go by NCCL; flags and statistics lie on the CPU and go by gloo, so that no agreement waits for a GPU.
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=patience)
    return Group(rank, size, store)


def _why_lost(rank: int, size: int, error: RuntimeError) -> str:
    # gloo begins with a place in its source and ends with what to think of it: the first sentence is the reason.
    reason = re.sub(r"^\[[^]]*\]\s*", "", str(error).strip()).splitlines()[0].split(". ")[0]
    return (
        f"process {rank} of {size} lost the others ({reason}): see what they said last, then go on from the last"
        " checkpoint with --resume"
    )
