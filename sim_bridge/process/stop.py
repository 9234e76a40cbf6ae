"""What commands of plugins that run until they are stopped share."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sim_bridge.process.signals import on_signals
from sim_bridge.sources import Source


@contextmanager
def stop_on_signals(source: Source) -> Iterator[threading.Event]:
    """Gives an event that SIGINT and SIGTERM set; they close the source, too. The handlers are put back at the end."""
    stop = threading.Event()

    def end() -> None:
        stop.set()
        source.close()

    # In a thread: this one may hold the very lock that setting an event takes.
    with on_signals(lambda: threading.Thread(target=end, name="stop").start()):
        yield stop
