"""The network on CUDA: a captured graph per batch and frame size, fed through pinned memory on a stream of its own."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, cast

import torch
from torch import Tensor

from models.nets.dned import SIDES
from models.nets.sflow import SFlowNetwork
from sim_bridge.frames import ByteArray
from sim_bridge.translators import GpuTime

_log = logging.getLogger(__name__)

_WARM_UP_FRAMES: Final = 3
_TIMES_KEPT: Final = 4096


@dataclass(frozen=True, slots=True)
class _Captured:
    """A graph with the memory it reads and writes.

    Each pair is the same tensor twice, pinned on the host and on the device; a replay reads and writes the device's.
    """

    graph: torch.cuda.CUDAGraph
    rgb: tuple[Tensor, Tensor]
    labels: tuple[Tensor, Tensor]
    weights: tuple[Tensor, Tensor]
    image: tuple[Tensor, Tensor]
    edges: tuple[Tensor, Tensor]


class GraphRunner:
    """Replays captured graphs. A frame of a size that was not warmed up runs eagerly: a capture takes hundreds of ms.

    Args:
        network: On ``device``, in evaluation mode. A float32 one runs in float32, not in TF32.
        device: A CUDA device.

    Attributes:
        eager_frames: Batches that ran without a graph.
        gpu_times: Of the latest batches that graphs made, by CUDA events.
    """

    def __init__(self, network: SFlowNetwork, device: torch.device) -> None:
        self._network = network
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        # The caller's stream may still be moving or converting the weights that this one is about to read.
        self._stream.wait_stream(torch.cuda.current_stream(device))
        # One pool for all graphs: they never run at the same time, and results are copied out before the next replay.
        self._pool = torch.cuda.graph_pool_handle()
        self._graphs: dict[tuple[int, ...], _Captured] = {}
        self._eager_shapes: set[tuple[int, ...]] = set()
        self._marks = [torch.cuda.Event(enable_timing=True) for _ in range(4)]  # type: ignore[no-untyped-call]
        self.eager_frames = 0
        self.gpu_times: deque[GpuTime] = deque(maxlen=_TIMES_KEPT)

    def run(self, rgb: ByteArray, labels: ByteArray, weights: Tensor) -> tuple[ByteArray, ByteArray]:
        """uint8 ``(B, H, W, 3)``, uint8 ``(B, H, W)`` and float32 ``(B, 6)`` to picture and edge map."""
        captured = self._graphs.get(labels.shape)
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            if captured is None:
                return self._run_eagerly(rgb, labels, weights)
            return self._replay(captured, rgb, labels, weights)

    def warm_up(self, width: int, height: int, batch: int = 1) -> None:
        """Captures the graphs for 1 up to ``batch`` frames of this size; where the driver refuses, they run eagerly."""
        for count in range(1, batch + 1):
            shape = (count, height, width)
            if shape in self._graphs:
                continue
            try:
                with torch.inference_mode(), torch.cuda.stream(self._stream), _tuned_convolutions(), full_float32():
                    self._graphs[shape] = self._capture(shape)
            except RuntimeError as error:
                reason = str(error).strip().partition("\n")[0]
                _log.warning(
                    "no CUDA graph for %d x %dx%d (%s): these frames run eagerly, more slowly",
                    *(count, width, height, reason),
                )
            else:
                continue
            # A pool that a capture failed in may refuse the next one, and keeps what it took until it is let go.
            self._pool = torch.cuda.graph_pool_handle()
            torch.cuda.empty_cache()

    def _capture(self, shape: tuple[int, int, int]) -> _Captured:
        rgb = _slot((*shape, 3), torch.uint8, self._device)
        labels = _slot(shape, torch.uint8, self._device)
        weights = _slot((shape[0], SIDES), torch.float32, self._device)
        for _ in range(_WARM_UP_FRAMES):  # cuDNN chooses its algorithms here, which it must not do during the capture
            self._network.translate(rgb[1], labels[1], weights[1])
        self._stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        # thread_local: the bridge's other threads may touch CUDA memory meanwhile without spoiling the capture.
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            image, edges = self._network.translate(rgb[1], labels[1], weights[1])
        return _Captured(graph, rgb, labels, weights, (_pinned_like(image), image), (_pinned_like(edges), edges))

    def _replay(
        self, captured: _Captured, rgb: ByteArray, labels: ByteArray, weights: Tensor
    ) -> tuple[ByteArray, ByteArray]:
        captured.rgb[0].numpy()[...] = rgb
        captured.labels[0].numpy()[...] = labels
        captured.weights[0].copy_(weights)
        begun, copied, computed, done = self._marks
        begun.record(self._stream)
        for host, device in (captured.rgb, captured.labels, captured.weights):
            device.copy_(host, non_blocking=True)
        copied.record(self._stream)
        captured.graph.replay()
        computed.record(self._stream)
        for host, device in (captured.image, captured.edges):
            host.copy_(device, non_blocking=True)
        done.record(self._stream)
        self._stream.synchronize()
        self.gpu_times.append(
            GpuTime(begun.elapsed_time(copied), copied.elapsed_time(computed), computed.elapsed_time(done))
        )
        # Copied: the sender hands pixels to ZeroMQ without a copy, and the next replay overwrites the pinned ones.
        return captured.image[0].numpy().copy(), captured.edges[0].numpy().copy()

    def _run_eagerly(self, rgb: ByteArray, labels: ByteArray, weights: Tensor) -> tuple[ByteArray, ByteArray]:
        self.eager_frames += 1
        if labels.shape not in self._eager_shapes:
            self._eager_shapes.add(labels.shape)
            batch, height, width = labels.shape
            _log.warning("%d x %dx%d was not warmed up: these frames run without a CUDA graph", batch, width, height)
        with full_float32():
            image, edges = self._network.translate(
                torch.tensor(rgb, device=self._device),
                torch.tensor(labels, device=self._device),
                weights.to(self._device),
            )
        return image.cpu().numpy(), edges.cpu().numpy()


def _slot(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """The same tensor on the host, pinned, and on the device."""
    made = torch.zeros(shape, dtype=dtype, device=device)
    return _pinned_like(made), made


def _pinned_like(tensor: Tensor) -> Tensor:
    return torch.zeros(tensor.shape, dtype=tensor.dtype, pin_memory=True)


@contextmanager
def _tuned_convolutions() -> Iterator[None]:
    """Lets cuDNN measure its algorithms; the graph keeps the chosen ones and the process's setting is put back."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


@contextmanager
def full_float32() -> Iterator[None]:
    """Float32 products in float32, where CUDA would round their factors to TF32 (10 bits); puts the settings back.

    bf16 networks are not affected. A captured graph keeps the kernels that were chosen here.
    """
    cudnn: Any = torch.backends.cudnn  # its stubs lack ``conv``
    matmul: Any = torch.backends.cuda.matmul
    if hasattr(matmul, "fp32_precision"):
        holders: list[Any] = [matmul, cudnn.conv]
        name, exact = "fp32_precision", cast("str | bool", "ieee")
    else:  # torch before 2.9
        holders, name, exact = [matmul, cudnn], "allow_tf32", False
    before = [getattr(holder, name) for holder in holders]
    for holder in holders:
        setattr(holder, name, exact)
    try:
        yield
    finally:
        for holder, value in zip(holders, before, strict=True):
            setattr(holder, name, value)
