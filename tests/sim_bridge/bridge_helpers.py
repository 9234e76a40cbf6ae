"""What the bridge's tests share: frames that can be recognised, translators with a fault, processes, readers."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import zmq

from sim_bridge import wire
from sim_bridge.frames import Encoding, Frame, FrameId, Kind
from sim_bridge.live.bridge import Bridge
from sim_bridge.live.shared import BundleLoader, TranslatorSource
from sim_bridge.settings import BridgeSettings
from sim_bridge.translators import Shot, Translation
from sim_bridge.translators.null import NullTranslator
from sim_bridge.wire import StatusMessage

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ANY_PORT = "tcp://127.0.0.1:*"
LABELS = "cityscapes-train"
CLASSES = (
    *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation"),
    *("terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle", "unlabeled"),
)
STAMPS = 19
"""How many class ids can serve as a frame's stamp."""
WAIT = 30.0
"""Seconds after which a test gives up waiting for something that must happen."""

Socket = zmq.Socket[bytes]


def rgb_stamp(tick: FrameId) -> tuple[int, int, int]:
    """A colour by which the RGB frame of a tick is recognised."""
    return tick.number % 251, tick.number // 251 % 256, sum(tick.session.encode()) % 256


def label_stamp(tick: FrameId) -> int:
    """A class id by which the semantic frame of a tick is recognised."""
    return (tick.number * 7 + sum(tick.session.encode())) % STAMPS


def make_frame(
    kind: Kind, number: int, session: str = "s", *, camera: str = "camera", size: tuple[int, int] = (16, 8)
) -> Frame:
    """A frame of one colour or class, its tick's stamp."""
    width, height = size
    tick = FrameId(session, number)
    if kind is Kind.RGB:
        pixels = np.broadcast_to(np.array(rgb_stamp(tick), np.uint8), (height, width, 3))
        encoding, labels = Encoding.RGB8, None
    else:
        pixels = np.full((height, width), label_stamp(tick), np.uint8)
        encoding, labels = Encoding.MONO8, LABELS
    return Frame(
        camera=camera,
        kind=kind,
        number=number,
        time=number / 25,
        session=session,
        encoding=encoding,
        width=width,
        height=height,
        pixels=np.ascontiguousarray(pixels),
        sent=time.time_ns(),
        labels=labels,
        fov=90.0,
    )


def make_pair(number: int, session: str = "s", **more: Any) -> tuple[Frame, Frame]:
    """The RGB and the semantic frame of a tick."""
    return make_frame(Kind.RGB, number, session, **more), make_frame(Kind.SEMANTIC, number, session, **more)


def shows_its_tick(photoreal: Frame) -> bool:
    """Whether a frame that :class:`StampTranslator` made holds its tick's stamps, of the RGB and of the labels."""
    red, green, _ = rgb_stamp(photoreal.id)
    return bool((photoreal.pixels == np.array([red, green, label_stamp(photoreal.id)], np.uint8)).all())


class StampTranslator(NullTranslator):
    """Writes the labels into the blue channel, so that a result shows which two frames it was made of."""

    @property
    def classes(self) -> tuple[str, ...]:
        return CLASSES

    def translate(self, shots: Sequence[Shot]) -> Sequence[Translation]:
        return [Translation(np.dstack([shot.rgb[..., :2], shot.labels])) for shot in shots]


