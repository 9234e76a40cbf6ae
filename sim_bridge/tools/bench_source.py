"""The simulator's side of the benchmark, in a process of its own: publishes drawn streets and times what comes back.

It imports neither torch nor OpenCV, so that it costs the machine no more than a simulator's bridge client would.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Final

import numpy as np
import numpy.typing as npt

from sim_bridge.client import Publisher, Subscriber
from sim_bridge.errors import FrameTimeoutError, SimBridgeError
from sim_bridge.frames import ByteArray, Encoding, Frame, Kind

CAMERA: Final = "bench"
TAXONOMY: Final = "carla-0.9.14"
SCENES: Final = 8
"""Different pictures that go round, so that nothing is measured on one that is in the cache."""

_HELLO_SECONDS: Final = 0.1
_CONNECT_SECONDS: Final = 20.0
_LOST_SECONDS: Final = 5.0
_SKY, _BUILDING, _ROAD, _SIDEWALK, _VEGETATION, _CAR = 11, 3, 1, 2, 9, 14


@dataclass(frozen=True, slots=True)
class Plan:
    """What the simulator's side is to do.

    Attributes:
        width: Pixels.
        height: Pixels.
        warm_up: Frames that are not measured.
        frames: Frames that are.
        rate: Frames per second, or None for as fast as frames come back.
        window: Frames on their way at most, without a rate. Two keep the network busy: one in it, one waiting for it.
    """

    width: int
    height: int
    warm_up: int
    frames: int
    rate: float | None
    window: int = 2


@dataclass(frozen=True, slots=True)
class Delivery:
    """What came back.

    Attributes:
        sent: Measured frames that were sent.
        delivered: How many of them came back.
        seconds: From the first one that came back to the last.
        latencies: Nanoseconds from before a frame was sent until its photoreal frame was here, int64 ``(delivered,)``.
    """

    sent: int
    delivered: int
    seconds: float
    latencies: npt.NDArray[np.int64]


def simulate(link: Connection, plan: Plan) -> None:
    """Body of the process.

    Args:
        link: To the benchmark's main process. Sends its address, gets the bridge's; sends ``measure`` when warm, waits
            for leave; sends a :class:`Delivery` (or an error), waits for leave to end.
        plan: What to do.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both processes; the main one ends this one
    threading.Thread(target=_end_with_parent, name="sim-bridge-bench-parent", daemon=True).start()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the main process is gone
        _simulate(link, plan)


