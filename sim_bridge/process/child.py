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
