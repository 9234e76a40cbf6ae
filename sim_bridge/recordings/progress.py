"""What a long translation shows meanwhile: a bar on a terminal, lines in a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Protocol

import typer

EVERY: Final = 30.0
"""Seconds between two lines."""


class Counts(Protocol):
    """How far a job is."""

    @property
    def total(self) -> int:
        """Frames."""

    @property
    def already(self) -> int:
        """Those that an earlier run finished."""

    @property
    def done(self) -> int:
        """Those that are finished or left out, earlier runs included."""


class ProgressLines:
    """Says how far a job is, every 30 seconds.

    Args:
        say: Takes a line.
        clock: Seconds.
    """

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._say = say
        self._clock = clock
        self._start = self._last = clock()

    def __call__(self, counts: Counts) -> None:
        """Takes the counts after a frame."""
        now = self._clock()
        if now - self._last < EVERY:
            return
        self._last = now
        made, left = counts.done - counts.already, counts.total - counts.done
        rate = made / (now - self._start)
        rest = f", {rate:.2g} a second, {_duration(left / rate)} left" if made else ""
        self._say(f"{counts.done} of {counts.total} frames{rest}")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@contextmanager
def show_progress(label: str, say: Callable[[str], None]) -> Iterator[Callable[[Counts], None]]:
    """A progress bar on stderr; where that is no terminal, lines for ``say``."""
    if not sys.stderr.isatty():
        yield ProgressLines(say)
        return
    with typer.progressbar(length=0, label=label, show_pos=True, file=sys.stderr) as bar:

        def update(counts: Counts) -> None:
            bar.length = counts.total
            bar.update(counts.done - bar.pos)

        yield update