def _end_with_parent() -> None:
    """Ends this process when the main one is gone, however it ended: a kill leaves it no time to end this one."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _simulate(link: Connection, plan: Plan) -> None:
    with Publisher("tcp://127.0.0.1:*") as publisher:
        link.send(publisher.address)
        with Subscriber(link.recv(), camera=CAMERA, buffer=64) as subscriber:
            camera = _Camera(publisher, subscriber, plan)
            try:
                camera.connect()
            except SimBridgeError as error:
                link.send(error)
                return
            camera.run(plan.warm_up)
            link.send("measure")
            link.recv()
            link.send(camera.run(plan.frames))
            link.recv()  # the bridge stops first, so that it never sees its simulator vanish


class _Camera:
    """Sends frames and takes their photoreal versions."""

    def __init__(self, publisher: Publisher, subscriber: Subscriber, plan: Plan) -> None:
        self._publisher = publisher
        self._subscriber = subscriber
        self._plan = plan
        self._scenes = [draw_street(plan.width, plan.height, shift) for shift in range(SCENES)]
        self._next = 0
        self._sent: dict[int, int] = {}

    def connect(self) -> None:
        """Sends frames until one comes back: from then on both connections work.

        Raises SimBridgeError when none came back.
        """
        deadline = time.monotonic() + _CONNECT_SECONDS
        while time.monotonic() < deadline:
            self._send()
            try:
                self._subscriber.next_frame(_HELLO_SECONDS)
            except FrameTimeoutError:
                continue
            self._settle()
            return
        raise SimBridgeError(
            f"the bridge answered none of {self._next} frames within {_CONNECT_SECONDS:.0f} s: "
            "its log above says why it dropped them"
        )

    def run(self, count: int) -> Delivery:
        """Sends ``count`` frames, paced or as fast as they come back."""
        first, self._sent = self._next, {}
        frames = self._paced(count) if self._plan.rate else self._windowed(count)
        back = [(frame.number, frame.received) for frame in frames if frame.number >= first]
        arrivals = [received for _, received in back]
        latencies = np.array([received - self._sent[number] for number, received in back], np.int64)
        seconds = (max(arrivals) - min(arrivals)) / 1e9 if back else 0.0
        return Delivery(count, len(back), seconds, latencies)

    def _windowed(self, count: int) -> Iterator[Frame]:
        last = self._next + count
        waiting: deque[int] = deque()
        while self._next < last or waiting:
            while self._next < last and len(waiting) < self._plan.window:
                waiting.append(self._send())
            try:
                frame = self._subscriber.next_frame(_LOST_SECONDS)
            except FrameTimeoutError:
                waiting.clear()
                continue
            while waiting and waiting[0] <= frame.number:
                waiting.popleft()  # older ones were dropped on the way: frames come back in rising order
            yield frame

    def _paced(self, count: int) -> Iterator[Frame]:
        assert self._plan.rate is not None
        begin, last = time.perf_counter(), self._next + count
        for i in range(count):
            due = begin + i / self._plan.rate
            while (left := due - time.perf_counter()) > 0:
                try:
                    yield self._subscriber.next_frame(left)
                except FrameTimeoutError:
                    break
            self._send()
        while True:
            try:
                frame = self._subscriber.next_frame(_LOST_SECONDS)
            except FrameTimeoutError:
                return
            yield frame
            if frame.number == last - 1:
                return

    def _send(self) -> int:
        number = self._next
        self._next += 1
        bgra, ids = self._scenes[number % SCENES]
        self._sent[number] = time.time_ns()
        for kind, pixels, encoding, labels in (
            (Kind.RGB, bgra, Encoding.BGRA8, None),
            (Kind.SEMANTIC, ids, Encoding.MONO8, TAXONOMY),
        ):
            self._publisher.publish_image(
                CAMERA, kind, number=number, time=number / 25.0, pixels=pixels, encoding=encoding, labels=labels
            )
        return number

    def _settle(self) -> None:
        """Waits until nothing of the greeting is on its way any more."""
        for _ in self._subscriber.frames(timeout=2 * _HELLO_SECONDS):
            pass


def draw_street(width: int, height: int, shift: int) -> tuple[ByteArray, ByteArray]:
    """A flat-shaded street: enough edges and classes for a network to do its usual work.

    Args:
        width: Pixels.
        height: Pixels.
        shift: Moves the cars and the buildings.

    Returns:
        BGRA uint8 ``(H, W, 4)``, and class ids uint8 ``(H, W)`` of :data:`TAXONOMY`.
    """
    y, x = np.mgrid[:height, :width].astype(np.float32)
    y, x = y / height, x / width
    ids = np.full((height, width), _SKY, np.uint8)
    block = np.floor(x * 9 + shift / SCENES)
    roof = 0.18 + 0.16 * np.abs(np.sin(12.9898 * block))
    ids[y > roof] = _BUILDING
    ids[(y > 0.45) & (np.sin(40 * x + shift) > 0.4)] = _VEGETATION
    ids[y > 0.58] = _SIDEWALK
    ids[np.abs(x - 0.5) < 0.9 * (y - 0.52)] = _ROAD
    for lane in (0.3, 0.55, 0.75):
        left = (lane + shift / (4 * SCENES)) % 0.9
        ids[(y > 0.62) & (y < 0.74) & (x > left) & (x < left + 0.09)] = _CAR
    colors = np.zeros((256, 3), np.float32)
    colors[[_SKY, _BUILDING, _ROAD, _SIDEWALK, _VEGETATION, _CAR]] = (
        (230, 190, 150),
        (110, 120, 140),
        (80, 80, 80),
        (130, 130, 135),
        (50, 110, 60),
        (40, 40, 180),
    )
    windows = (ids == _BUILDING) & (np.sin(180 * x) > 0.5) & (np.sin(120 * y) > 0.3)
    shade = 1.0 - 0.25 * y - 0.4 * windows
    bgra = np.full((height, width, 4), 255, np.uint8)
    bgra[..., :3] = np.clip(colors[ids] * shade[..., None], 0, 255).astype(np.uint8)
    return bgra, ids
