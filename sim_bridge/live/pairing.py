"""Joins RGB and semantic frames by session and frame number, never by arrival.

Pure: no sockets, no threads, no clock. Every frame that is offered ends in exactly one event, now or with a later
call: in a :class:`Pair`, or in a :class:`Drop` with its reason.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final, Literal

from sim_bridge.frames import Frame, FrameId, Kind
from sim_bridge.live.ledger import Outcome

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
        cause: What of the possible causes of this outcome it was: what is logged once.
        detail: A sentence for the log; empty where nobody did anything wrong.
    """

    frame: Frame
    outcome: Outcome
    cause: str = ""
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
            return [Drop(frame, Outcome.LATE, "session over", self._why_over(frame))]
        events: list[Event] = []
        if frame.session != self._session:
            events += [
                Drop(left, Outcome.UNPAIRED, "session ends", _why_ended(left, frame)) for left in self._waiting.values()
            ]
            self._waiting.clear()
            self._start_session(frame.session)
        self._last[frame.kind] = frame.number
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
        self._last: dict[Kind, int] = {}
        self._newest = -1
        self._done: deque[int] = deque()
        self._done_set: set[int] = set()
        self._forgotten = -1
        self._again: set[Kind] = set()

    def _join(self, frame: Frame) -> list[Event]:
        if frame.number in self._done_set:
            return [self._duplicate(frame), *self._repeat(frame)]
        if frame.number <= self._forgotten:
            return [self._late(frame)]
        partner = self._waiting.get(frame.number)
        if partner is None:
            return self._wait(frame)
        if partner.kind is frame.kind:
            return [self._duplicate(frame)]
        del self._waiting[frame.number]
        rgb, semantic = (frame, partner) if frame.kind is Kind.RGB else (partner, frame)
        return self._meet(Pair(rgb, semantic))

    def _wait(self, frame: Frame) -> list[Event]:
        self._waiting[frame.number] = frame
        if len(self._waiting) <= self._window:
            return []
        left = self._waiting.pop(next(iter(self._waiting)))
        partner = _partner_of(left.kind)
        cause = f"{partner} behind" if partner in self._last else f"no {partner}"
        return [Drop(left, Outcome.UNPAIRED, cause, self._why_unpaired(left, partner))]

    def _meet(self, pair: Pair) -> list[Event]:
        number = pair.id.number
        self._finish(number)
        rgb, semantic = pair.rgb, pair.semantic
        if (rgb.width, rgb.height) != (semantic.width, semantic.height):
            detail = (
                f"camera {pair.camera!r}, frame {number}: the RGB frame is {rgb.width}x{rgb.height} and the semantic "
                f"frame {semantic.width}x{semantic.height}; give both cameras of the simulator the same size"
            )
            return [Drop(frame, Outcome.MISMATCHED, "sizes", detail) for frame in (rgb, semantic)]
        if self._mode == "realtime" and number < self._newest:
            return [self._late(rgb), self._late(semantic)]
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

    def _why_unpaired(self, left: Frame, partner: Kind) -> str:
        waited = (
            f"{_name(left)} of session {left.session!r} waited for its {partner} frame while {self._window} others came"
        )
        topic = f"'{left.camera}/{partner}'"
        if partner not in self._last:
            return f"{waited}, and the session has no {partner} frame at all: publish {topic} with the same session"
        return (
            f"{waited}, and the last one on {topic} was frame {self._last[partner]}: give both images of a tick the "
            "same number, or let more wait with --pair-window"
        )

    def _why_over(self, frame: Frame) -> str:
        return (
            f"{_name(frame)} is of session {frame.session!r}, which ended when session {self._session!r} began: give "
            "all streams of one simulator run the same session id, and end the simulator that ran before"
        )

    def _late(self, frame: Frame) -> Drop:
        detail = (
            f"{_name(frame)} is older than frame {self._newest}, which went in before it in session {frame.session!r}: "
            "let numbers rise, and give a simulator that starts again a new session id"
        )
        return Drop(frame, Outcome.LATE, "older", detail)

    def _duplicate(self, frame: Frame) -> Drop:
        if self._mode == "lockstep" and (frame.number == self._newest or frame.number in self._waiting):
            return Drop(frame, Outcome.DUPLICATE, "again")  # lockstep sends a tick again to be sure: all is well
        detail = (
            f"{_name(frame)} of session {frame.session!r} came before, the newest pair is frame "
            f"{self._newest if self._newest >= 0 else 'none'}: send every number once, and give a simulator that "
            "starts again a new session id"
        )
        return Drop(frame, Outcome.DUPLICATE, "again", detail)


def _partner_of(kind: Kind) -> Kind:
    return Kind.SEMANTIC if kind is Kind.RGB else Kind.RGB


def _name(frame: Frame) -> str:
    return f"camera {frame.camera!r}: {frame.kind} frame {frame.number}"


def _why_ended(left: Frame, first: Frame) -> str:
    return (
        f"{_name(left)} still waited for its {_partner_of(left.kind)} frame when session {left.session!r} ended with "
        f"the first frame ({first.kind}) of session {first.session!r}: if the simulator did not start again there, "
        "give all its streams the same session id"
    )
