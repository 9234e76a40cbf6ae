"""The small end of the wire: read frames from a bridge, or publish frames from a simulator, in Python.

Imports numpy, pyzmq and msgpack only. Three ways to read, each with its own failure: the next frame (or time-out), the
latest frame if it is young enough (or time-out), exactly frame N (or time-out, or missed).
"""

from __future__ import annotations

import logging
import math
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
import numpy.typing as npt
import zmq

from sim_bridge.errors import FrameTimeoutError, MissedFrameError, UsageError, WireError
from sim_bridge.frames import Encoding, Frame, Kind, PixelArray
from sim_bridge.wire import StatusMessage, decode, encode, topic_of
from sim_bridge.wire.addresses import BRIDGE_ADDRESS, SIMULATOR_ADDRESS
from sim_bridge.wire.transport import BoundSocket, CurveKeys, FrameReceiver, Message

DEFAULT_ADDRESS: Final = BRIDGE_ADDRESS
"""Where a bridge publishes unless told otherwise."""

_log = logging.getLogger(__name__)
_READ_SECONDS = 60.0  # closing ends the wait at once; this only bounds one call
_LEAST_MARK = 4  # with fewer places PUB loses messages even when one is on its way
_LISTEN_SECONDS = 0.01  # between two looks at who subscribed
_GRACE_SECONDS = 1.0  # for a first subscriber to name the rest of its topics
_ROOM_SECONDS = 0.001  # until a full queue is tried again


