"""Faults of a bad connection, injected on purpose and repeatable: loss, duplicates, reordering, delay."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from sim_bridge.frames import Frame, FrameId


@dataclass(frozen=True, slots=True)
class Faults:
    """How bad the connection is. The same seed and the same frames give the same faults.

    Attributes:
        drop: Probability that a message is lost.
        duplicate: Probability that a message comes twice.
        reorder: A message comes up to this many frames late.
        delay: Every message comes a random time up to this many seconds after it is due; the order stays.
        seed: Of the random choices.
    """

    drop: float = 0.0
    duplicate: float = 0.0
    reorder: int = 0
    delay: float = 0.0
    seed: int = 0


class Arrival(NamedTuple):
    """A message, and when the simulator sends it: seconds since the start, never falling."""

    due: float
    frame: Frame


class Delivery(NamedTuple):
    """A message, and when it arrives: seconds since the start, never falling."""

    due: float
    frame: Frame


class FaultInjector:
    """Sends a stream of frames through a bad connection.

    Attributes:
        counts: Messages that were ``dropped``, ``duplicated`` and ``reordered`` (sent after one of a later frame).
    """

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._random = random.Random(f"{faults.seed}/choices")
        self._delays = random.Random(f"{faults.seed}/delays")
        self.counts: Counter[str] = Counter(dropped=0, duplicated=0, reordered=0)

    def deliveries(self, arrivals: Iterable[Arrival]) -> Iterator[Delivery]:
        """Yields what arrives of the messages, in the order in which it does.

        A message of tick ``t`` goes on its way with tick ``t`` plus a random 0 to ``reorder``. It arrives a random time
        up to ``delay`` later, or with the message before it where that one takes longer: delays do not add up.
        """
        latest = 0.0
        for due, frame in self._reordered(arrivals):
            latest = max(latest, due + self._delays.random() * self._faults.delay)
            yield Delivery(latest, frame)

    def _reordered(self, arrivals: Iterable[Arrival]) -> Iterator[Arrival]:
        """The messages that are not lost, and their second copies, each when its tick has come."""
        waiting: list[tuple[int, int, int, Frame]] = []  # due tick, order of arrival, own tick
        tick, order, newest = -1, 0, -1
        due = 0.0
        previous: FrameId | None = None
        for due, frame in arrivals:
            tick += frame.id != previous
            previous = frame.id
            for lateness in self._copies():
                heapq.heappush(waiting, (tick + lateness, order, tick, frame))
                order += 1
            while waiting and waiting[0][0] <= tick:
                newest = yield from self._release(waiting, due, newest)
        while waiting:
            newest = yield from self._release(waiting, due, newest)

    def _release(
        self, waiting: list[tuple[int, int, int, Frame]], due: float, newest: int
    ) -> Generator[Arrival, None, int]:
        _, _, tick, frame = heapq.heappop(waiting)
        self.counts["reordered"] += tick < newest
        yield Arrival(due, frame)
        return max(newest, tick)

    def _copies(self) -> list[int]:
        """How many frames late each copy of one message is; empty when it is lost."""
        # Four numbers are drawn for every message (randint would draw a varying count), so that changing one fault
        # leaves the others in place.
        lost, twice = self._random.random() < self._faults.drop, self._random.random() < self._faults.duplicate
        late = [int(self._random.random() * (self._faults.reorder + 1)) for _ in range(2)]
        if lost:
            self.counts["dropped"] += 1
            return []
        self.counts["duplicated"] += twice
        return late[: 1 + twice]
