"""The small end of the wire: read frames from a bridge, or publish frames from a simulator, in Python.

Imports numpy, pyzmq and msgpack only. Three ways to read, each with its own failure: the next frame (or time-out), the
latest frame if it is young enough (or time-out), exactly frame N (or time-out, or missed).
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import zmq

from sim_bridge.errors import FrameTimeoutError, MissedFrameError, UsageError, WireError
from sim_bridge.frames import Frame, Kind
from sim_bridge.publisher import Publisher, kind_of
from sim_bridge.wire import StatusMessage, decode, topic_of
from sim_bridge.wire.addresses import BRIDGE_ADDRESS
from sim_bridge.wire.transport import CurveKeys, FrameReceiver, Message

__all__ = ["DEFAULT_ADDRESS", "Publisher", "Subscriber"]

DEFAULT_ADDRESS: Final = BRIDGE_ADDRESS
"""Where a bridge publishes unless told otherwise."""

_log = logging.getLogger(__name__)
_READ_SECONDS = 60.0  # closing ends the wait at once; this only bounds one call


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
        self._kinds = tuple(dict.fromkeys(kind_of(kind) for kind in kinds))
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
        """Returns the oldest frame not yet read; waits for one, for ever when ``timeout`` (seconds) is None.

        Raises:
            FrameTimeoutError: (a TimeoutError) None came in time.
        """
        return self._wait(self._oldest, timeout, "a frame")

    def frames(self, timeout: float | None = None) -> Iterator[Frame]:
        """Yields frames in order of arrival until none comes within ``timeout`` seconds (None: for ever).

        When none has ever come, a warning says so.
        """
        while True:
            try:
                frame = self.next_frame(timeout)
            except FrameTimeoutError as error:
                if not self.counts["received"] and not self._closed:
                    _log.warning("%s", error)
                return
            yield frame

    def latest(self, max_age_ms: float, timeout: float = 0.0) -> Frame:
        """Returns the newest frame, at most ``max_age_ms`` after its arrival here, and drops those before it.

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
        wanted = self._kinds[0] if kind is None else kind_of(kind)
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
