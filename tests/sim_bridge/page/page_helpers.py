"""What the page's tests share: a bridge with its page, and a WebSocket client on a bare socket."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from http.client import HTTPConnection, HTTPResponse
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    Request,
    TextMessage,
)

from sim_bridge.live.bridge import Bridge
from sim_bridge.live.shared import BundleLoader
from sim_bridge.page.server import Page
from sim_bridge.translators import Translator
from tests.sim_bridge.bridge_helpers import WAIT, Reader, Simulator, make_settings, running

ALL_PANELS = ("cg", "photoreal", "labels", "dned", "laplacian")


class Shown(NamedTuple):
    """A bridge that runs, with its page, its simulator and a reader."""

    simulator: Simulator
    bridge: Bridge
    reader: Reader
    page: Page

    @property
    def port(self) -> int:
        return urlsplit(self.page.address).port or 0

    def get(self, path: str, **headers: str) -> tuple[HTTPResponse, str]:
        """One HTTP request on a connection of its own; the answer and its text."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=WAIT)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return answer, answer.read().decode()


@contextlib.contextmanager
def showing(translator: Translator, *, load: BundleLoader | None = None, **more: Any) -> Iterator[Shown]:
    """A running bridge with its page on a port of the operating system's choice."""
    with Simulator() as simulator:
        settings = make_settings(simulator.address, **{"page": 0, **more})
        cameras = settings.topics
        with (
            running(settings, translator, load=load) as started,
            Page(started.bridge) as page,
            Reader(started.bridge.output_address, cameras[0]) as reader,
        ):
            simulator.wait_for_subscriptions(2 * len(cameras))
            yield Shown(simulator, started.bridge, reader, page)


class Picture(NamedTuple):
    """A binary message of the page."""

    header: Mapping[str, Any]
    payload: bytes


class RefusedError(Exception):
    """The server did not open the WebSocket; the status code."""


class WebClient:
    """A page's WebSocket without a browser. It reads only when it is asked to."""

    def __init__(self, port: int, *, receive_buffer: int | None = None, **headers: str) -> None:
        self._socket = socket.socket()
        if receive_buffer is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.settimeout(WAIT)
        self._socket.connect(("127.0.0.1", port))
        self._connection = WSConnection(ConnectionType.CLIENT)
        self._events: list[Event] = []
        self._parts: list[bytes | str] = []
        host = headers.pop("host", f"127.0.0.1:{port}")
        extra = [(name.encode(), value.encode()) for name, value in headers.items()]
        self._socket.sendall(self._connection.send(Request(host=host, target="/ws", extra_headers=extra)))
        first = self._next_event()
        if isinstance(first, RejectConnection):
            self._socket.close()
            raise RefusedError(first.status_code)
        assert isinstance(first, AcceptConnection), first

    def send(self, **order: Any) -> None:
        """Sends an order."""
        self.send_text(json.dumps(order))

    def send_text(self, text: str) -> None:
        self._socket.sendall(self._connection.send(TextMessage(text)))

    def watch(self, camera: str = "camera", panels: tuple[str, ...] = ALL_PANELS) -> None:
        self.send(op="watch", camera=camera, panels=panels)

    def message(self) -> dict[str, Any] | Picture:
        """The next message."""
        while True:
            event = self._next_event()
            if isinstance(event, CloseConnection):
                raise ConnectionError(event.code, event.reason)
            if isinstance(event, TextMessage | BytesMessage):
                self._parts.append(event.data if isinstance(event.data, str) else bytes(event.data))
                if event.message_finished:
                    return self._whole()

    def _whole(self) -> dict[str, Any] | Picture:
        parts, self._parts = self._parts, []
        if isinstance(parts[0], str):
            text: dict[str, Any] = json.loads("".join(str(part) for part in parts))
            return text
        data = b"".join(part for part in parts if isinstance(part, bytes))
        (length,) = struct.unpack(">I", data[:4])
        return Picture(json.loads(data[4 : 4 + length]), data[4 + length :])

    def text(self, kind: str, fits: Callable[[dict[str, Any]], bool] = lambda message: True) -> dict[str, Any]:
        """The next JSON message of a type that fits."""
        while True:
            message = self.message()
            if isinstance(message, dict) and message["type"] == kind and fits(message):
                return message

    def picture(self, kind: str = "picture") -> Picture:
        """The next binary message of a type."""
        while True:
            message = self.message()
            if isinstance(message, Picture) and message.header["type"] == kind:
                return message

    def tick(self, *, acknowledge: bool = True) -> dict[str, Picture]:
        """The pictures of the next tick by panel."""
        first = self.picture()
        pictures = {first.header["kind"]: first}
        while len(pictures) < first.header["of"]:
            picture = self.picture()
            assert picture.header["tick"] == first.header["tick"]
            pictures[picture.header["kind"]] = picture
        if acknowledge:
            self.send(op="shown", tick=first.header["tick"])
        return pictures

    def _next_event(self) -> Event:
        while not self._events:
            data = self._socket.recv(1 << 16)
            if not data:
                raise ConnectionError("the server closed the connection")
            self._connection.receive_data(data)
            for event in self._connection.events():
                if isinstance(event, Ping):
                    self._socket.sendall(self._connection.send(event.response()))
                else:
                    self._events.append(event)
        return self._events.pop(0)

    def shut_down(self) -> None:
        """Ends the connection under a thread that still reads; that one gets a ``ConnectionError``."""
        self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
