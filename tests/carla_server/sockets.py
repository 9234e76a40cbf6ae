"""Listening sockets with one thread per connection."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Final

LOOPBACK: Final = "127.0.0.1"
"""Nothing here listens anywhere else."""


class Listener:
    """Accepts connections and serves each in a thread of its own.

    Args:
        port: Port; 0 lets the system choose.
        serve: Called with each connection, which is closed when it returns.

    Attributes:
        port: The port it listens on, once started.
    """

    def __init__(self, port: int, serve: Callable[[socket.socket], None]) -> None:
        self.port, self._serve = port, serve

    def start(self) -> None:
        """Begins to accept; goes on as long as the process lives.

        Raises:
            OSError: The port is taken.
        """
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((LOOPBACK, self.port))
        self._socket.listen(64)
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True, name=f"port {self.port}").start()

    def _accept(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve_one, args=(connection,), daemon=True).start()

    def _serve_one(self, connection: socket.socket) -> None:
        try:
            self._serve(connection)
        finally:
            shut(connection)
            connection.close()


def shut(connection: socket.socket) -> None:
    """Ends a connection, so that threads that read or write it wake up."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
