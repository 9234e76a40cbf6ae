"""ZeroMQ sockets for frames: bounded, reconnecting, loopback unless told otherwise.

Publishers bind, subscribers connect. ``CONFLATE`` keeps one *part* of a multipart message and is of no use here;
"newest wins" is a reader that never waits and a one-slot mailbox behind it (:mod:`sim_bridge.live.handoff`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import zmq
import zmq.auth
from zmq.auth.thread import ThreadAuthenticator

from sim_bridge.errors import UsageError
from sim_bridge.wire.addresses import is_loopback, parse_address
from sim_bridge.wire.binding import check_free, why_not_bound

KEY_NAME: Final = "sim-bridge"
KEY_CHARACTERS: Final = 40
"""Length of a Z85 key."""
MAX_PART_BYTES: Final = 1 << 29
"""Largest message part that is taken from a socket. ZeroMQ ends the connection of a peer that announces more, for good:
a bound near the largest picture would make the bridge deaf where it now counts a malformed frame."""
MAX_PARTS: Final = 4
"""Parts that are kept of a message: one more than the wire format has, so that its reader sees a wrong number."""
EXPECTED_MESSAGE_BYTES: Final = 1280 * 720 * 4
MAX_SEND_HWM: Final = 1000
MIN_SEND_HWM: Final = 4
REBIND_SECONDS: Final = 5.0
RECONNECT_MS: Final = 100
RECONNECT_MAX_MS: Final = 1000

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CurveKeys:
    """The key pair that all processes of a setup share, and where the public keys of further peers lie.

    Attributes:
        public: Z85 public key.
        secret: Z85 secret key.
        folder: Every ``*.key`` file in it is a public key that may connect.
    """

    public: bytes
    secret: bytes
    folder: Path

    @classmethod
    def load(cls, folder: Path) -> CurveKeys:
        """Reads ``sim-bridge.key_secret`` from ``folder``.

        Raises UsageError when the file is missing or is no ZeroMQ secret certificate.
        """
        path = folder / f"{KEY_NAME}.key_secret"
        create = f"zmq.auth.create_certificates({str(folder)!r}, {KEY_NAME!r})"
        try:
            public, secret = zmq.auth.load_certificate(path)
        except (OSError, ValueError) as error:
            raise UsageError(f"the CURVE key {path} cannot be read ({error}): make one with {create}") from error
        if secret is None or not len(public) == len(secret) == KEY_CHARACTERS:
            raise UsageError(f"the CURVE key {path} holds no secret key: make one with {create}")
        return cls(public, secret, folder)


def is_local(address: str) -> bool:
    """Whether nothing outside this machine can reach ``address`` (loopback tcp, ipc, inproc)."""
    try:
        host = parse_address(address).host
    except ValueError:
        return False
    return host is None or is_loopback(host)


def check_address(address: str, *, encrypted: bool = False, insecure: bool = False) -> None:
    """Holds the rule that a stream leaves the machine only encrypted, or because somebody said so.

    Raises UsageError when the address is neither local nor allowed, or is no address.
    """
    try:
        parse_address(address)
    except ValueError as error:
        raise UsageError(f"the address {address!r} cannot be used: {error}") from error
    if not (is_local(address) or encrypted or insecure):
        raise UsageError(
            f"{address} can be reached from other machines, and frames would travel unencrypted and unauthenticated: "
            "give --curve-keys DIR (in Python curve_keys), or --insecure (insecure=True) if the network is yours alone"
        )


class _Socket:
    """What both directions share: one ZeroMQ socket that is closed exactly once."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], kind: int, address: str) -> None:
        self._socket = _new_socket(context, kind, address)

    def close(self, linger: float = 0.0) -> None:
        """Closes the socket; unsent messages may take ``linger`` seconds more to leave. Closing again does nothing."""
        self._socket.close(linger=round(linger * 1000))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Message:
    """One message as it came from the socket.

    Attributes:
        parts: Its parts; each keeps its receive buffer alive.
        received: When it was taken from the socket, nanoseconds since the epoch.
        taken: The same moment on the monotonic clock (``perf_counter_ns``).
    """

    parts: Sequence[zmq.Frame]
    received: int
    taken: int


