"""What commands of plugins that run until they are stopped share."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from sim_bridge.sources import Source


@contextmanager
def stop_on_signals(source: Source) -> Iterator[threading.Event]:
    """Gives an event that SIGINT and SIGTERM set; they close the source, too. The handlers are put back at the end."""
    stop = threading.Event()

    def end() -> None:
        stop.set()
        source.close()

    def handle(number: int, frame: FrameType | None) -> None:
        # In a thread: this one may hold the very lock that setting an event takes.
        del number, frame
        threading.Thread(target=end, name="stop").start()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
