"""Connections of the page, bounded: sockets share the process's file descriptors with the streams."""

from __future__ import annotations

import asyncio
from typing import Final

from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS: Final = 128
"""A page takes one, and six for some seconds while it loads; those above are closed at once."""
REQUEST_SECONDS: Final = 5.0
"""How long a client may take to send a request's header."""


class BoundedProtocol(H11Protocol):
    """HTTP on one connection. Uvicorn limits neither their number nor how long a request may take to come."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client connects."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
        else:
            self._timer = self.loop.call_later(REQUEST_SECONDS, transport.abort)

    def data_received(self, data: bytes) -> None:
        """A piece of a request comes."""
        super().data_received(data)
        if self._is_waiting():
            self._timer = self._timer or self.loop.call_later(REQUEST_SECONDS, self.transport.abort)
        else:
            self._stop()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._stop()
        super().connection_lost(exc)

    def _is_waiting(self) -> bool:
        """Whether no whole header has come since the last answer; a WebSocket is no longer among the connections."""
        return self in self.connections and (self.cycle is None or self.cycle.response_complete)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