class BlockingTranslator(StampTranslator):
    """Stays in every frame until it is let go."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.go = threading.Semaphore(0)

    def translate(self, shots: Sequence[Shot]) -> Sequence[Translation]:
        self.entered.release()
        self.go.acquire()
        return super().translate(shots)


class FailingTranslator(StampTranslator):
    """Raises what it is given, on the frame numbers it is told."""

    def __init__(self, error: Exception, fails: Callable[[int], bool] = lambda call: True) -> None:
        self._error = error
        self._fails = fails
        self.calls = 0

    def translate(self, shots: Sequence[Shot]) -> Sequence[Translation]:
        self.calls += 1
        if self._fails(self.calls):
            raise self._error
        return super().translate(shots)


TRANSLATORS: Mapping[str, Callable[[], TranslatorSource]] = {
    "null": NullTranslator,
    "stamp": StampTranslator,
    "hang": BlockingTranslator,
}
"""What a bridge in a process of its own can be told to use."""


class Simulator:
    """The simulator's socket in a test: XPUB, so that it knows the bridge has subscribed; waits, drops nothing."""

    def __init__(self, address: str = ANY_PORT, *, hwm: int = 1000) -> None:
        self._context: zmq.Context[Socket] = zmq.Context()
        self._socket = self._context.socket(zmq.XPUB)
        self._socket.sndhwm = hwm
        self._socket.setsockopt(zmq.XPUB_NODROP, 1)
        self._socket.setsockopt(
            zmq.XPUB_VERBOSE, 1
        )  # a bridge that comes back subscribes to what is subscribed already
        self._socket.linger = -1
        self._socket.bind(address)
        self.address = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def wait_for_subscriptions(self, count: int = 2, seconds: float = WAIT) -> None:
        """Waits until that many subscriptions have come (a bridge makes two per camera)."""
        deadline = time.monotonic() + seconds
        while count:
            if not self._socket.poll(max(0, round(1000 * (deadline - time.monotonic())))):
                raise TimeoutError(f"{count} subscriptions did not come within {seconds} s")
            count -= self._socket.recv().startswith(b"\x01")

    def send(self, *frames: Frame) -> None:
        """Publishes frames, in this order."""
        for frame in frames:
            self.send_raw(wire.encode(frame))

    def send_raw(self, parts: Sequence[bytes | memoryview]) -> None:
        """Publishes any parts."""
        self._socket.send_multipart(parts)

    def close(self, *, linger: int | None = None) -> None:
        """Closes; by default everything leaves first."""
        self._socket.close(linger=linger)
        self._context.term()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close(linger=0)


class Reader:
    """Everything a bridge publishes; it has subscribed for sure when the constructor returns."""

    def __init__(self, address: str, camera: str = "camera", *, wait: bool = True) -> None:
        self._context: zmq.Context[Socket] = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.rcvhwm = 0
        self._socket.linger = 0
        self._socket.subscribe(f"{camera}/photoreal")
        self._socket.subscribe(f"{camera}/status")
        self._socket.connect(address)
        self.raw: list[bytes] = []
        if wait:
            self.status()

    def message(self, seconds: float = WAIT) -> Frame | StatusMessage:
        """The next message, whatever its kind."""
        if not self._socket.poll(max(0, round(seconds * 1000))):
            raise TimeoutError(f"nothing came within {seconds} s")
        parts = self._socket.recv_multipart()
        self.raw = parts
        return wire.decode(parts, received=time.time_ns())

    def _until(self, seconds: float, wanted: type[Frame] | type[StatusMessage]) -> Iterator[Frame | StatusMessage]:
        deadline = time.monotonic() + seconds
        while True:
            message = self.message(deadline - time.monotonic())
            if isinstance(message, wanted):
                yield message

    def frame(self, seconds: float = WAIT) -> Frame:
        """The next photoreal frame."""
        message = next(self._until(seconds, Frame))
        assert isinstance(message, Frame)
        return message

    def status(
        self, seconds: float = WAIT, *, until: Callable[[StatusMessage], bool] = lambda s: True
    ) -> StatusMessage:
        """The next status message that fits."""
        for message in self._until(seconds, StatusMessage):
            if isinstance(message, StatusMessage) and until(message):
                return message
        raise AssertionError

    def close(self) -> None:
        self._socket.close()
        self._context.term()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def make_settings(input: str, **more: Any) -> BridgeSettings:
    """Settings for a bridge between the given address and a free port; status messages come quickly."""
    return BridgeSettings(**({"input": input, "output": ANY_PORT, "bundle": "null", "status_interval": 0.1} | more))


@dataclass
class Running:
    """A bridge that runs in a thread of the test."""

    bridge: Bridge
    thread: threading.Thread
    ends: list[int | BaseException] = field(default_factory=list)

    def end(self, *, drain: bool = True) -> int | BaseException:
        """Stops it and returns its exit code, or what it raised."""
        self.bridge.stop(drain=drain)
        return self.wait()

    def wait(self) -> int | BaseException:
        """Waits for the end it comes to by itself."""
        self.thread.join(WAIT)
        assert not self.thread.is_alive(), "the bridge hangs"
        return self.ends[0]


