"""Bounded hand-over of work from one stage's thread to the next: what happens when the next one is slow has a name."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Generic, TypeVar

T = TypeVar("T")


class Policy(StrEnum):
    """What happens when an item is put where the bound is reached."""

    NEWEST = "newest"
    """The oldest item makes room and comes back to the caller, who counts it."""
    WAIT = "wait"
    """The caller waits for room; nothing is lost."""


@dataclass(frozen=True, slots=True)
class Taken(Generic[T]):
    """An item and the part of its way that was the hand-over's own cost.

    Attributes:
        item: What was put.
        camera: Whose queue it was in.
        waited: Nanoseconds from put to take.
        overhead: Nanoseconds of it in which the taker was idle, that is, the cost of waking it up.
    """

    item: T
    camera: str
    waited: int
    overhead: int


class Handoff(Generic[T]):
    """Queues of at most ``bound`` items, one per camera, from which one taker takes round robin.

    Round robin, so that a fast camera cannot starve a slow one.

    Args:
        cameras: The queues' names, fixed.
        policy: What to do when one is full.
        bound: Items per queue.
    """

    def __init__(self, cameras: Sequence[str], policy: Policy, bound: int = 1) -> None:
        if bound < 1:
            raise ValueError(f"a queue of {bound} items cannot hand anything over: give at least 1")
        self._policy = policy
        self._bound = bound
        self._changed = threading.Condition()
        self._queues: dict[str, deque[tuple[T, int]]] = {camera: deque() for camera in cameras}
        self._turns = deque(cameras)
        self._closed = False
        self._nudged = False

    def put(self, camera: str, item: T) -> T | None:
        """Hands over ``item``.

        Returns:
            The item that goes no further: the one that made room, ``item`` itself when closed, otherwise None.
        """
        with self._changed:
            queue = self._queues[camera]
            if self._policy is Policy.WAIT:
                self._changed.wait_for(lambda: self._closed or len(queue) < self._bound)
            if self._closed:
                return item
            displaced = queue.popleft()[0] if len(queue) >= self._bound else None
            queue.append((item, time.perf_counter_ns()))
            self._changed.notify_all()
            return displaced

    def take(self, timeout: float | None = None) -> Taken[T] | None:
        """Takes the next camera's oldest item; None after ``timeout`` seconds, a nudge, or when closed and empty."""
        asked = time.perf_counter_ns()
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._nudged or any(self._queues.values()), timeout)
            self._nudged = False
            for _ in range(len(self._turns)):
                camera = self._turns[0]
                self._turns.rotate(-1)
                if self._queues[camera]:
                    return self._pop(camera, asked)
            return None

    def take_fitting(
        self, fits: Callable[[T], bool], awaited: Collection[str] = (), timeout: float | None = 0.0
    ) -> list[Taken[T]]:
        """Takes the oldest item of every camera where that one fits.

        Args:
            fits: Whether an item is wanted.
            awaited: Cameras to wait for; the wait ends when each of them has an item, fitting or not.
            timeout: Seconds to wait at most; a nudge and closing end it, too.
        """
        asked = time.perf_counter_ns()
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or self._nudged or all(self._queues[camera] for camera in awaited), timeout
            )
            fitting = [camera for camera, queue in self._queues.items() if queue and fits(queue[0][0])]
            return [self._pop(camera, asked) for camera in fitting]

    def _pop(self, camera: str, asked: int) -> Taken[T]:
        item, put = self._queues[camera].popleft()
        self._changed.notify_all()
        now = time.perf_counter_ns()
        return Taken(item, camera, now - put, now - max(put, asked))

    def take_back(self, camera: str) -> list[T]:
        """Empties a camera's queue; for the one who puts."""
        with self._changed:
            items = [item for item, _ in self._queues[camera]]
            self._queues[camera].clear()
            self._changed.notify_all()
            return items

    def nudge(self) -> None:
        """Wakes the taker, which returns empty-handed if there is nothing."""
        with self._changed:
            self._nudged = True
            self._changed.notify_all()

    @property
    def finished(self) -> bool:
        """Closed, and everything was taken."""
        with self._changed:
            return self._closed and not any(self._queues.values())

    def __len__(self) -> int:
        with self._changed:
            return sum(len(queue) for queue in self._queues.values())

    def close(self, *, discard: bool = False) -> None:
        """Takes no further items and wakes everyone; those inside can still be taken, unless ``discard`` is set."""
        with self._changed:
            self._closed = True
            if discard:
                for queue in self._queues.values():
                    queue.clear()
            self._changed.notify_all()


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