class Subscriber:
    """Reads one camera's frames.

    A thread takes every message from the socket at once, so that ``received`` is the time of arrival. Frames wait in a
    buffer of ``buffer`` frames; when the caller is slower than the stream the oldest are dropped and counted. Pixels
    are read-only views into the received message; copy what you keep for long.

    Example:
        >>> with Subscriber("tcp://127.0.0.1:5556", camera="camera") as subscriber:  # doctest: +SKIP
        ...     for frame in subscriber.frames(timeout=5.0):
        ...         print(frame.number, frame.pixels.shape)
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        camera: str = "camera",
        kinds: Iterable[Kind | str] = (Kind.PHOTOREAL,),
        buffer: int = 16,
        curve_keys: Path | None = None,
        insecure: bool = False,
    ) -> None:
        """Connects (the publisher may start later).

        Args:
            address: ZeroMQ address of the publisher.
            camera: Name of the camera.
            kinds: What to subscribe to; ``status`` messages are kept apart, see :attr:`status`.
            buffer: How many frames wait for the caller at most.
            curve_keys: Folder with the CURVE keys of the setup; for a publisher on another machine.
            insecure: Allow a publisher on another machine without keys.

        Raises:
            UsageError: The address, a kind, the keys or the buffer cannot be used.
            WireError: The camera's name is not allowed.
        """
        self._address = address
        self._camera = camera
        self._kinds = tuple(dict.fromkeys(_kind(kind) for kind in kinds))
        if not self._kinds or buffer < 1:
            raise UsageError(
                f"a subscriber has kinds {self._kinds} and a buffer of {buffer}: give at least one of each"
            )
        self._buffer: deque[Frame] = deque()
        self._room = buffer
        self._arrived = threading.Condition()
        self._counts: Counter[str] = Counter(received=0, malformed=0, dropped=0)
        self._status: StatusMessage | None = None
        self._causes: set[str] = set()
        self._closed = False
        topics = [topic_of(camera, kind).decode() for kind in self._kinds]
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            keys = None if curve_keys is None else CurveKeys.load(curve_keys)
            receiver = FrameReceiver(self._context, address, topics, keys=keys, insecure=insecure)
        except UsageError:
            self._context.term()
            raise
        self._thread = threading.Thread(target=self._read, args=(receiver,), name=f"subscriber-{camera}", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Disconnects; waiting callers get a :class:`FrameTimeoutError`. A second call does nothing."""
        with self._arrived:
            self._closed = True
            self._arrived.notify_all()
        self._context.term()  # ends the reader's wait; returns when the reader has closed its socket
        self._thread.join()

    @property
    def counts(self) -> Mapping[str, int]:
        """Messages ``received``, of them ``malformed``; frames ``dropped``: buffer full, or passed over by a read."""
        with self._arrived:
            return dict(self._counts)

    @property
    def status(self) -> StatusMessage | None:
        """The last status message, when ``status`` is among the kinds."""
        with self._arrived:
            return self._status

    def next_frame(self, timeout: float | None = None) -> Frame:
        """Returns the oldest frame not yet read, waiting for one if there is none.

        Args:
            timeout: Seconds to wait at most; None waits for ever.

        Raises:
            FrameTimeoutError: (a TimeoutError) None came in time.
        """
        return self._wait(self._oldest, timeout, "a frame")

    def frames(self, timeout: float | None = None) -> Iterator[Frame]:
        """Yields frames in order of arrival until none comes within ``timeout`` seconds (None: for ever)."""
        while True:
            try:
                frame = self.next_frame(timeout)
            except FrameTimeoutError:
                return
            yield frame

    def latest(self, max_age_ms: float, timeout: float = 0.0) -> Frame:
        """Returns the newest frame and drops those before it.

        Args:
            max_age_ms: Milliseconds since its arrival here at most.
            timeout: Seconds to wait for such a frame.

        Raises:
            FrameTimeoutError: (a TimeoutError) There is none that young.
        """

        def newest() -> Frame | None:
            oldest_stamp = time.time_ns() - int(max_age_ms * 1e6)
            if not self._buffer or self._buffer[-1].received < oldest_stamp:
                return None
            frame = self._buffer.pop()
            self._counts["dropped"] += len(self._buffer)
            self._buffer.clear()
            return frame

        return self._wait(newest, timeout, f"a frame younger than {max_age_ms:g} ms")

    def frame(
        self, number: int, timeout: float | None = None, *, session: str | None = None, kind: Kind | str | None = None
    ) -> Frame:
        """Returns exactly frame ``number`` and drops the frames of its kind before it.

        Args:
            number: The simulator's frame number.
            timeout: Seconds to wait at most; None waits for ever.
            session: Id of the simulator run it must belong to; None takes any.
            kind: Which kind; None is the first one subscribed to.

        Raises:
            UsageError: The kind is not subscribed to.
            MissedFrameError: A later frame is here already (it stays readable).
            FrameTimeoutError: (a TimeoutError) It did not come in time.
        """
        wanted = self._kinds[0] if kind is None else _kind(kind)
        if wanted not in self._kinds:
            raise UsageError(f"'{wanted}' is not subscribed to (only {', '.join(self._kinds)}): add it to kinds")

        def exactly() -> Frame | None:
            while (frame := next((f for f in self._buffer if f.kind is wanted), None)) is not None:
                ours = session is None or frame.session == session
                if ours and frame.number > number:
                    raise MissedFrameError(
                        f"{wanted} frame {number} of camera '{self._camera}' was missed: frame {frame.number} of "
                        f"session '{frame.session}' is here already, read on from there"
                    )
                self._drop(frame)
                if ours and frame.number == number:
                    return frame
                self._counts["dropped"] += 1
            return None

        return self._wait(exactly, timeout, f"{wanted} frame {number}")

    def _wait(self, take: Callable[[], Frame | None], timeout: float | None, what: str) -> Frame:
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._arrived:
            while (frame := take()) is None:
                left = None if deadline is None else deadline - time.monotonic()
                if self._closed or (left is not None and left <= 0):
                    raise FrameTimeoutError(self._why_nothing(what, timeout))
                self._arrived.wait(left)
            return frame

    def _why_nothing(self, what: str, timeout: float | None) -> str:
        source = f"{what} of camera '{self._camera}' from {self._address}"
        if self._closed:
            return f"{source} cannot come: this subscriber is closed, open a new one"
        seen = f"{self._counts['received']} messages so far, {self._counts['malformed']} of them malformed"
        return f"{source} did not come within {timeout:g} s ({seen}): check that it is published there"

    def _oldest(self) -> Frame | None:
        return self._buffer.popleft() if self._buffer else None

    def _drop(self, frame: Frame) -> None:
        self._buffer = deque(other for other in self._buffer if other is not frame)

    def _read(self, receiver: FrameReceiver) -> None:
        """The reader thread. Whatever ends it, it closes its socket and wakes the callers."""
        try:
            while True:
                message = receiver.receive(_READ_SECONDS)
                if message is not None:
                    self._take(message)
        except zmq.ContextTerminated:
            _log.debug("the subscriber of %s was closed", self._address)
        finally:
            receiver.close()
            with self._arrived:
                self._closed = True
                self._arrived.notify_all()

    def _take(self, raw: Message) -> None:
        try:
            parts = [part.buffer for part in raw.parts]
            message: Frame | StatusMessage | None = decode(parts, received=raw.received)
        except WireError as error:
            message = None
            if error.cause not in self._causes:
                self._causes.add(error.cause)
                _log.warning("malformed message from %s (logged once per cause): %s", self._address, error)
        with self._arrived:
            self._counts["received"] += 1
            if isinstance(message, Frame):
                self._put(message)
            elif message is not None:
                self._status = message
            else:
                self._counts["malformed"] += 1
            self._arrived.notify_all()

    def _put(self, frame: Frame) -> None:
        if len(self._buffer) == self._room:
            self._buffer.popleft()
            self._counts["dropped"] += 1
        self._buffer.append(frame)


