"""SIGINT (Ctrl-C) and SIGTERM as requests, where they shall not end the process by themselves."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def on_signals(act: Callable[[], None]) -> Iterator[None]:
    """Calls ``act`` on SIGINT and SIGTERM within this context; the handlers that were there before are back after it.

    ``act`` runs between two instructions of the main thread, so it may take no lock that this thread may hold.
    """

    def handle(_number: int, _frame: FrameType | None) -> None:
        act()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
