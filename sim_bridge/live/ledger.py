"""The account of every input message: received, and then exactly one outcome.

The unit is the input message, per topic. A published tick counts once on each of its topics, so that for every topic
and at every moment ``received = published + dropped + in flight``.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """How an input message ended: published, or dropped for a named reason."""

    PUBLISHED = "published"
    SUPERSEDED = "superseded"
    """A newer pair took its place before the next stage was free."""
    UNPAIRED = "unpaired"
    """Its partner did not come while it was waiting."""
    LATE = "late"
    """A newer pair of the session had already gone in, or its session was over."""
    DUPLICATE = "duplicate"
    """The same topic, session and frame number had come before."""
    MALFORMED = "malformed"
    """It broke the wire format."""
    MISMATCHED = "mismatched"
    """RGB and semantic frame of one tick have different sizes."""
    FAILED = "failed"
    """Preprocessing, network or postprocessing refused it."""
    PAUSED = "paused"
    """The bridge was paused."""
    SHUTDOWN = "shutdown"
    """The bridge ended before its turn came."""


@dataclass(frozen=True, slots=True)
class TopicCount:
    """The account of one topic at one moment.

    Attributes:
        received: Messages taken from the socket.
        outcomes: Messages by outcome; outcomes that never happened are missing.
    """

    received: int
    outcomes: Mapping[Outcome, int]

    @property
    def published(self) -> int:
        """Messages that ended in a published frame."""
        return self.outcomes.get(Outcome.PUBLISHED, 0)

    @property
    def dropped(self) -> int:
        """Messages that ended in any other outcome."""
        return sum(count for outcome, count in self.outcomes.items() if outcome is not Outcome.PUBLISHED)

    @property
    def in_flight(self) -> int:
        """Messages that have no outcome yet."""
        return self.received - self.published - self.dropped

    def as_counters(self) -> dict[str, int]:
        """The account as a status message carries it: ``received``, ``in_flight`` and every outcome, zeros included."""
        return {
            "received": self.received,
            "in_flight": self.in_flight,
            **{str(outcome): self.outcomes.get(outcome, 0) for outcome in Outcome},
        }


class Ledger:
    """Counts messages per topic; safe to use from every stage's thread.

    The bridge names the topics: what arrives from outside cannot make the ledger grow.
    """

    def __init__(self, topics: Iterable[str]) -> None:
        self._lock = threading.Lock()
        self._received = dict.fromkeys(topics, 0)
        self._outcomes: dict[str, dict[Outcome, int]] = {topic: {} for topic in self._received}
        self._in_flight = dict.fromkeys(self._received, 0)
        self._closed_with: Outcome | None = None

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics it counts."""
        return tuple(self._received)

    def add(self, topics: Iterable[str]) -> None:
        """Counts these topics too; those it has keep their counts."""
        with self._lock:
            for topic in topics:
                # Tables are replaced, not changed: other threads iterate over them without the lock.
                self._outcomes = {topic: {}} | self._outcomes
                self._in_flight = {topic: 0} | self._in_flight
                self._received = {**self._received, topic: self._received.get(topic, 0)}

    def receive(self, topic: str) -> None:
        """Notes that a message of ``topic`` was taken from the socket; from now on it is in flight."""
        with self._lock:
            self._received[topic] += 1
            if self._closed_with is None:
                self._in_flight[topic] += 1
            else:
                self._count(topic, self._closed_with, 1)

    def settle(self, outcome: Outcome, *topics: str) -> None:
        """Gives one message of each of ``topics`` its outcome. After :meth:`close` it does nothing.

        Raises ValueError if a topic has no message in flight: somebody settled one message twice.
        """
        with self._lock:
            if self._closed_with is not None:
                return
            for topic in topics:
                if self._in_flight[topic] == 0:
                    raise ValueError(f"no message of {topic!r} is in flight, so none can become {outcome}")
                self._in_flight[topic] -= 1
                self._count(topic, outcome, 1)

    def close(self, outcome: Outcome = Outcome.SHUTDOWN) -> int:
        """Gives this outcome to every message still in flight, and to whatever else is received from now on.

        A stage that hangs in a network cannot be asked for its frames; closing the books settles them from outside,
        and whatever the stage reports later no longer counts.

        Returns:
            How many messages were still in flight.
        """
        with self._lock:
            self._closed_with = outcome
            total = sum(self._in_flight.values())
            for topic, count in self._in_flight.items():
                if count:
                    self._count(topic, outcome, count)
                self._in_flight[topic] = 0
            return total

    def _count(self, topic: str, outcome: Outcome, count: int) -> None:
        self._outcomes[topic][outcome] = self._outcomes[topic].get(outcome, 0) + count

    def snapshot(self) -> dict[str, TopicCount]:
        """All topics at one moment; the sums hold in it."""
        with self._lock:
            return {
                topic: TopicCount(received, dict(self._outcomes[topic])) for topic, received in self._received.items()
            }
