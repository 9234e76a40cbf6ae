"""Logging that a flood of bad input cannot flood: each cause is logged once per session, and so often in a minute."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Final

MAX_SCOPES: Final = 64
"""Of each cause, how many scopes are remembered; they come from outside, so the one met longest ago is forgotten."""
MAX_LINES: Final = 10
"""Lines per cause within :data:`PERIOD_SECONDS`: a simulator may make up a new session id for every frame."""
PERIOD_SECONDS: Final = 60.0


@dataclass
class _Complaint:
    """What was logged of one cause."""

    scopes: OrderedDict[Hashable, None] = field(default_factory=OrderedDict)
    times: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_LINES))


class OncePerCause:
    """Logs the first message of each cause in each scope; safe to use from several threads.

    No cause takes lines from another, however often it comes: what goes wrong for the first time is always logged.

    Args:
        logger: Where to.
        clock: Seconds that only go up.
    """

    def __init__(self, logger: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._clock = clock
        self._lock = threading.Lock()
        self._complaints: dict[Hashable, _Complaint] = {}

    def warn(
        self, cause: Hashable, sentence: str, *, scope: Hashable = None, error: BaseException | None = None
    ) -> None:
        """Logs ``sentence`` as a warning if ``cause`` is new in ``scope``.

        Args:
            cause: What makes two messages the same complaint. Never text from outside: all causes are kept.
            sentence: The thing, its value, the limit and what to do next.
            scope: Within what it is said once, as a session; may come from outside.
            error: An unexpected exception, whose traceback belongs into the log.
        """
        with self._lock:
            complaint = self._complaints.setdefault(cause, _Complaint())
            if not self._is_due(complaint, scope):
                return
        self._logger.warning("%s (further messages of this cause are only counted)", sentence, exc_info=error)

    def _is_due(self, complaint: _Complaint, scope: Hashable) -> bool:
        if scope in complaint.scopes:
            complaint.scopes.move_to_end(scope)
            return False
        now = self._clock()
        times = complaint.times
        if len(times) == MAX_LINES and now - times[0] < PERIOD_SECONDS:
            return False  # not remembered either: it is logged if it still comes when the flood is over
        times.append(now)
        complaint.scopes[scope] = None
        if len(complaint.scopes) > MAX_SCOPES:
            complaint.scopes.popitem(last=False)
        return True
