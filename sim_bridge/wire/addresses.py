"""Addresses of streams: how they are written, and which hold unless told otherwise."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from typing import Final, NamedTuple

SIMULATOR_ADDRESS: Final = "tcp://127.0.0.1:5555"
"""Where a simulator publishes unless told otherwise, and the bridge listens."""
BRIDGE_ADDRESS: Final = "tcp://127.0.0.1:5556"
"""Where a bridge publishes unless told otherwise."""
MAX_PORT: Final = 65535

_ADDRESS = re.compile(
    r"tcp://(?P<host>\[[^\]\s]+\]|[^\s:/\[\]]+):(?P<port>\d+|\*)|(?P<scheme>ipc|inproc)://.+", re.ASCII
)


class Address(NamedTuple):
    """An address that is written correctly.

    Attributes:
        host: Of tcp, without the brackets of IPv6; None for ``ipc`` and ``inproc``.
        port: Of tcp; None for ``*``, which lets the operating system choose, and where there are no ports.
    """

    host: str | None
    port: int | None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``: ``localhost`` or a loopback address."""
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    return False


def parse_address(text: str) -> Address:
    """Reads ``tcp://HOST:PORT``, ``ipc://PATH`` or ``inproc://NAME``.

    Raises ValueError when it is none of them, or the port does not exist. (ZeroMQ would take port 99999 for 34463.)
    """
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise ValueError(f"an address is written tcp://HOST:PORT or ipc://PATH, for example {SIMULATOR_ADDRESS}")
    if match["scheme"] is not None:
        return Address(None, None)
    host = match["host"].strip("[]")
    if match["port"] == "*":
        return Address(host, None)
    if len(match["port"]) > len(str(MAX_PORT)) or not 1 <= int(match["port"]) <= MAX_PORT:
        raise ValueError(f"the port must be 1 to {MAX_PORT}")
    return Address(host, int(match["port"]))
