"""CARLA as a source of frames."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final, TypeVar

from plugins.carla.run.attachment import Attachment
from plugins.carla.run.options import CarlaOptions
from plugins.carla.world.cleanup import LAST_SECONDS, Leftovers
from plugins.carla.world.server import CarlaError, ServerLostError, VehicleLostError, import_carla
from plugins.carla.world.versions import MISFIT_ADVICE, Versions, ask_versions
from sim_bridge.frames import Frame
from sim_bridge.live.once import OncePerCause
from sim_bridge.process.gate import Gate

AGAIN_SECONDS: Final = 0.5
"""Between two attempts to connect again."""
_LOOK_SECONDS: Final = 0.05

T = TypeVar("T")

_log = logging.getLogger(__name__)


class CarlaSource(Gate):
    """Our cameras on a vehicle in CARLA; see :class:`~sim_bridge.sources.Source`.

    After the server was started again, loaded another map or lost the vehicle, it connects by itself as soon as there
    is something to connect to, and begins a new session. What it made in the world it destroys, and settings that it
    changed it puts back, when the iteration ends and whenever it connects again.

    Args:
        on_session: Called with the number and the attachment of each new session.
        on_versions: Called before a session with the versions of client and server, some of which crash the client.
        after: Episode of the last session of the process that this one replaces: :meth:`open` then waits for server
            and vehicle, too, and an actor id is good for that episode only.

    Attributes:
        sessions: How many sessions began.
        malformed: Images left out because they were not what was asked for.
        incomplete: With ``tick``: ticks of which an image did not come in time.
        dropped: Images pushed out by newer ones before anybody took them.
    """

    def __init__(
        self,
        on_session: Callable[[int, Attachment], None] = lambda number, attachment: None,
        on_versions: Callable[[Versions], None] = lambda versions: None,
        after: int | None = None,
    ) -> None:
        super().__init__()
        self.sessions = self.malformed = self.incomplete = self.dropped = 0
        self._on_session, self._on_versions, self._after = on_session, on_versions, after
        self._closed = False
        self._busy = threading.Lock()
        """Held by the iteration between two frames."""
        self._leftovers = Leftovers()
        self._stopped_at: float | None = None
        self._attachment: Attachment | None = None
        self._once = OncePerCause(_log)

    def open(self, options: Mapping[str, object]) -> None:
        """Connects to the server and puts the cameras on the vehicle.

        Raises:
            UsageError: An option is unknown or out of bounds, or the server's version is of no known taxonomy.
            MissingExtraError: The client package is not installed.
            CarlaError: The server does not answer, has no such vehicle, or refuses something.
        """
        self._options = CarlaOptions.checked(options)
        import_carla()
        try:
            self._begin()
        except CarlaError as error:
            if self._after is None:
                self._end()
                raise
            self._begin_again(error)

    @property
    def cameras(self) -> tuple[str, ...]:
        """The cameras' names."""
        return self._options.rig.names

    @property
    def attachment(self) -> Attachment | None:
        """What it hangs on now."""
        return self._attachment

    def __iter__(self) -> Iterator[Frame]:
        """Yields the frames as they come in; with the option ``tick`` it moves the world for them.

        Raises CarlaError: the actor named by its id is gone, or the server refuses something.
        """
        if self._options.tick:
            for frames in self.ticks():
                yield from frames
        else:
            yield from self._through_losses(Attachment.follow)

    def ticks(self) -> Iterator[tuple[Frame, ...]]:
        """With the option ``tick``: moves the world and yields each tick's frames; raises as :meth:`__iter__`."""
        return self._through_losses(self._driven)

    def stop(self) -> None:
        """Ends the iteration soon; may be called in a signal handler."""
        # A plain flag: a signal may come while this very thread holds a lock.
        self._stopped_at = self._stopped_at or time.monotonic()
        self._closed = True

    def close(self) -> None:
        """Ends the iteration and cleans up; where the iteration waits for the server, it waits with it.

        It ends at most about the time-out and :data:`~plugins.carla.world.cleanup.LAST_SECONDS` after :meth:`stop`.
        """
        self.stop()
        with self._busy:
            self._end()

    @property
    def goes_on(self) -> bool:
        """Whether nobody has ended it yet."""
        return not self._closed

    def _goes_on(self) -> bool:
        return not self._closed

    def _driven(self, attachment: Attachment) -> Iterator[tuple[Frame, ...]]:
        due = time.monotonic()
        ticks = attachment.ticks()
        while self.pass_one(self._goes_on):
            frames = next(ticks, None)
            if frames is None:
                return
            yield frames
            due = max(due + attachment.step, time.monotonic() - attachment.step) if self._options.paced else 0.0
            while self._goes_on() and (left := due - time.monotonic()) > 0:
                time.sleep(min(left, _LOOK_SECONDS))

    def _through_losses(self, stream: Callable[[Attachment], Iterator[T]]) -> Iterator[T]:
        """What ``stream`` makes of one attachment after the other."""
        made: Iterator[T] | None = None
        try:
            while (item := self._next(stream, made)) is not None:
                made, value = item
                yield value
        finally:
            with self._busy:
                self._end()

    def _next(
        self, stream: Callable[[Attachment], Iterator[T]], made: Iterator[T] | None
    ) -> tuple[Iterator[T], T] | None:
        """The next of what ``stream`` makes, and of which attachment's; None at the end."""
        with self._busy:
            while self._goes_on() and self._attachment is not None:
                made = made or stream(self._attachment)
                try:
                    for value in made:
                        return made, value
                except (ServerLostError, VehicleLostError) as loss:
                    self._begin_again(loss)
                    made = None
                else:
                    return None
        return None

    def _begin(self) -> None:
        self._ask_versions()
        attachment = Attachment(self._options, self._goes_on, self._leftovers)
        self._attachment = attachment
        if self._options.actor is not None and self._after not in (None, attachment.server.episode):
            raise VehicleLostError(f"the CARLA server at {self._options.where} has another world, or is another one")
        if self._closed:
            return  # it may not have got far
        self.sessions += 1
        self._on_session(self.sessions, attachment)

    def _ask_versions(self) -> None:
        versions = ask_versions(self._options.where)
        self._on_versions(versions)
        if not versions.fit:
            sentence = f"the versions differ ({versions} at {self._options.where}): {MISFIT_ADVICE}"
            self._once.warn("versions", sentence, scope=versions)

    def _begin_again(self, loss: CarlaError) -> None:
        """Connects by itself as soon as there is something to connect to."""
        self._release()
        if not self._options.reconnect:
            raise loss
        if self._options.actor is not None:
            raise CarlaError(
                f"{loss}: an actor id is that of one vehicle of one world only, give --role-name"
            ) from loss
        _log.warning("%s; connecting again ...", loss)
        while self._goes_on():
            try:
                self._begin()
            except CarlaError as error:  # also what was refused: a server that has just started may not have it yet
                self._once.warn(type(error).__name__, f"still waiting: {error}", scope=self.sessions)
                time.sleep(AGAIN_SECONDS)
            else:
                return

    def _release(self) -> None:
        attachment, self._attachment = self._attachment, None
        if attachment is not None:
            attachment.release()
            self.malformed += attachment.malformed
            self.incomplete += attachment.incomplete
            self.dropped += attachment.dropped

    def _end(self) -> None:
        """Cleans up for good."""
        self._release()
        if self._leftovers:
            began = self._stopped_at or time.monotonic()
            self._leftovers.clean(self._options.owner, began + self._options.timeout + LAST_SECONDS)
