"""The simulator as a source of frames."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import numpy.typing as npt

from plugins.toytown.run.options import ToytownOptions
from plugins.toytown.town.surfaces import TAXONOMY
from sim_bridge.frames import Encoding, Frame, Kind
from sim_bridge.process.gate import Gate

if TYPE_CHECKING:  # it needs OpenCV
    from plugins.toytown.run.simulator import Shot

_ENCODINGS: Final[Mapping[Kind, Encoding]] = {
    Kind.RGB: Encoding.RGB8,
    Kind.SEMANTIC: Encoding.MONO8,
    Kind.INSTANCE: Encoding.MONO16,
    Kind.DEPTH: Encoding.FLOAT1,
    Kind.FLOW: Encoding.FLOAT2,
}


_LOOK_SECONDS: Final = 0.05
"""How soon the iteration notices that it was closed."""
PATIENCE_SECONDS: Final = 3.0
"""How long a tick that is ahead waits: an answer can be lost."""
FIRST_PATIENCE_SECONDS: Final = 0.3
"""How long it waits as long as there was no answer at all: a bridge that begins needs a frame to begin with."""


class ToytownSource(Gate):
    """Publishes the simulator tick by tick; see :class:`~sim_bridge.sources.Source`.

    Attributes:
        session: Id of this run; every source has its own.
        published: Ticks handed out so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.session = uuid.uuid4().hex[:16]
        self.published = 0
        self._closed = False
        self._answered = -1

    def open(self, options: Mapping[str, object]) -> None:
        """Builds the town, which takes a few seconds.

        Args:
            options: The fields of :class:`~plugins.toytown.run.options.ToytownOptions`.

        Raises:
            UsageError: An option is unknown or out of bounds.
            MissingExtraError: The ray caster is not installed.
        """
        self._options = ToytownOptions.checked(options)
        setup = self._options.setup()
        from plugins.toytown.run.simulator import Simulator

        self._simulator = Simulator(setup)

    @property
    def cameras(self) -> tuple[str, ...]:
        """The cameras' names."""
        return tuple(mount.name for mount in self._simulator.setup.mounts)

    def __iter__(self) -> Iterator[Frame]:
        """Yields the frames of every tick when its time has come; a tick that is late delays those after it."""
        due = time.monotonic()
        for frames in self.ticks():
            while not self._closed and (left := due - time.monotonic()) > 0:
                time.sleep(min(left, _LOOK_SECONDS))
            if self._closed:
                return
            # A burst of late ticks helps nobody: the schedule moves on with the simulator.
            due = max(due, time.monotonic() - self._period) + self._period
            yield from frames

    def ticks(self) -> Iterator[tuple[Frame, ...]]:
        """The frames of each tick, RGB and semantic of each camera first, without waiting for its time."""
        for index in count() if self._options.frames is None else range(self._options.frames):
            number = self._options.first + index
            if not self._may_go_on(number):
                return
            shots = self._simulator.tick(number)
            yield tuple(frame for shot in shots for frame in self._frames(shot))
            self.published += 1

    def answered(self, number: int) -> None:
        """Notes that the bridge is done with this tick and all before; with ``ahead`` the next may come."""
        self._answered = max(self._answered, number)
        self.nudge()

    def close(self) -> None:
        """Ends the iteration, also from a signal handler."""
        # A plain flag: a signal may come while this very thread holds a lock, an event's own one, too.
        self._closed = True

    @property
    def _period(self) -> float:
        return 1 / self._options.rate if self._options.rate else 0.0

    def _may_go_on(self, number: int) -> bool:
        """Waits while the simulation is paused, or a tick too far ahead; False when it was closed."""
        patience = time.monotonic() + (FIRST_PATIENCE_SECONDS if self._answered < 0 else PATIENCE_SECONDS)
        return self.pass_one(
            lambda: not self._closed, lambda: not self._is_too_early(number) or time.monotonic() > patience
        )

    def _is_too_early(self, number: int) -> bool:
        ahead, before = self._options.ahead, max(self._answered, self._options.first - 1)
        return bool(ahead) and number - before > ahead

    def _frames(self, shot: Shot) -> Iterator[Frame]:
        images: Mapping[Kind, Callable[[], npt.NDArray[Any]]] = {
            Kind.RGB: shot.cg,
            Kind.SEMANTIC: shot.semantic,
            Kind.INSTANCE: shot.instance,
            Kind.DEPTH: shot.depth,
            Kind.FLOW: shot.flow,
        }
        for kind in dict.fromkeys((Kind.RGB, Kind.SEMANTIC, *self._options.kinds)):
            yield Frame(
                camera=shot.camera,
                kind=kind,
                number=shot.number,
                time=shot.time,
                session=self.session,
                encoding=_ENCODINGS[kind],
                width=shot.lens.width,
                height=shot.lens.height,
                pixels=images[kind](),
                sent=0,
                labels=TAXONOMY if kind is Kind.SEMANTIC else None,
                fov=shot.lens.fov,
                pose=shot.pose,
            )
