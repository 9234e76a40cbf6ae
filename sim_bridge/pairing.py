"""Joins RGB and semantic frames by session and frame number, never by arrival.

Pure: no sockets, no threads, no clock. Every frame that is offered ends in exactly one event, now or with a later
call: in a :class:`Pair`, or in a :class:`Drop` with its reason.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final, Literal

from sim_bridge.frames import Frame, FrameId, Kind
from sim_bridge.ledger import Outcome

Mode = Literal["realtime", "lockstep"]

JOINED_KINDS: Final = (Kind.RGB, Kind.SEMANTIC)
DONE_MEMORY: Final = 1024
"""How many finished frame numbers of the session are remembered to tell a duplicate from a late frame."""
SESSION_MEMORY: Final = 64
"""How many ended sessions are remembered, so that a straggler of one does not bring it back."""


@dataclass(frozen=True, slots=True)
class Pair:
    """An RGB and a semantic frame of the same camera, session and frame number, of the same size."""

    rgb: Frame
    semantic: Frame

    @property
    def id(self) -> FrameId:
        """Session and frame number of both."""
        return self.rgb.id

    @property
    def camera(self) -> str:
        """The camera of both."""
        return self.rgb.camera


@dataclass(frozen=True, slots=True)
class Drop:
    """A frame that goes no further.

    Attributes:
        frame: The frame.
        outcome: Why.
        detail: A sentence for the log, where the reason alone does not say enough.
    """

    frame: Frame
    outcome: Outcome
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Repeat:
    """In lockstep: both frames of the finished tick ``id`` came again, so the simulator still waits for its result."""

    camera: str
    id: FrameId


Event = Pair | Drop | Repeat


class Pairer:
    """Joins the two streams of one camera.

    Rules, in this order:

    1. A frame of a session that has ended is ``late``. The first frame of a new session ends the one before; frames
       of that one still waiting for their partner are ``unpaired``. No pair is ever made across sessions.
    2. A frame whose tick is finished, or whose like is already waiting, is a ``duplicate``.
    3. A frame waits for its partner. When more than ``window`` are waiting, the one that waited longest is
       ``unpaired``. (By arrival and not by number: a few wildly wrong numbers must not block the window for ever.)
    4. A joined pair whose two sizes differ is ``mismatched``.
    5. Realtime only: a pair older than one that went in before is ``late``, so that pairs come out in rising order.
       Lockstep lets it through, because somebody waits for it.

    A tick is finished when its two frames met, whatever became of them.
    """

    def __init__(self, mode: Mode = "realtime", window: int = 8) -> None:
        if window < 1:
            raise ValueError(f"a window of {window} frames cannot hold a frame for its partner: give at least 1")
        self._mode = mode
        self._window = window
        self._session: str | None = None
        self._ended: deque[str] = deque(maxlen=SESSION_MEMORY)
        self._waiting: dict[int, Frame] = {}
        self._start_session(None)

    @property
    def session(self) -> str | None:
        """The running session; None before the first frame."""
        return self._session

    @property
    def waiting(self) -> int:
        """How many frames wait for their partner; never more than the window."""
        return len(self._waiting)

    def offer(self, frame: Frame) -> list[Event]:
        """Takes one RGB or semantic frame.

        Returns:
            What follows from it, in order: at most one :class:`Pair` or :class:`Repeat`, and any number of
            :class:`Drop`.
        """
        if frame.session in self._ended:
            return [Drop(frame, Outcome.LATE)]
        events: list[Event] = []
        if frame.session != self._session:
            events += self.flush(Outcome.UNPAIRED)
            self._start_session(frame.session)
        return events + self._join(frame)

    def flush(self, outcome: Outcome) -> list[Event]:
        """Drops everything that is waiting, for the given reason."""
        drops: list[Event] = [Drop(frame, outcome) for frame in self._waiting.values()]
        self._waiting.clear()
        return drops

    def _start_session(self, session: str | None) -> None:
        if self._session is not None:
            self._ended.append(self._session)
        self._session = session
        self._newest = -1
        self._done: deque[int] = deque()
        self._done_set: set[int] = set()
        self._forgotten = -1
        self._again: set[Kind] = set()

    def _join(self, frame: Frame) -> list[Event]:
        if frame.number in self._done_set:
            return [Drop(frame, Outcome.DUPLICATE), *self._repeat(frame)]
        if frame.number <= self._forgotten:
            return [Drop(frame, Outcome.LATE)]
        partner = self._waiting.get(frame.number)
        if partner is None:
            return self._wait(frame)
        if partner.kind is frame.kind:
            return [Drop(frame, Outcome.DUPLICATE)]
        del self._waiting[frame.number]
        rgb, semantic = (frame, partner) if frame.kind is Kind.RGB else (partner, frame)
        return self._meet(Pair(rgb, semantic))

    def _wait(self, frame: Frame) -> list[Event]:
        self._waiting[frame.number] = frame
        if len(self._waiting) <= self._window:
            return []
        longest = next(iter(self._waiting))
        return [Drop(self._waiting.pop(longest), Outcome.UNPAIRED)]

    def _meet(self, pair: Pair) -> list[Event]:
        number = pair.id.number
        self._finish(number)
        rgb, semantic = pair.rgb, pair.semantic
        if (rgb.width, rgb.height) != (semantic.width, semantic.height):
            detail = (
                f"camera {pair.camera!r}, frame {number}: the RGB frame is {rgb.width}x{rgb.height} and the semantic "
                f"frame {semantic.width}x{semantic.height}; give both cameras of the simulator the same size"
            )
            return [Drop(rgb, Outcome.MISMATCHED, detail), Drop(semantic, Outcome.MISMATCHED, detail)]
        if self._mode == "realtime" and number < self._newest:
            return [Drop(rgb, Outcome.LATE), Drop(semantic, Outcome.LATE)]
        if number > self._newest:
            self._again.clear()
        self._newest = max(self._newest, number)
        return [pair]

    def _finish(self, number: int) -> None:
        self._done.append(number)
        self._done_set.add(number)
        if len(self._done) > DONE_MEMORY:
            oldest = self._done.popleft()
            self._done_set.discard(oldest)
            self._forgotten = max(self._forgotten, oldest)

    def _repeat(self, frame: Frame) -> list[Event]:
        """Both frames of the newest tick came again: a lost message costs another resend, never a wrong answer."""
        if self._mode != "lockstep" or frame.number != self._newest:
            return []
        self._again.add(frame.kind)
        if len(self._again) < len(JOINED_KINDS):
            return []
        self._again.clear()
        return [Repeat(frame.camera, frame.id)]
