"""Joins the frames of a camera's tick by session and frame number, never by arrival.

Pure: no sockets, no threads, no clock. Every frame offered ends in exactly one event, now or at a later call: in a
:class:`Pair`, or in a :class:`Drop` with its reason.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from sim_bridge.frames import Frame, FrameId, Kind
from sim_bridge.live.ledger import Outcome

Mode = Literal["realtime", "lockstep"]

JOINED_KINDS: Final = (Kind.RGB, Kind.SEMANTIC)
"""What every tick has; a translator may want further kinds."""
DONE_MEMORY: Final = 1024
"""How many finished frame numbers of the session are remembered to tell a duplicate from a late frame."""
SESSION_MEMORY: Final = 64
"""How many ended sessions are remembered, so that a straggler of one does not bring it back."""


@dataclass(frozen=True, slots=True)
class Pair:
    """An RGB and a semantic frame of the same camera, session and frame number, of the same size.

    Attributes:
        rgb: The RGB frame.
        semantic: The semantic frame.
        more: The tick's frames of further kinds that the translator wants.
    """

    rgb: Frame
    semantic: Frame
    more: Mapping[Kind, Frame] = field(default_factory=dict)

    @property
    def id(self) -> FrameId:
        """Session and frame number of all."""
        return self.rgb.id

    @property
    def camera(self) -> str:
        """The camera of all."""
        return self.rgb.camera

    @property
    def frames(self) -> tuple[Frame, ...]:
        """All of them, the RGB frame first."""
        return (self.rgb, self.semantic, *self.more.values())


@dataclass(frozen=True, slots=True)
class Drop:
    """A frame that goes no further.

    Attributes:
        frame: The frame.
        outcome: Why.
        cause: Which of the outcome's possible causes: what is logged once.
        detail: A sentence for the log; empty where nobody did anything wrong.
    """

    frame: Frame
    outcome: Outcome
    cause: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Repeat:
    """In lockstep: all frames of the finished tick ``id`` came again, so the simulator still waits for its result."""

    camera: str
    id: FrameId


Event = Pair | Drop | Repeat


class Pairer:
    """Joins the streams of one camera.

    Rules, in this order:

    1. A frame of a session that has ended is ``late``. The first frame of a new session ends the one before; frames
       of that one still waiting are ``unpaired``. Nothing is joined across sessions.
    2. A frame whose tick is finished, or whose kind already waits in its tick, is a ``duplicate``.
    3. A tick waits until all kinds are there. When more than ``window`` wait, the one that waited longest is
       ``unpaired``. (By arrival and not by number: a few wildly wrong numbers must not block the window for ever.)
    4. A joined tick whose frames differ in size is ``mismatched``.
    5. Realtime only: a tick older than one that went in before is ``late``, so that ticks come out in rising order.
       Lockstep lets it through, because somebody waits for it.

    A tick is finished when its frames met, whatever became of them.

    Args:
        mode: ``realtime`` or ``lockstep``.
        window: Ticks that may wait.
        more: Kinds to join beside RGB and semantic.
    """

    def __init__(self, mode: Mode = "realtime", window: int = 8, more: Iterable[Kind] = ()) -> None:
        if window < 1:
            raise ValueError(f"a window of {window} frames cannot hold a frame for its partner: give at least 1")
        self._mode = mode
        self._window = window
        self._kinds: tuple[Kind, ...] = (*JOINED_KINDS, *more)
        self._session: str | None = None
        self._ended: deque[str] = deque(maxlen=SESSION_MEMORY)
        self._waiting: dict[int, dict[Kind, Frame]] = {}
        self._start_session(None)

    @property
    def session(self) -> str | None:
        """The running session; None before the first frame."""
        return self._session

    @property
    def waiting(self) -> int:
        """Frames that wait for the others of their tick."""
        return sum(map(len, self._waiting.values()))

    def offer(self, frame: Frame) -> list[Event]:
        """Takes one frame of a joined kind.

        Returns:
            What follows from it, in order: at most one :class:`Pair` or :class:`Repeat`, and any number of
            :class:`Drop`.
        """
        if frame.kind not in self._kinds:
            return [Drop(frame, Outcome.UNPAIRED, "not wanted")]
        if frame.session in self._ended:
            return [Drop(frame, Outcome.LATE, "session over", self._why_over(frame))]
        events: list[Event] = []
        if frame.session != self._session:
            events += [
                Drop(left, Outcome.UNPAIRED, "session ends", self._why_ended(left, frame)) for left in self._take_all()
            ]
            self._start_session(frame.session)
        self._last[frame.kind] = frame.number
        return events + self._join(frame)

    def flush(self, outcome: Outcome) -> list[Event]:
        """Drops everything that is waiting, for the given reason."""
        return [Drop(frame, outcome) for frame in self._take_all()]

    def want(self, more: Iterable[Kind], joined: Iterable[Pair] = ()) -> list[Event]:
        """Changes the further kinds: ticks that wait lose unwanted frames, and may be complete then.

        Args:
            more: Kinds to join beside RGB and semantic, from now on.
            joined: Ticks of this session that were joined before and lack a kind now: they wait again.
        """
        self._kinds = (*JOINED_KINDS, *more)
        for pair in joined:
            if pair.id.number in self._done_set:
                self._done_set.discard(pair.id.number)
                self._done.remove(pair.id.number)
            self._waiting[pair.id.number] = {frame.kind: frame for frame in pair.frames}
        events: list[Event] = []
        for number, frames in list(self._waiting.items()):
            odd = [kind for kind in frames if kind not in self._kinds]
            events += [Drop(frames.pop(kind), Outcome.UNPAIRED, "not wanted") for kind in odd]
            if not frames:
                del self._waiting[number]
            elif len(frames) == len(self._kinds):
                events += self._meet(self._waiting.pop(number))
        return events

    def _take_all(self) -> list[Frame]:
        left = [frame for frames in self._waiting.values() for frame in frames.values()]
        self._waiting.clear()
        return left

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
        frames = self._waiting.setdefault(frame.number, {})
        if frame.kind in frames:
            return [self._duplicate(frame)]
        frames[frame.kind] = frame
        if len(frames) == len(self._kinds):
            return self._meet(self._waiting.pop(frame.number))
        return self._make_room()

    def _make_room(self) -> list[Event]:
        if len(self._waiting) <= self._window:
            return []
        left = self._waiting.pop(next(iter(self._waiting)))
        return [self._unpaired(frame, self._missing(left)) for frame in left.values()]

    def _missing(self, frames: Mapping[Kind, Frame]) -> Kind:
        """The first kind that a tick lacks."""
        return next(kind for kind in self._kinds if kind not in frames)

    def _meet(self, frames: Mapping[Kind, Frame]) -> list[Event]:
        pair = Pair(
            frames[Kind.RGB],
            frames[Kind.SEMANTIC],
            {kind: frames[kind] for kind in self._kinds if kind not in JOINED_KINDS},
        )
        number, rgb = pair.id.number, pair.rgb
        self._finish(number)
        for other in pair.frames[1:]:
            if (rgb.width, rgb.height) != (other.width, other.height):
                detail = (
                    f"camera {pair.camera!r}, frame {number}: the RGB frame is {rgb.width}x{rgb.height} and the"
                    f" {other.kind} frame {other.width}x{other.height}; give both cameras of the simulator the same"
                    " size"
                )
                return [Drop(frame, Outcome.MISMATCHED, "sizes", detail) for frame in pair.frames]
        if self._mode == "realtime" and number < self._newest:
            return [self._late(frame) for frame in pair.frames]
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
        """All frames of the newest tick came again: a lost message costs another resend, never a wrong answer."""
        if self._mode != "lockstep" or frame.number != self._newest:
            return []
        self._again.add(frame.kind)
        if len(self._again) < len(self._kinds):
            return []
        self._again.clear()
        return [Repeat(frame.camera, frame.id)]

    def _unpaired(self, left: Frame, partner: Kind) -> Drop:
        cause = f"{partner} behind" if partner in self._last else f"no {partner}"
        waited = (
            f"{_name(left)} of session {left.session!r} waited for its {partner} frame while {self._window} others came"
        )
        topic = f"'{left.camera}/{partner}'"
        if partner not in self._last:
            advice = f"and the session has no {partner} frame at all: publish {topic} with the same session"
        else:
            advice = (
                f"and the last one on {topic} was frame {self._last[partner]}: give all images of a tick the same "
                "number, or let more wait with --pair-window"
            )
        return Drop(left, Outcome.UNPAIRED, cause, f"{waited}, {advice}")

    def _why_over(self, frame: Frame) -> str:
        return (
            f"{_name(frame)} is of session {frame.session!r}, which ended when session {self._session!r} began: give "
            "all streams of one simulator run the same session id, and end the simulator that ran before"
        )

    def _why_ended(self, left: Frame, first: Frame) -> str:
        partner = next(kind for kind in self._kinds if kind is not left.kind)
        return (
            f"{_name(left)} still waited for its {partner} frame when session {left.session!r} ended with the first "
            f"frame ({first.kind}) of session {first.session!r}: if the simulator did not start again there, give all "
            "its streams the same session id"
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


def _name(frame: Frame) -> str:
    return f"camera {frame.camera!r}: {frame.kind} frame {frame.number}"
