"""Log lines on stderr, one line each, so that stdout stays free for results."""

from __future__ import annotations

import logging
import sys
import time
from typing import Final, TextIO

OURS: Final = ("sim_bridge", "models", "plugins", "trainers")
"""Packages whose log level the user sets; all others speak from ``warning`` on."""


class LineFormatter(logging.Formatter):
    """``2026-01-31 12:00:00.123 warning bridge: text``; times are local, line breaks in messages become spaces."""

    def __init__(self) -> None:
        super().__init__("{asctime}.{msecs:03.0f} {level} {origin}: {message}", "%Y-%m-%d %H:%M:%S", style="{")
        self.converter = time.localtime

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is logging's
        """Formats the first line; a traceback, where there is one, follows it."""
        record.level = record.levelname.lower()
        record.origin = record.name.removeprefix("sim_bridge.")
        record.message = " ".join(record.message.split("\n"))
        return super().formatMessage(record)


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to what stderr is now: it may have been replaced, and the one before closed."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


def configure_logging(level: str, stream: TextIO | None = None) -> None:
    """Sends log lines to ``stream`` (stderr), replacing what was configured before.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``; what our own packages write at least.
        stream: Where to write.
    """
    handler = _Stderr() if stream is None else logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name in OURS:
        logging.getLogger(name).setLevel(level.upper())
