"""One attachment to a world: the server, the vehicle and our sensors, from a connection to its end."""

from __future__ import annotations

import logging
import math
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, Self

from plugins.carla.rig.sensors import Arrival, FrameMaker, SensorKey, SensorSet
from plugins.carla.rig.ticks import BETWEEN_SECONDS, Patience
from plugins.carla.run.options import CarlaOptions
from plugins.carla.world.cleanup import Leftovers
from plugins.carla.world.server import CarlaError, Server, ServerLostError, VehicleLostError
from plugins.carla.world.tags import taxonomy_for
from plugins.carla.world.vehicles import find_vehicle, spawn_vehicle, sweep
from sim_bridge.errors import ImageError
from sim_bridge.frames import Frame
from sim_bridge.live.once import OncePerCause

if TYPE_CHECKING:
    import carla

SILENCE_SECONDS: Final = 0.5
"""After such a gap the server must answer before an image is trusted: another one may have taken its place, and its
streams have the same numbers."""
FALL: Final = 256
"""A frame number that is so much lower than one before is of another run of the server; less is a late image."""
NOT_RENDERED: Final = "no_rendering_mode is on, with which cameras send nothing: set it to False"
COUNT_SECONDS: Final = 30.0
"""How often it is said how many ticks lacked an image."""
_LOOK_SECONDS: Final = 0.1
_WARM_UP_SECONDS: Final = 0.2
_TELL_SECONDS: Final = 5.0

_log = logging.getLogger(__name__)