class FrameReceiver(_Socket):
    """A SUB socket that connects, and connects again whenever the publisher goes away and comes back.

    Args:
        context: ZeroMQ context.
        address: Where the publisher binds; it need not be there yet.
        topics: Exact topics to subscribe to. (ZeroMQ matches prefixes, so longer topics come too; the reader sorts
            them out.)
        hwm: Messages ZeroMQ keeps when the reader is busy; it drops further ones.
        keys: CURVE keys, or None for a plain connection.
        insecure: Allow an address off this machine without keys.

    Raises:
        UsageError: The address is not allowed.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        address: str,
        topics: Iterable[str],
        *,
        hwm: int = 64,
        keys: CurveKeys | None = None,
        insecure: bool = False,
    ) -> None:
        check_address(address, encrypted=keys is not None, insecure=insecure)
        super().__init__(context, zmq.SUB, address)
        self._timeout_ms = -1
        try:
            self._socket.rcvhwm = hwm
            self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_PART_BYTES)
            self._socket.reconnect_ivl = RECONNECT_MS
            self._socket.reconnect_ivl_max = RECONNECT_MAX_MS
            if keys is not None:
                self._socket.curve_publickey, self._socket.curve_secretkey = keys.public, keys.secret
                self._socket.curve_serverkey = keys.public
            for topic in topics:
                self._socket.subscribe(topic)
            self._socket.connect(address)
        except zmq.ZMQError as error:
            self.close()
            raise UsageError(f"cannot connect to {address} ({error}): check the address") from error

    def subscribe(self, topics: Iterable[str], ended: Iterable[str] = ()) -> None:
        """Subscribes to ``topics`` too, and no longer to those ``ended``; in the thread that receives."""
        for topic in topics:
            self._socket.subscribe(topic)
        for topic in ended:
            self._socket.unsubscribe(topic)

    def receive(self, timeout: float) -> Message | None:
        """Takes the next message, waiting up to ``timeout`` seconds; None when there was none.

        Parts after the fourth are let go unseen.
        """
        timeout_ms = round(timeout * 1000)
        if timeout_ms != self._timeout_ms:
            self._socket.rcvtimeo = self._timeout_ms = timeout_ms
        try:
            parts = [self._socket.recv(copy=False)]
        except zmq.Again:
            return None
        while self._socket.getsockopt(zmq.RCVMORE):
            part = self._socket.recv(copy=False)
            if len(parts) < MAX_PARTS:
                parts.append(part)
        return Message(parts, time.time_ns(), time.perf_counter_ns())


class BoundSocket(_Socket):
    """A publisher's socket: bound, and open to other machines only with keys or consent.

    Args:
        context: ZeroMQ context.
        kind: ``zmq.PUB``, or ``zmq.XPUB`` to hear of subscriptions.
        address: Where to bind; port ``*`` lets the operating system choose.
        hwm: Messages that may wait for each subscriber. Set before binding and never changed: a subscriber that is
            already connected starves when it is (libzmq 4.3.5: its end of the queue goes on acknowledging in steps of
            the old mark).
        keys: CURVE keys, or None for a plain socket.
        insecure: Allow an address off this machine without keys.

    Raises:
        UsageError: The address is not allowed, in use, or not of this machine.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        kind: int,
        address: str,
        *,
        hwm: int,
        keys: CurveKeys | None = None,
        insecure: bool = False,
    ) -> None:
        check_address(address, encrypted=keys is not None, insecure=insecure)
        self._context = context
        self._kind = kind
        self._keys = keys
        self._authenticator = None if keys is None else _authenticate(context, keys)
        super().__init__(context, kind, address)
        try:
            self._bind(address, hwm)
        except zmq.ZMQError as error:
            self.close()
            raise UsageError(why_not_bound(address, error)) from error
        self.address: str = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        """Where it is bound, the port resolved."""

    @property
    def socket(self) -> zmq.Socket[bytes]:
        """The ZeroMQ socket."""
        return self._socket

    def close(self, linger: float = 0.0) -> None:
        """Closes the socket; unsent messages may take ``linger`` seconds more to leave. Closing again does nothing."""
        super().close(linger)
        if self._authenticator is not None:
            self._authenticator.stop()
            self._authenticator = None

    def _bind(self, address: str, hwm: int) -> None:
        self._socket.sndhwm = hwm
        if self._keys is not None:
            self._socket.curve_publickey, self._socket.curve_secretkey = self._keys.public, self._keys.secret
            self._socket.curve_server = True
        check_free(address)
        self._socket.bind(address)

    def _bind_again(self, hwm: int) -> None:
        self._socket.close(linger=0)
        give_up = time.monotonic() + REBIND_SECONDS
        while True:
            self._socket = _new_socket(self._context, self._kind, self.address)
            try:
                self._bind(self.address, hwm)
            except zmq.ZMQError as error:
                self._socket.close(linger=0)
                if time.monotonic() > give_up:
                    raise UsageError(why_not_bound(self.address, error)) from error
                # ZeroMQ frees the port of a closed socket in its own time and tells nobody.
                threading.Event().wait(0.005)
            else:
                return


