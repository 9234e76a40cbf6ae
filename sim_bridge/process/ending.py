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
from typing import Final

END_SECONDS: Final = 60.0
"""How long threads may take; a network that takes longer hangs, and does not come back to abort anything."""
_SILENT_SECONDS: Final = 2.0

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
        start = time.monotonic()
        try:
            for seconds in (_SILENT_SECONDS, END_SECONDS):
                for thread in self._threads:
                    thread.join(max(0.0, start + seconds - time.monotonic()))
                working = ", ".join(thread.name for thread in self._threads if thread.is_alive())
                if working and seconds < END_SECONDS:
                    _log.warning("the process ends when %s is done, in %.0f s at most", working, END_SECONDS)
        except KeyboardInterrupt:  # the second one, as a rule: nothing is awaited any more
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
