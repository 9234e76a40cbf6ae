"""Watches for labels that are formally right and may be wrong all the same. Looks closely at a few frames only."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from sim_bridge.live.pairing import Pair
from sim_bridge.pixels.alignment import Alignment, Finding
from sim_bridge.pixels.one_class import lone_class
from sim_bridge.pixels.preprocess import Prepared

LONG_SECONDS: Final = 5.0
"""How long one class alone goes on before it is suspicious."""
EVERY: Final = 200
"""Frames of a camera from one close look to the next."""
LOOK: Final = 8
"""Frames of a close look, in a row."""
_NEAR_NUMBERS: Final = 3  # frame numbers between two frames that follow each other
_NEAR_PIXELS: Final = 8  # two looks that find shifts this near have found the same


class Suspicion(NamedTuple):
    """What may be wrong: a stable word, and a sentence."""

    cause: str
    sentence: str


@dataclass
class _Watched:
    """What is known of a camera in one session."""

    session: str
    alone: int | None = None
    since: float = 0.0
    frames: int = 0
    last: int = 0
    look: Alignment = field(default_factory=Alignment)
    found: Finding | None = None
    said: set[str] = field(default_factory=set)


class LabelWatch:
    """Watches all cameras of a bridge. One thread uses it.

    Args:
        clock: Seconds that only go up.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._cameras: dict[str, _Watched] = {}

    def look(self, pair: Pair, prepared: Prepared, classes: Sequence[str]) -> list[Suspicion]:
        """What a prepared tick adds; each cause once a session. Nothing for a network without ``classes``."""
        if not classes:
            return []
        watched = self._cameras.get(pair.camera)
        if watched is None or watched.session != pair.id.session:
            watched = self._cameras[pair.camera] = _Watched(pair.id.session)
        found = [self._one_class(watched, prepared, classes), self._place(watched, pair, prepared)]
        new = [one for one in found if one is not None and one.cause not in watched.said]
        watched.said.update(one.cause for one in new)
        return new

    def _one_class(self, watched: _Watched, prepared: Prepared, classes: Sequence[str]) -> Suspicion | None:
        alone = lone_class(prepared.labels)
        if alone is None or alone != watched.alone:
            watched.alone, watched.since = alone, self._clock()
            return None
        if (seconds := self._clock() - watched.since) < LONG_SECONDS:
            return None
        return Suspicion(
            "one class",
            f"for {seconds:.0f} s all labels have been {classes[alone]!r} alone: check the semantic camera and the"
            " taxonomy that it names",
        )

    def _place(self, watched: _Watched, pair: Pair, prepared: Prepared) -> Suspicion | None:
        place = watched.frames % EVERY
        watched.frames += 1
        follows = 0 < pair.id.number - watched.last <= _NEAR_NUMBERS
        watched.last = pair.id.number
        if place == 0:
            watched.look = Alignment()
        if place >= LOOK:
            return None
        watched.look.add(prepared.rgb, prepared.labels, follows=follows, search=place in (0, LOOK - 1))
        if place < LOOK - 1 or (finding := watched.look.finding()) is None:
            return None
        before, watched.found = watched.found, finding
        if before is None or not _same(before, finding):
            return None  # one look may be misled, by a scene that repeats itself
        return Suspicion("place", f"{finding}: send RGB and labels of one tick, from one pose and one lens")


def _same(one: Finding, other: Finding) -> bool:
    far = max(abs(one.right - other.right), abs(one.down - other.down))
    return one.ticks == other.ticks and far <= _NEAR_PIXELS
