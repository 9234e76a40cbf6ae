"""What can go wrong with one sensor's messages on their way."""

from __future__ import annotations

import random
from collections import deque
from typing import Final, NamedTuple

from tests.carla_server.streams import Message

REMEMBERED: Final = 10_000
"""So many numbers of dropped frames are kept for tests to ask for."""
MAX_DELAY: Final = 100
"""Ticks; a delayed message is held in memory."""


class _Held(NamedTuple):
    due: int
    message: Message


class Faults:
    """Arranges the messages of one sensor; without orders they pass as they are.

    Attributes:
        delay: Ticks that messages are late; their frame numbers stay as they were.
        missing_bytes: How many bytes of pixels are missing at the end; below 0 there are so many too many.
        dropped: Numbers of the frames that were dropped on purpose.
    """

    def __init__(self) -> None:
        self.delay = 0
        self.missing_bytes = 0
        self.dropped: deque[int] = deque(maxlen=REMEMBERED)
        self._next_dropped = 0
        self._share, self._random = 0.0, random.Random(0)
        self._repeats = self._swaps = 0
        self._held: deque[_Held] = deque()
        self._overtaken: Message | None = None

    def drop(self, count: int, share: float, seed: int) -> None:
        """Drops the next ``count`` messages, and from then on this share of them."""
        self._next_dropped, self._share, self._random = count, share, random.Random(seed)

    def repeat(self, count: int) -> None:
        """Sends each of the next ``count`` messages twice."""
        self._repeats = count

    def swap(self, count: int) -> None:
        """Sends each of the next ``count`` messages after the one that follows it."""
        self._swaps = count

    def arrange(self, frame: int, message: Message | None) -> list[Message]:
        """What is to be sent at this tick.

        Args:
            frame: The tick.
            message: The message made at this tick; None where the sensor made none.
        """
        if message is not None and not self._loses(frame):
            self._held.append(_Held(frame + self.delay, self._resized(message)))
        due: list[Message] = []
        while self._held and self._held[0].due <= frame:
            due += self._doubled(self._held.popleft().message)
        return [sent for one in due for sent in self._swapped(one)]

    def _loses(self, frame: int) -> bool:
        if self._next_dropped:
            self._next_dropped -= 1
        elif not (self._share and self._random.random() < self._share):
            return False
        self.dropped.append(frame)
        return True

    def _resized(self, message: Message) -> Message:
        if not self.missing_bytes:
            return message
        if self.missing_bytes < 0:
            return (*message, bytes(-self.missing_bytes))
        head, pixels = message[0], b"".join(message[1:])
        return (head, pixels[: max(0, len(pixels) - self.missing_bytes)])

    def _doubled(self, message: Message) -> list[Message]:
        if not self._repeats:
            return [message]
        self._repeats -= 1
        return [message, message]

    def _swapped(self, message: Message) -> list[Message]:
        if self._overtaken is not None:
            late, self._overtaken = self._overtaken, None
            return [message, late]
        if self._swaps:
            self._swaps -= 1
            self._overtaken = message
            return []
        return [message]
