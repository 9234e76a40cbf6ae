"""Publishes frames on the wire; :mod:`sim_bridge.client` hands it on. Imports numpy, pyzmq and msgpack only."""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
import numpy.typing as npt
import zmq

from sim_bridge.errors import FrameTimeoutError, UsageError
from sim_bridge.frames import Encoding, Frame, Kind, PixelArray
from sim_bridge.wire import encode, topic_of
from sim_bridge.wire.addresses import SIMULATOR_ADDRESS
from sim_bridge.wire.transport import BoundSocket, CurveKeys

_LEAST_MARK: Final = 4  # with fewer places PUB loses messages even when one is on its way
_LISTEN_SECONDS: Final = 0.01  # between two looks at the subscriptions
_GRACE_SECONDS: Final = 1.0  # for a first subscriber to name the rest of its topics
_ROOM_SECONDS: Final = 0.001  # until a full queue is tried again


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
            queue: How many frames may wait for a slow subscriber.
            lossless: Wait for room in a full queue; otherwise that subscriber loses frames.
            curve_keys: Folder with the CURVE keys, for an address that other machines can reach.
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
            # XPUB is PUB that also hears of subscriptions.
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
        with self._using:
            self._bound.close(linger)
            self._context.term()

    def publish(self, frame: Frame, *, copy: bool = True, stop: threading.Event | None = None) -> bool:
        """Sends a frame now; False when ``stop`` ended a lossless publisher's wait for room.

        Args:
            frame: Its ``sent`` 0 is replaced by the time now.
            copy: False sends the pixels from where they are; they must not change any more.
            stop: Ends the wait for room.

        Raises:
            WireError: The frame breaks the wire format.
            UsageError: The publisher is closed.
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
            pixels: As in :class:`~sim_bridge.frames.Frame`.
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
            kind=kind_of(kind),
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
        """Waits for a subscriber of a stream; earlier frames are lost to all.

        Raises:
            FrameTimeoutError: (a TimeoutError) Nobody subscribed within ``timeout`` seconds.
        """
        topic = topic_of(camera, kind_of(kind)).decode()
        if not self.wait_for_subscribers([topic], timeout):
            raise FrameTimeoutError(
                f"nobody subscribed to {topic} on {self.address} within {timeout:g} s: start a subscriber"
            )

    def wait_for_subscribers(
        self, topics: Iterable[str], timeout: float | None, stop: threading.Event | None = None
    ) -> bool:
        """Waits until all topics (``camera/rgb``) have a subscriber; 1 s for the others once one has.

        Returns whether any has one in ``timeout`` seconds (None: for ever); ``stop`` ends the wait.
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
        """Reads which subscriptions came and went."""
        if self._socket.closed:
            raise UsageError(f"the publisher of {self.address} is closed: make a new one")
        while self._socket.poll(0):
            message = self._socket.recv()
            if message[:1] == b"\x01":
                self._wanted.add(message[1:])
            elif message[:1] == b"\x00":
                self._wanted.discard(message[1:])


def kind_of(kind: Kind | str) -> Kind:
    """The kind of this name. Raises UsageError: there is none."""
    if kind not in Kind.__members__.values():
        raise UsageError(f"the kind {kind!r} is unknown: use one of {', '.join(Kind)}")
    return Kind(kind)


def _encoding(encoding: Encoding | str) -> Encoding:
    if encoding not in Encoding.__members__.values():
        raise UsageError(f"the encoding {encoding!r} is unknown: use one of {', '.join(Encoding)}")
    return Encoding(encoding)
