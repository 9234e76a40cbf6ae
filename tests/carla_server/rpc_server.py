"""The port that methods are called at."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import Counter
from typing import Final

from tests.carla_server import rpc
from tests.carla_server.methods import NAMES, Methods
from tests.carla_server.rpc import Request
from tests.carla_server.sockets import Listener

ANY_METHOD: Final = "*"
MAX_HELD_SECONDS: Final = 3600.0


class RpcServer:
    """The port that methods are called at.

    Args:
        port: Port; 0 lets the system choose.
        methods: What answers.

    Attributes:
        calls: How often each method was called.
    """

    def __init__(self, port: int, methods: Methods) -> None:
        self._methods = methods
        self._held: dict[str, float] = {}
        self.refused = ""
        """A method whose every call fails."""
        self._released = threading.Event()
        self.calls: Counter[str] = Counter()
        self._listener = Listener(port, self._serve)

    @property
    def port(self) -> int:
        """The port, once started."""
        return self._listener.port

    def start(self) -> None:
        """Begins to accept clients."""
        self._listener.start()
        self._methods.port = self.port

    def hold(self, method: str, seconds: float) -> None:
        """Keeps the answers of a method (:data:`ANY_METHOD`: of all) back that long; 0 lets all go, held ones too."""
        self._held[method] = seconds
        if not seconds:
            released, self._released = self._released, threading.Event()
            released.set()

    def _serve(self, connection: socket.socket) -> None:
        reader = rpc.RequestReader()
        with contextlib.suppress(OSError, rpc.FramingError):  # the client is gone, or is none
            while data := connection.recv(1 << 16):
                for request in reader.feed(data):
                    connection.sendall(self._answer(request))

    def _answer(self, request: Request) -> bytes:
        self.calls[request.method if request.method in NAMES else "unknown"] += 1
        held = max(self._held.get(request.method, 0.0), self._held.get(ANY_METHOD, 0.0))
        if held:
            self._released.wait(held)
        if request.method == self.refused:
            return rpc.encode_answer(request.call_id, rpc.failure(f"{request.method} is refused by order"))
        return rpc.encode_answer(request.call_id, self._methods.call(request))
