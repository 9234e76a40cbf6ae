"""Logging that a flood of bad input cannot flood: each cause is logged once."""

from __future__ import annotations

import logging
import threading
from collections.abc import Hashable
from typing import Final

MAX_CAUSES: Final = 256
"""Causes come from outside; after this many different ones nothing more is remembered or logged."""


class OncePerCause:
    """Logs the first message of each cause; safe to use from several threads.

    Args:
        logger: Where to.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._lock = threading.Lock()
        self._seen: set[Hashable] = set()

    def warn(self, cause: Hashable, sentence: str, *, error: BaseException | None = None) -> None:
        """Logs ``sentence`` as a warning if ``cause`` is new.

        Args:
            cause: What makes two messages the same complaint.
            sentence: The thing, its value, the limit and what to do next.
            error: An unexpected exception, whose traceback belongs into the log.
        """
        with self._lock:
            if cause in self._seen or len(self._seen) >= MAX_CAUSES:
                return
            self._seen.add(cause)
            last = len(self._seen) == MAX_CAUSES
        self._logger.warning("%s (further messages of this cause are only counted)", sentence, exc_info=error)
        if last:
            self._logger.warning("%d different causes were logged, more are only counted", MAX_CAUSES)
