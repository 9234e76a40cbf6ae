"""The replay's end of the wire: a publisher that knows when somebody listens."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import zmq
from zmq.auth.thread import ThreadAuthenticator

from sim_bridge.errors import UsageError
from sim_bridge.frames import Frame
from sim_bridge.wire import encode
from sim_bridge.wire.transport import CurveKeys, check_address

_POLL: Final = 0.1  # seconds between looks at the stop event while waiting for subscribers
_RETRY: Final = 0.001  # seconds until a full queue is tried again
_SUBSCRIBE: Final = b"\x01"  # first byte of what XPUB tells of a new subscription
_GRACE: Final = 1.0  # seconds for a first subscriber to name the rest of its topics
_LINGER: Final = 2.0  # seconds for the last messages to leave


class ReplayPublisher:
    """An XPUB socket that binds: unlike PUB it sees subscriptions, and can wait instead of dropping.

    Args:
        address: Where to bind.
        lossless: Wait for slow subscribers instead of dropping what they do not take.
        curve_keys: Folder with CURVE keys, or None.
        insecure: Allow an address off this machine without keys.

    Raises:
        UsageError: The address is not allowed, in use, or the keys cannot be read.
    """

    def __init__(
        self, address: str, *, lossless: bool = False, curve_keys: Path | None = None, insecure: bool = False
    ) -> None:
        keys = None if curve_keys is None else CurveKeys.load(curve_keys)
        check_address(address, encrypted=keys is not None, insecure=insecure)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.XPUB)
        self._authenticator: ThreadAuthenticator | None = None
        self._socket.setsockopt(zmq.XPUB_NODROP, int(lossless))
        self._socket.sndhwm = 16
        self._socket.ipv6 = "[" in address  # else LAST_ENDPOINT comes back as a mapped address nobody recognises
        if keys is not None:
            self._socket.curve_publickey, self._socket.curve_secretkey = keys.public, keys.secret
            self._socket.curve_server = True
            # Without it a CURVE server talks to everyone who knows its public key.
            self._authenticator = ThreadAuthenticator(self._context)
            self._authenticator.start()
            self._authenticator.configure_curve(domain="*", location=str(keys.folder))
        try:
            self._socket.bind(address)
        except zmq.ZMQError as error:
            self._close(linger=0.0)
            raise UsageError(
                f"cannot bind {address} ({zmq.strerror(error.errno or 0)}): another simulator or replay may hold it, "
                "end it or give another --address"
            ) from error
        endpoint = self._socket.getsockopt(zmq.LAST_ENDPOINT)
        self.address: str = endpoint.decode() if isinstance(endpoint, bytes) else str(endpoint)
        self._subscriptions: set[bytes] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close(_LINGER if kind is None else 0.0)

    def _close(self, linger: float) -> None:
        self._socket.close(linger=round(linger * 1000))
        if self._authenticator is not None:
            self._authenticator.stop()
        self._context.term()

    def wait_for_subscriber(self, topics: Iterable[str], timeout: float | None, stop: threading.Event) -> bool:
        """Waits until somebody subscribed to these topics; a moment after the first one, no longer for the others.

        Args:
            topics: The topics that will be published.
            timeout: Seconds to wait at most; None waits for ever.
            stop: Ends the wait when set.

        Returns:
            Whether somebody subscribed.
        """
        wanted = {topic.encode() for topic in topics}
        missing = wanted
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while missing and not stop.is_set() and time.monotonic() < deadline:
            self._note_subscriptions(_POLL)
            still = {topic for topic in missing if not any(topic.startswith(name) for name in self._subscriptions)}
            if missing == wanted and still != wanted:
                deadline = min(deadline, time.monotonic() + _GRACE)
            missing = still
        return missing != wanted

    def publish(self, frame: Frame, stop: threading.Event) -> bool:
        """Sends a frame, stamped now.

        Returns:
            False when ``stop`` was set before a lossless send found room.
        """
        self._note_subscriptions(0.0)
        parts = encode(replace(frame, sent=time.time_ns()))
        while not stop.is_set():
            try:
                self._socket.send_multipart(parts, flags=zmq.NOBLOCK, copy=False)
            except zmq.Again:
                self._note_subscriptions(_RETRY)  # XPUB always says that it can be written to: nothing to wait on
                continue
            return True
        return False

    def _note_subscriptions(self, timeout: float) -> None:
        wait = round(timeout * 1000)
        while self._socket.poll(wait, zmq.POLLIN):
            message = self._socket.recv()
            wait = 0
            if message[:1] == _SUBSCRIBE:
                self._subscriptions.add(message[1:])
            else:
                self._subscriptions.discard(message[1:])