class Publisher:
    """Publishes frames on the wire. Several threads may use it.

    Example:
        >>> with Publisher("tcp://127.0.0.1:5555") as publisher:  # doctest: +SKIP
        ...     publisher.publish_image("camera", "rgb", number=1, time=0.05, pixels=rgb, encoding="rgb8")
        ...     publisher.publish_image(
        ...         "camera", "semantic", number=1, time=0.05, pixels=ids, encoding="mono8", labels="carla-0.9.14"
        ...     )
    """

    def __init__(
        self,
        address: str = SIMULATOR_ADDRESS,
        *,
        session: str | None = None,
        queue: int = 32,
        lossless: bool = False,
        curve_keys: Path | None = None,
        insecure: bool = False,
    ) -> None:
        """Binds; subscribers may come and go.

        Args:
            address: ZeroMQ address on this machine; port ``*`` takes a free one, see :attr:`address`.
            session: Id of this simulator run; None makes one.
            queue: How many frames may wait for a subscriber that does not keep up.
            lossless: When a queue is full, wait for room; otherwise further frames are dropped for that subscriber.
            curve_keys: Folder with the CURVE keys of the setup; for an address that other machines can reach.
            insecure: Allow such an address without keys.

        Raises:
            UsageError: The address cannot be bound, the keys cannot be read, or the queue is too short.
        """
        if queue < _LEAST_MARK:
            raise UsageError(f"a publisher's queue has {queue} places, but must have at least {_LEAST_MARK}")
        keys = None if curve_keys is None else CurveKeys.load(curve_keys)
        self.session = session or uuid.uuid4().hex[:16]
        self._wanted: set[bytes] = set()
        self._using = threading.Lock()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            # XPUB is PUB that also tells who listens.
            self._bound = BoundSocket(self._context, zmq.XPUB, address, hwm=queue, keys=keys, insecure=insecure)
        except UsageError:
            self._context.term()
            raise
        self._socket = self._bound.socket
        self._socket.setsockopt(zmq.XPUB_NODROP, int(lossless))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def address(self) -> str:
        """The address bound, with the real port."""
        return self._bound.address

    def close(self, linger: float = 2.0) -> None:
        """Unbinds; what is queued may still leave for ``linger`` seconds. A second call does nothing."""
        self._bound.close(linger)
        self._context.term()

    def publish(self, frame: Frame, *, copy: bool = True, stop: threading.Event | None = None) -> bool:
        """Sends a frame to whoever subscribes, now.

        Args:
            frame: The frame; ``sent`` 0 is replaced by the time now.
            copy: False sends the pixels from where they are, which then must not change any more.
            stop: Ends the wait of a lossless publisher.

        Returns:
            False when ``stop`` was set before there was room.

        Raises:
            WireError: The frame breaks the wire format.
        """
        if frame.sent == 0:
            frame = replace(frame, sent=time.time_ns())
        parts = encode(frame)
        while not self._send(parts, copy):
            if stop is not None and stop.is_set():
                return False
            time.sleep(_ROOM_SECONDS)  # XPUB always says that it can be written to: there is nothing to wait on
        return True

    def publish_image(
        self,
        camera: str,
        kind: Kind | str,
        *,
        number: int,
        time: float,
        pixels: PixelArray,
        encoding: Encoding | str,
        size: tuple[int, int] | None = None,
        labels: str | None = None,
        session: str | None = None,
        fov: float | None = None,
        pose: npt.NDArray[np.float64] | None = None,
    ) -> None:
        """Sends an array as a frame.

        Args:
            camera: Name of the camera.
            kind: What the image shows.
            number: The simulator's frame number.
            time: Simulator time, seconds.
            pixels: As :class:`~sim_bridge.frames.Frame` has them.
            encoding: How to read them.
            size: ``(width, height)``; only ``jpeg`` and ``png`` need it.
            labels: Name of the taxonomy; semantic frames need it.
            session: Id of the simulator run; None takes the publisher's.
            fov: Horizontal field of view, degrees.
            pose: ``(4, 4)`` camera to world, metres.

        Raises:
            UsageError: A compressed image has no size, or the kind or encoding is unknown.
            WireError: The frame breaks the wire format.
        """
        if size is None and pixels.ndim < 2:
            raise UsageError(
                f"a '{encoding}' image of shape {pixels.shape} was given without its size: pass size=(w, h)"
            )
        width, height = size if size is not None else (pixels.shape[1], pixels.shape[0])
        frame = Frame(
            camera=camera,
            kind=_kind(kind),
            number=number,
            time=time,
            session=session or self.session,
            encoding=_encoding(encoding),
            width=width,
            height=height,
            pixels=pixels,
            sent=0,
            labels=labels,
            fov=fov,
            pose=pose,
        )
        self.publish(frame)

    def wait_for_subscriber(self, camera: str, kind: Kind | str, timeout: float) -> None:
        """Returns as soon as someone subscribes to a stream; what is published before is lost to all.

        Args:
            camera: Name of the camera.
            kind: Kind of the stream.
            timeout: Seconds to wait at most.

        Raises:
            FrameTimeoutError: (a TimeoutError) Nobody did in time.
        """
        topic = topic_of(camera, _kind(kind)).decode()
        if not self.wait_for_subscribers([topic], timeout):
            raise FrameTimeoutError(
                f"nobody subscribed to {topic} on {self.address} within {timeout:g} s: start a subscriber"
            )

    def wait_for_subscribers(
        self, topics: Iterable[str], timeout: float | None, stop: threading.Event | None = None
    ) -> bool:
        """Waits until all topics have a subscriber; once one of them has, 1 s at most for the others.

        Args:
            topics: Topics that will be published, as ``camera/rgb``.
            timeout: Seconds to wait for the first one; None waits for ever.
            stop: Ends the wait when set.

        Returns:
            Whether any of them has a subscriber.
        """
        wanted = {topic.encode() for topic in topics}
        missing = wanted
        ended = stop or threading.Event()
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            with self._using:
                self._hear()
                still = {topic for topic in missing if not any(topic.startswith(name) for name in self._wanted)}
            if missing == wanted and still != wanted:
                deadline = min(deadline, time.monotonic() + _GRACE_SECONDS)
            missing = still
            if not missing or time.monotonic() >= deadline or ended.wait(_LISTEN_SECONDS):
                return missing != wanted

    def _send(self, parts: list[bytes | memoryview], copy: bool) -> bool:
        """Hands a message to the socket; False when a lossless publisher has no room."""
        with self._using:
            self._hear()
            try:
                self._socket.send_multipart(parts, flags=zmq.NOBLOCK, copy=copy)
            except zmq.Again:
                return False
        return True

    def _hear(self) -> None:
        """Takes in who subscribed and who left."""
        while self._socket.poll(0):
            message = self._socket.recv()
            if message[:1] == b"\x01":
                self._wanted.add(message[1:])
            elif message[:1] == b"\x00":
                self._wanted.discard(message[1:])


def _kind(kind: Kind | str) -> Kind:
    if kind not in Kind.__members__.values():
        raise UsageError(f"the kind {kind!r} is unknown: use one of {', '.join(Kind)}")
    return Kind(kind)


def _encoding(encoding: Encoding | str) -> Encoding:
    if encoding not in Encoding.__members__.values():
        raise UsageError(f"the encoding {encoding!r} is unknown: use one of {', '.join(Encoding)}")
    return Encoding(encoding)
