"""A pytest plugin that lets the tests of CUDA graphs run on the processor: ``pytest -m gpu -p tests.stand_in_cuda``.

It finds mistakes in these tests and in what they call before a GPU does. Graphs are real: what is captured is recorded
operator by operator, and a replay computes it again in the same memory.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from sim_bridge.translators import cuda, device, sflow


class Graph(TorchDispatchMode):
    """Records operators, and runs them again."""

    def __init__(self) -> None:
        super().__init__()
        self._steps: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs and records an operator."""
        out = func(*args, **(kwargs or {}))
        self._steps.append((func, args, kwargs or {}, out))
        return out

    def replay(self) -> None:
        """Computes all outputs from what the inputs hold now."""
        for func, args, kwargs, out in self._steps:
            again = func(*args, **kwargs)
            for old, new in zip(_tensors(out), _tensors(again), strict=True):
                if old.data_ptr() != new.data_ptr():
                    old.copy_(new)


def _tensors(out: Any) -> list[Tensor]:
    return [t for t in (out if isinstance(out, (list, tuple)) else [out]) if isinstance(t, Tensor)]


class Event:
    """Wall time in place of the GPU's."""

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing
        self._at = 0.0

    def record(self, stream: object) -> None:
        """Notes the time."""
        self._at = time.perf_counter()

    def elapsed_time(self, end: Event) -> float:
        """Milliseconds to a later event."""
        return (end._at - self._at) * 1e3


class Stream:
    """Everything has already happened."""

    def __init__(self, *_: object) -> None: ...

    def wait_stream(self, other: object) -> None:
        """Nothing to wait for."""

    def synchronize(self) -> None:
        """Nothing to wait for."""


@contextmanager
def capture(graph: Graph, **_: object) -> Iterator[None]:
    """As torch.cuda.graph."""
    with graph:
        yield


def replace_cuda(patch: Any) -> None:
    """Puts the stand-ins in place by ``patch(object, name, value)``."""
    patch(torch.cuda, "is_available", lambda: True)
    patch(torch.cuda, "Stream", Stream)
    patch(torch.cuda, "current_stream", Stream)
    patch(torch.cuda, "stream", nullcontext)
    patch(torch.cuda, "Event", Event)
    patch(torch.cuda, "CUDAGraph", Graph)
    patch(torch.cuda, "graph", capture)
    patch(torch.cuda, "graph_pool_handle", object)
    patch(torch.cuda, "empty_cache", lambda: None)
    patch(cuda, "_pinned_like", torch.zeros_like)
    patch(device, "choose_device", lambda name: torch.device("cpu"))
    patch(sflow, "CpuRunner", lambda network: cuda.GraphRunner(network, torch.device("cpu")))


def pytest_configure() -> None:
    """For the whole process."""
    replace_cuda(setattr)
