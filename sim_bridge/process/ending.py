"""The end of a process whose threads still compute.

Python ends a daemon thread at the moment at which it comes back from a library, by unwinding its stack. That of torch
does not allow it: the process would abort, whatever the script's own exit code is.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

END_SECONDS: Final = 60.0
"""How long threads may go on computing."""
LOOK_SECONDS: Final = 2.0
"""A thread that used no processor in this time hangs: it does not come back, and so aborts nothing."""

_log = logging.getLogger(__name__)


class EndedFirst:
    """Has threads end before the interpreter does.

    Args:
        stop: Asks them to end; called at the interpreter's end alone.
        threads: Those that were started.
    """

    def __init__(self, stop: Callable[[], object], threads: Collection[threading.Thread]) -> None:
        self._stop = stop
        self._threads = threads
        atexit.register(self._wait)

    def forget(self) -> None:
        """They have ended."""
        atexit.unregister(self._wait)

    def _wait(self) -> None:
        self._stop()
        deadline = time.monotonic() + END_SECONDS
        before: dict[str, int | None] = {}
        try:
            while time.monotonic() < deadline:
                look = time.monotonic() + LOOK_SECONDS
                for thread in self._threads:
                    thread.join(max(0.0, look - time.monotonic()))
                spent = {thread.name: _ticks(thread) for thread in self._threads if thread.is_alive()}
                if not any(ticks is None or ticks != before.get(name) for name, ticks in spent.items()):
                    return
                if not before:
                    _log.warning("the process ends when %s is done, in %g s at most", ", ".join(spent), END_SECONDS)
                before = spent
        except KeyboardInterrupt:  # the second one, as a rule: nothing is awaited any more
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)


def _ticks(thread: threading.Thread) -> int | None:
    """Processor time of a thread, in ticks of the system's clock; None where the system does not say."""
    try:
        fields = Path(f"/proc/self/task/{thread.native_id}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])
    except (OSError, ValueError, IndexError):
        return None
