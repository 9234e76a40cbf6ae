"""Streams: one TCP connection per subscription, on which the server pushes messages.

A client connects, sends the stream's id in 4 bytes and nothing else, ever. Each message is its size in 4 bytes and its
payload. All numbers are little endian.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from tests.carla_server.sockets import LOOPBACK, Listener, shut

EPISODE_STREAM: Final = 1
QUEUE_MESSAGES: Final = 4
"""Messages that wait for one reader, beside what its connection holds."""
READER_PATIENCE: Final = 30.0
"""How long a synchronous world waits for a reader before it cuts it off, seconds."""
REFUSAL_SECONDS: Final = 0.1
"""Clients come back at once after a close, thousands of times a second, so a refused one waits that long for it."""
HANDSHAKE_SECONDS: Final = 5.0

_SIZE = struct.Struct("<I")
_TOKEN = struct.Struct("<IHBB16s")
_TCP: Final = 1
_IPV4: Final = 1

Buffer = bytes | memoryview
Message = Sequence[Buffer]
"""The payload in parts, so that cached pixels need not be copied; all parts are flat bytes."""


def token(stream: int, port: int) -> bytes:
    """24 bytes that tell a client where a stream can be read."""
    return _TOKEN.pack(stream, port, _TCP, _IPV4, socket.inet_aton(LOOPBACK))


class Subscription:
    """One reader of a stream: a bounded queue and a thread that writes it, so that a slow reader holds up no other.

    Args:
        connection: Where the reader is.

    Attributes:
        dropped: Messages that found the queue full.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._waiting: deque[Message] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self.dropped = 0
        threading.Thread(target=self._write, daemon=True, name="stream writer").start()

    @property
    def is_open(self) -> bool:
        """Whether messages still have a chance to arrive."""
        return not self._closed

    def offer(self, message: Message, *, wait: bool) -> None:
        """Queues a message.

        Args:
            message: The payload.
            wait: Whether to wait while the queue is full, as a synchronous world does; else the message is dropped.
        """
        with self._changed:
            if wait and not self._changed.wait_for(self._has_room, READER_PATIENCE):
                self.close()
            if self._closed:
                return
            if len(self._waiting) >= QUEUE_MESSAGES:
                self.dropped += 1
                return
            self._waiting.append(message)
            self._changed.notify_all()

    def close(self) -> None:
        """Cuts the connection; what waits is lost."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        shut(self._connection)

    def _has_room(self) -> bool:
        return self._closed or len(self._waiting) < QUEUE_MESSAGES

    def _write(self) -> None:
        with contextlib.suppress(OSError):  # the reader is gone
            while (message := self._next()) is not None:
                size = _SIZE.pack(sum(len(part) for part in message))
                self._connection.sendall(size + message[0])
                for part in message[1:]:
                    self._connection.sendall(part)
        self.close()

    def _next(self) -> Message | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._waiting)
            if self._closed:
                return None
            message = self._waiting.popleft()
            self._changed.notify_all()
            return message


class Streams:
    """The port that streams are read from.

    Args:
        port: Port; 0 lets the system choose.
        is_known: Whether a stream of that id can be read now.
        first_message: What a new reader of a stream is sent at once; None for nothing.
    """

    def __init__(
        self,
        port: int,
        is_known: Callable[[int], bool],
        first_message: Callable[[int], Message | None],
    ) -> None:
        self._is_known, self._first_message = is_known, first_message
        self._lock = threading.Lock()
        self._subscriptions: dict[int, list[Subscription]] = {}
        self._refused_until: dict[int, float] = {}
        self._listener = Listener(port, self._serve)

    @property
    def port(self) -> int:
        """The port, once started."""
        return self._listener.port

    def start(self) -> None:
        """Begins to accept readers."""
        self._listener.start()

    def publish(self, stream: int, message: Message, *, wait: bool) -> None:
        """Offers a message to all readers of a stream; see :meth:`Subscription.offer`."""
        for subscription in self.readers(stream):
            subscription.offer(message, wait=wait)

    def readers(self, stream: int) -> list[Subscription]:
        """Those who read a stream now."""
        with self._lock:
            return [one for one in self._subscriptions.get(stream, ()) if one.is_open]

    def has_readers(self, stream: int) -> bool:
        """Whether anybody reads a stream."""
        return bool(self.readers(stream))

    def close(self, stream: int, refuse_seconds: float = 0.0) -> None:
        """Cuts off all readers of a stream; new ones are refused for a while."""
        with self._lock:
            self._refused_until[stream] = time.monotonic() + refuse_seconds
            readers = self._subscriptions.pop(stream, [])
        for subscription in readers:
            subscription.close()

    def _serve(self, connection: socket.socket) -> None:
        stream = _handshake(connection)
        subscription = None if stream is None else self._subscribe(stream, connection)
        if subscription is None or stream is None:
            time.sleep(REFUSAL_SECONDS)
            return
        if first := self._first_message(stream):
            subscription.offer(first, wait=False)
        with contextlib.suppress(OSError):
            while connection.recv(4096):  # clients send nothing more: this waits for the end
                pass
        subscription.close()

    def _subscribe(self, stream: int, connection: socket.socket) -> Subscription | None:
        known = self._is_known(stream)
        with self._lock:
            if not known or time.monotonic() < self._refused_until.get(stream, 0.0):
                return None
            subscription = Subscription(connection)
            others = [one for one in self._subscriptions.get(stream, ()) if one.is_open]
            self._subscriptions[stream] = [*others, subscription]
            return subscription


def _handshake(connection: socket.socket) -> int | None:
    """The id of the stream that the client wants; None where it does not say."""
    connection.settimeout(HANDSHAKE_SECONDS)
    try:
        raw = connection.recv(_SIZE.size, socket.MSG_WAITALL)
    except OSError:
        return None
    connection.settimeout(None)
    return int(_SIZE.unpack(raw)[0]) if len(raw) == _SIZE.size else None
