"""Which cameras' pairs go through the network together: those of one tick."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Hashable
from dataclasses import replace
from typing import Generic, TypeVar

from sim_bridge.live.handoff import Handoff, Taken

T = TypeVar("T")


class TickGatherer(Generic[T]):
    """Takes items from a hand-over, all cameras' of one tick at once.

    A tick is complete when every camera of the tick before is in it. One that runs at a rate of its own, or fails,
    costs one wait and no more, until it is back.

    Args:
        inbox: Where the items are.
        tick_of: The tick of an item.
        cameras: All cameras, which the first tick waits for.
        wait: Seconds that a tick's first item waits for the others at most; None for items one by one.
    """

    def __init__(
        self, inbox: Handoff[T], tick_of: Callable[[T], Hashable], cameras: Collection[str], wait: float | None
    ) -> None:
        self._inbox = inbox
        self._tick_of = tick_of
        self._wait = wait
        self._tick: Hashable = None
        self._present = set(cameras)

    def take(self) -> list[Taken[T]]:
        """The next items, of one tick and of one camera each; none after a nudge, or when closed and empty."""
        first = self._inbox.take()
        if first is None:
            return []
        if self._wait is None:
            return [first]
        tick = self._tick_of(first.item)
        late = tick == self._tick
        awaited = set() if late else self._present - {first.camera}
        start = time.perf_counter_ns()
        others = self._inbox.take_fitting(lambda item: self._tick_of(item) == tick, awaited, self._wait)
        spent = time.perf_counter_ns() - start
        first = replace(first, waited=first.waited + spent, overhead=first.overhead + spent)
        here = {first.camera, *(other.camera for other in others)}
        self._tick, self._present = tick, self._present | here if late else here
        return [first, *others]