class FrameSender(BoundSocket):
    """A PUB socket that binds and never waits: a subscriber that does not keep up loses messages, nobody else does.

    ZeroMQ bounds queues in messages, we in bytes: the high-water mark is ``buffer_bytes`` over the size of a message.
    When messages turn out larger than expected, the socket is closed and bound again; subscribers connect again by
    themselves and lose what was queued.

    Args and errors are :class:`BoundSocket`'s, and:
        buffer_bytes: Bound of each slow subscriber's queue (or four messages, if they are larger than that).
        message_bytes: Expected size of a message.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        address: str,
        *,
        buffer_bytes: int = 64 << 20,
        message_bytes: int = EXPECTED_MESSAGE_BYTES,
        keys: CurveKeys | None = None,
        insecure: bool = False,
    ) -> None:
        self._buffer_bytes = buffer_bytes
        self._hwm = self._mark_for(message_bytes)
        self._expect(message_bytes)
        super().__init__(context, zmq.PUB, address, hwm=self._hwm, keys=keys, insecure=insecure)

    @property
    def hwm(self) -> int:
        """The high-water mark, in messages per subscriber."""
        return self._hwm

    def send(self, parts: Sequence[bytes | memoryview]) -> None:
        """Queues one message for every subscriber. Large parts are not copied: they must not change afterwards.

        Raises UsageError: another process took the address during a new bind for larger messages.
        """
        size = sum(len(part) for part in parts)
        if size > self._most_bytes:
            self._expect(size)
            mark = self._mark_for(size)
            if mark < self._hwm:
                logger.info("messages are larger than expected: binding %s again with room for %d", self.address, mark)
                self._hwm = mark
                self._bind_again(mark)
        # On its own libzmq looks at most once a millisecond at what subscribers have read, and takes empty queues for
        # full: then it loses messages even with a single one on its way. Asking for the events makes it look now.
        self._socket.getsockopt(zmq.EVENTS)
        self._socket.send_multipart(parts, copy=False)

    def _expect(self, message_bytes: int) -> None:
        self._most_bytes = message_bytes * 9 // 8  # headers are not worth that

    def _mark_for(self, message_bytes: int) -> int:
        return min(MAX_SEND_HWM, max(MIN_SEND_HWM, self._buffer_bytes // max(1, message_bytes)))


def _new_socket(context: zmq.Context[zmq.Socket[bytes]], kind: int, address: str) -> zmq.Socket[bytes]:
    socket = context.socket(kind)
    socket.linger = 0
    socket.ipv6 = "[" in address
    # A peer whose machine lost power sends no FIN: without this its connection would stay for hours.
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, 10)
    socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, 5)
    socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, 3)
    return socket


def _authenticate(context: zmq.Context[zmq.Socket[bytes]], keys: CurveKeys) -> ThreadAuthenticator:
    """Without it a CURVE server talks to everyone who knows its public key."""
    authenticator = ThreadAuthenticator(context)
    authenticator.start()
    authenticator.configure_curve(domain="*", location=str(keys.folder))
    return authenticator
