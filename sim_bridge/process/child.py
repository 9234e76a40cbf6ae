"""The child's side of a simulator in a process of its own; :mod:`sim_bridge.process.parent` is the parent's.

The parent tells it what to do by lines on stdin. The end of stdin ends the simulation: so it ends with its parent,
however that was ended.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final, Protocol

READY: Final = "ready"
"""The line on stdout that says that the simulator stands."""
_LOOK_SECONDS: Final = 0.05


class Steerable(Protocol):
    """A simulation that can be paused."""

    def pause(self) -> None:
        """Stops before the next tick."""

    def resume(self) -> None:
        """Goes on."""

    def step(self) -> None:
        """While paused: makes one more tick."""


def ignore_interrupts() -> None:
    """A terminal's Ctrl-C reaches the whole process group: the parent alone decides what it means."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def say(line: str) -> None:
    """Tells the parent something, if it is still there."""
    with suppress(BrokenPipeError):  # the end of stdin says so, too
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def obey(
    source: Steerable,
    lines: Iterable[str],
    end: Callable[[], None],
    further: Callable[[Sequence[str]], None] = lambda words: None,
) -> None:
    """Follows orders until there are no more, then calls ``end``.

    Args:
        source: What is paused and resumed.
        lines: The orders.
        end: Ends the simulation.
        further: Called with the words of any other order.
    """
    orders = {"pause": source.pause, "resume": source.resume, "step": source.step}
    for line in lines:
        match line.split():
            case [order] if order in orders:
                orders[order]()
            case words:
                further(words)
    end()


def obey_in_thread(
    source: Steerable, end: Callable[[], None], further: Callable[[Sequence[str]], None] = lambda words: None
) -> None:
    """Follows the parent's orders from now on."""
    threading.Thread(target=obey, args=(source, sys.stdin, end, further), name="orders", daemon=True).start()


class Turnstile:
    """Holds a simulation while it is paused; safe to use from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._paused = False
        self._steps = 0

    def pause(self) -> None:
        """Stops before the next tick."""
        self._set(paused=True)

    def resume(self) -> None:
        """Goes on."""
        self._set(paused=False)

    def step(self) -> None:
        """While paused: lets one more tick through."""
        with self._changed:
            self._steps += self._paused
            self._changed.notify_all()

    def pass_one(self, go_on: Callable[[], bool], ready: Callable[[], bool] = lambda: True) -> bool:
        """Waits until a tick may be made and ``ready`` says so, too; False once ``go_on`` says so."""
        with self._changed:
            while go_on():
                if (not self._paused or self._steps) and ready():
                    self._steps -= bool(self._steps)
                    return True
                self._changed.wait(_LOOK_SECONDS)  # whoever ends it may not notify
        return False

    def _set(self, *, paused: bool) -> None:
        with self._changed:
            self._paused, self._steps = paused, 0
            self._changed.notify_all()
