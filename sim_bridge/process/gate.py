"""The pause gate of whatever makes or takes frames: a simulator's ticks, the bridge's pairs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Final

LOOK_SECONDS: Final = 0.05
"""How often a waiting thread asks its conditions again; nobody notifies it of these."""


class Gate:
    """Open unless paused; while paused it lets single steps through. Safe to use from any thread.

    Args:
        lanes: What passes by itself, as cameras do: a step lets one through on each lane.
    """

    def __init__(self, lanes: Iterable[str] = ("",)) -> None:
        self._changed = threading.Condition()
        self._paused = self._nudged = False
        self._steps = dict.fromkeys(lanes, 0)

    @property
    def paused(self) -> bool:
        """Whether the gate is shut."""
        return self._paused

    def pause(self) -> None:
        """Shuts the gate and forgets steps not yet used."""
        with self._changed:
            self._paused = True
            self._steps = dict.fromkeys(self._steps, 0)

    def resume(self) -> None:
        """Opens the gate."""
        with self._changed:
            self._paused = False
            self._changed.notify_all()

    def step(self) -> None:
        """While paused: lets one more through on every lane."""
        with self._changed:
            self._steps = {lane: steps + self._paused for lane, steps in self._steps.items()}
            self._changed.notify_all()

    def nudge(self) -> None:
        """Wakes the waiting threads: :meth:`admit` returns, :meth:`pass_one` checks its conditions again."""
        with self._changed:
            self._nudged = True
            self._changed.notify_all()

    def admit(self, lane: str = "", *, wait: bool = False) -> bool:
        """Whether one may pass now, using up a step. With ``wait`` it blocks until one may, or until a nudge."""
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: self._nudged or self._is_open(lane))
                self._nudged = False
            return self._take(lane)

    def pass_one(self, go_on: Callable[[], bool], ready: Callable[[], bool] = lambda: True, lane: str = "") -> bool:
        """Blocks until one may pass and ``ready()`` is true; returns False as soon as ``go_on()`` is false."""
        with self._changed:
            while go_on():
                if self._is_open(lane) and ready():
                    return self._take(lane)
                self._changed.wait(LOOK_SECONDS)
        return False

    def _is_open(self, lane: str) -> bool:
        return not self._paused or self._steps[lane] > 0

    def _take(self, lane: str) -> bool:
        if not self._is_open(lane):
            return False
        self._steps[lane] -= self._paused
        return True
