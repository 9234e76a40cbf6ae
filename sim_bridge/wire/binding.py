"""Whether an address can be bound, and what to do when it cannot."""

from __future__ import annotations

import errno
import socket
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import zmq

IPC: Final = "ipc://"
MAX_PATH_BYTES: Final = 107
"""Of an ipc path: what Linux has room for."""

_ADVICE: Final[Mapping[int, str]] = {
    errno.EADDRINUSE: "another process may hold it; end that process, or choose another address",
    errno.ENOENT: "make its folder first",
    errno.ENOTDIR: "a part of its path is a file; choose another path",
    errno.ENAMETOOLONG: f"an ipc path has at most {MAX_PATH_BYTES} bytes; choose a shorter one, such as in /tmp",
    errno.EACCES: "you have no right to; choose a port above 1023, or a path in a folder of your own",
    errno.EADDRNOTAVAIL: "this machine has no such address; give one of its own",
    errno.ENODEV: "this machine has no such address; give one of its own",
    errno.EEXIST: "a file that is no socket is there; choose another path",
}
_REST: Final = "choose another address"


def check_free(address: str) -> None:
    """Looks at an ipc path, which ZeroMQ would take from whoever has it; tcp refuses by itself.

    A socket file at which nobody listens is free: its process has died.

    Raises:
        zmq.ZMQError: Somebody listens there, or a file lies there that is no socket.
    """
    path = address.removeprefix(IPC)
    if path == address or path[:1] in ("@", "*"):
        return
    try:
        mode = Path(path).lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise zmq.ZMQError(error.errno) from error
    if not stat.S_ISSOCK(mode):
        raise zmq.ZMQError(errno.EEXIST)
    if _is_listened_to(path):
        raise zmq.ZMQError(errno.EADDRINUSE)


def why_not_bound(address: str, error: zmq.ZMQError) -> str:
    """A sentence with the reason and what to do about it."""
    number = error.errno or 0
    reason = zmq.strerror(number)
    return f"cannot bind {address} ({reason}): {_ADVICE.get(number, _REST)}"


def _is_listened_to(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:  # its queue is full, or it is another user's
            return True
    return True
