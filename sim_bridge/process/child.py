"""The child's side of a simulator in a process of its own; :mod:`sim_bridge.process.parent` is the parent's.

Lines on stdin are orders. The end of stdin ends the simulation: the child ends with its parent, whatever ended that.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final

from sim_bridge.errors import SimBridgeError
from sim_bridge.sources import Answerable, Steerable

READY: Final = "ready"  # on stdout: the simulator runs; then its address
DONE: Final = "done"  # on stdout: the simulation is over, do not restart it; then the number of ticks
FAILED: Final = "failed"  # on stdout: it cannot go on; then the exit code and a sentence
ANSWERED: Final = "answered"  # on stdin: the bridge is done with a tick; then its session and number


def ignore_interrupts() -> None:
    """A terminal's Ctrl-C reaches the whole process group: the parent alone decides what it means."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def say(line: str) -> None:
    """Writes a line to the parent, if it is still there."""
    with suppress(BrokenPipeError):  # the end of stdin says so, too
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def say_failed(error: SimBridgeError) -> int:
    """Tells the parent why this process cannot go on; returns the exit code."""
    say(f"{FAILED} {error.exit_code} {error}")
    return error.exit_code


def note_answer(source: object, words: Sequence[str]) -> None:
    """Passes ``answered SESSION NUMBER`` on; ignores answers to the simulator that ran here before."""
    match words:
        case [order, session, number] if order == ANSWERED and isinstance(source, Answerable):
            if session == source.session:
                source.answered(int(number))
        case _:
            pass


def obey(
    source: Steerable,
    lines: Iterable[str],
    end: Callable[[], None],
    further: Callable[[Sequence[str]], None] = lambda words: None,
) -> None:
    """Follows the orders in ``lines`` to their end, then calls ``end``; ``further`` gets the words of other orders."""
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