class Attachment:
    """Our sensors on a vehicle of one world: one session.

    Args:
        options: Which server, which vehicle, which cameras.
        go_on: False ends every wait.
        leftovers: This attachment undoes what earlier ones left there, and leaves there what it cannot undo.

    Raises:
        ServerLostError: The server does not answer.
        VehicleLostError: There is no such vehicle.
        CarlaError: The server refuses something.
        UsageError: Its version is of no known taxonomy.

    Attributes:
        session: Its id.
        labels: Taxonomy of the semantic images.
        malformed: As in :class:`~plugins.carla.run.source.CarlaSource`, with incomplete and dropped.
    """

    def __init__(self, options: CarlaOptions, go_on: Callable[[], bool], leftovers: Leftovers) -> None:
        self._options, self._go_on, self._leftovers = options, go_on, leftovers
        self.session = f"carla-{uuid.uuid4().hex[:16]}"
        self.malformed = self.incomplete = self.dropped = 0
        self._once = OncePerCause(_log)
        self._spawned: carla.Actor | None = None
        self._sensors: SensorSet | None = None
        self._highest = -1
        self._counted = -math.inf
        self.server = Server(options.where)
        leftovers.hand_over(self.server)
        try:
            self.server.destroy_made()
            self._open()
        except BaseException:
            self.release()
            raise

    def _open(self) -> None:
        options, server = self._options, self.server
        self.labels = taxonomy_for(server.version, options.labels)
        if self._renders_nothing():
            sentence = f"the world of {server.where} is not rendered: {NOT_RENDERED}"
            if options.tick:
                raise CarlaError(sentence)
            _log.warning("%s", sentence)  # whose script drives the world may yet change that
        if options.tick:
            self.step = server.drive(options.step)
            server.tick()  # a client that has just come in knows no actor before
        vehicle = self._vehicle()
        if vehicle is None:
            return
        sweep(server, options.tag, vehicle.id, options.owner.role)
        self._maker = FrameMaker(self.session, self.labels, options.rig)
        self._sensors = SensorSet(server, vehicle, options.rig, options.all_kinds, options.tag)
        if options.tick:
            self._warm_up(self._sensors)

    def _vehicle(self) -> carla.Actor | None:
        if not self._options.target.spawn:
            return find_vehicle(self.server, self._options.target, self._go_on, for_ever=self._options.wait)
        self._spawned = spawn_vehicle(self.server, self._options.role_name, self._options.tag)
        return self._spawned

    def _warm_up(self, sensors: SensorSet) -> None:
        """Ticks until every sensor sends: the client does not say when a stream is open."""
        deadline = time.monotonic() + self.server.where.timeout
        while self._go_on():
            number = self.server.tick()
            silent = sensors.queue.wait_for(sensors.keys, 0, _WARM_UP_SECONDS)
            if not silent:  # what is still on its way is not to be taken for the next tick's
                sensors.queue.wait_for(sensors.keys, number, BETWEEN_SECONDS)
                break
            if time.monotonic() > deadline:
                raise CarlaError(
                    f"the sensors {_names(silent)} at {self.server.where} sent no image within "
                    f"{self.server.where.timeout:g} s although the world was ticked: see that the server renders and "
                    "that the port after its own can be reached"
                )
        sensors.queue.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Destroys what we made in the world and puts its settings back; does not raise, a second call does nothing.

        What cannot be undone, as the server is lost or another world was loaded, is kept in the leftovers.
        """
        sensors, spawned = self._sensors, self._spawned
        self._sensors = self._spawned = None
        if sensors is not None:
            self.dropped += sensors.queue.dropped
            sensors.destroy()
        if spawned is not None:
            self.server.destroy(spawned)
        try:
            self.server.restore()
        except CarlaError as error:
            _log.warning("%s", error)
        self._leftovers.keep(self.server)

    def follow(self) -> Iterator[Frame]:
        """The frames as they come in, while somebody else moves the world.

        Raises:
            ServerLostError: The server does not answer any more, or another one is in its place.
            VehicleLostError: Vehicle, sensors or world are gone.
        """
        sensors = self._sensors
        checked = came = time.monotonic()
        while sensors is not None and self._go_on():
            arrival = sensors.queue.get(_LOOK_SECONDS)
            now = time.monotonic()
            if arrival is None:
                if now - checked > SILENCE_SECONDS:
                    self._check(sensors)
                    checked = time.monotonic()
                    self._tell_silence(sensors, now - came)
                continue
            if arrival.came - came > SILENCE_SECONDS:
                self._check(sensors)
            came = checked = arrival.came
            yield from self._frames(sensors, arrival)

    def ticks(self) -> Iterator[tuple[Frame, ...]]:
        """Moves the world tick by tick; yields what came in since the tick before, all of it that is in order.

        Raises:
            ServerLostError: The server does not answer any more.
            VehicleLostError: Vehicle, sensors or world are gone.
        """
        sensors = self._sensors
        patience = Patience(self.server.where.timeout)
        while sensors is not None and self._go_on():
            asked = time.monotonic()
            number = self.server.tick()
            if not (sensors.alive and self.server.is_same_world()):
                raise VehicleLostError(self._gone())
            missing = patience.wait(sensors.queue, sensors.keys, number, asked, self._go_on)
            if missing and self._go_on():
                self._count_incomplete(number, missing, time.monotonic() - asked)
            frames: list[Frame] = []
            while (arrival := sensors.queue.get(0)) is not None:
                frames += self._frames(sensors, arrival)
            if frames or self._go_on():  # at the end nobody waits for a tick's images
                yield tuple(frames)

    def _count_incomplete(self, number: int, missing: Sequence[SensorKey], seconds: float) -> None:
        self.incomplete += 1
        now = time.monotonic()
        if now - self._counted < COUNT_SECONDS:
            return
        self._counted = now
        why = f"; {NOT_RENDERED}" if self._renders_nothing() else ""
        _log.warning(
            "frame %d of %s had not come %.2g s after its tick, which is counted, and used if it still comes; so far "
            "%d of the ticks lacked an image in time%s",
            *(number, _names(missing), seconds, self.incomplete, why),
        )

    def _renders_nothing(self) -> bool:
        return bool(self.server.settings().no_rendering_mode)

    def _frames(self, sensors: SensorSet, arrival: Arrival) -> Iterator[Frame]:
        if arrival.number > self._highest and not (sensors.alive and self.server.is_same_world()):
            raise VehicleLostError(self._gone())
        if arrival.number < self._highest - FALL:
            self.server.lost = True
            raise ServerLostError(
                f"the frame numbers of {self.server.where} fell from {self._highest} to {arrival.number}: it was "
                "started again"
            )
        self._highest = max(self._highest, arrival.number)
        try:
            yield self._maker.frame(arrival)
        except ImageError as error:
            self.malformed += 1
            self._once.warn(
                ("malformed", arrival.camera, arrival.kind),
                f"{arrival.camera}/{arrival.kind} frame {arrival.number} is left out: {error}",
                scope=self.session,
            )

    def _check(self, sensors: SensorSet) -> None:
        self.server.check()
        if not sensors.alive:
            raise VehicleLostError(self._gone())

    def _gone(self) -> str:
        if not self.server.is_same_world():
            return f"the CARLA server at {self.server.where} has another world, or is another one"
        return f"the {self._options.target} or a sensor on it was destroyed in the world of {self.server.where}"

    def _tell_silence(self, sensors: SensorSet, seconds: float) -> None:
        if seconds < _TELL_SECONDS:
            return
        settings = self.server.settings()
        synchronous = bool(settings.synchronous_mode)
        advice = "run the script that ticks it, or give --tick" if synchronous else "see what holds it up"
        if settings.no_rendering_mode:
            advice = NOT_RENDERED
        self._once.warn(
            "silence",
            f"no image came from {self.server.where} for {seconds:.0f} s, though the server answers and its world is "
            f"{'synchronous' if synchronous else 'asynchronous'}: {advice}",
            scope=self._highest,
        )


def _names(keys: Sequence[SensorKey]) -> str:
    return ", ".join(f"{camera}/{kind}" for camera, kind in keys)
