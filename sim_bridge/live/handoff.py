"""Bounded hand-over of work from one stage's thread to the next, with a named policy for when the next one is slow."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
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

    def nudge(self) -> None:
        """Lets the taker come back, empty-handed if there is nothing: something else waits for it."""
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