@contextlib.contextmanager
def running(
    settings: BridgeSettings,
    translator: TranslatorSource,
    *,
    ready: bool = True,
    load: BundleLoader | None = None,
) -> Iterator[Running]:
    """Runs a bridge in a thread; at the end everything it counted must add up."""
    bridge = Bridge(settings, translator, load=load)

    def work() -> None:
        try:
            state.ends.append(bridge.run())
        except Exception as error:  # noqa: BLE001 - the test looks at it
            state.ends.append(error)

    state = Running(bridge, threading.Thread(target=work, name="bridge-under-test"))
    state.thread.start()
    try:
        assert not ready or bridge.wait_until_ready(WAIT)
        yield state
    finally:
        bridge.stop(drain=False)
        state.thread.join(WAIT)
        assert not state.thread.is_alive(), "the bridge hangs"
    for topic, count in bridge.ledger.snapshot().items():
        assert count.in_flight == 0, (topic, count)
        assert count.received == count.published + count.dropped, (topic, count)


@contextlib.contextmanager
def streaming(simulator: Simulator, translator: TranslatorSource, **settings: Any) -> Iterator[tuple[Running, Reader]]:
    """A bridge that runs, is connected to the simulator, and is being read."""
    with (
        running(make_settings(simulator.address, **settings), translator) as bridge,
        Reader(bridge.bridge.output_address) as reader,
    ):
        simulator.wait_for_subscriptions()
        yield bridge, reader


class Child:
    """A Python process that prints JSON lines."""

    def __init__(self, script: str, **options: Any) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / script), json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=_environment(),
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def line(self) -> Any:
        """The next JSON line it prints."""
        assert self.process.stdout is not None
        text = self.process.stdout.readline()
        assert text, f"the process ended with {self.process.wait(WAIT)} and said nothing"
        return json.loads(text)

    def go(self) -> None:
        """Lets it go on."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = WAIT) -> int:
        """Its exit code."""
        return self.process.wait(seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait(WAIT)
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


class BridgeProcess(Child):
    """A bridge in a process of its own. Its last line, after a signal, is its account."""

    def __init__(self, input: str, translator: str = "stamp", **settings: Any) -> None:
        super().__init__("bridge_process.py", translator=translator, settings={"input": input, **settings})
        self.address: str = self.line()["address"]


@dataclass(frozen=True)
class Plan:
    """What a publisher process sends.

    Attributes:
        address: Where it binds.
        session: Its session id.
        frames: Ticks, numbered from 0.
        loss: Share of messages that are not sent.
        duplicates: Share of messages that are sent twice.
        reorder: By how many places a message may come too late.
        seed: Of all randomness.
        rate: Ticks per second; 0 for as fast as possible.
        size: Of the frames, (width, height) in pixels.
    """

    address: str = ANY_PORT
    session: str = "s"
    frames: int = 100
    loss: float = 0.0
    duplicates: float = 0.0
    reorder: int = 0
    seed: int = 0
    rate: float = 0.0
    size: tuple[int, int] = (16, 8)

    def messages(self) -> list[tuple[Kind, int]]:
        """Kind and frame number of every message, in the order of sending; the last tick is always whole and last."""
        chance = random.Random(self.seed)
        keyed: list[tuple[float, Kind, int]] = []
        for number in range(self.frames):
            for kind in (Kind.RGB, Kind.SEMANTIC):
                if chance.random() < self.loss:
                    continue
                copies = 2 if chance.random() < self.duplicates else 1
                keyed += [(number + chance.uniform(0, self.reorder), kind, number) for _ in range(copies)]
        keyed.sort(key=lambda item: item[0])
        return [item[1:] for item in keyed] + [(Kind.RGB, self.frames), (Kind.SEMANTIC, self.frames)]

    @property
    def last(self) -> FrameId:
        """The tick that nothing happens to."""
        return FrameId(self.session, self.frames)

    def options(self) -> dict[str, Any]:
        """For :class:`Child`."""
        return asdict(self)
