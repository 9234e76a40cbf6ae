"""The world: an episode with its settings and actors. Knows no network; whoever uses it holds :attr:`World.lock`."""

from __future__ import annotations

import math
import threading
from itertools import count
from typing import Final

from tests.carla_server.blueprints import SPECTATOR, VEHICLE_PREFIX, CameraKind, complete, read_lens
from tests.carla_server.faults import Faults
from tests.carla_server.geometry import compose, heading
from tests.carla_server.rpc import RpcError
from tests.carla_server.structures import BoundingBox, Description, Settings, Transform, Vector, VehicleControl

FIRST_ACTOR: Final = 24
FIRST_SENSOR_STREAM: Final = 2
WORLD_OBSERVER: Final = 17
"""Number of the episode's state among the sensors of 0.9.16."""
MAX_ACTORS: Final = 1000
CLEARANCE: Final = 4.0
"""Closer than this no vehicle is spawned beside another, metres."""
CRUISE: Final = 30 / 3.6
"""Speed on autopilot, m/s."""
THROTTLE: Final = 4.0
BRAKE: Final = 8.0
"""Acceleration with the pedal down, m/s2."""
DRAG: Final = 0.08
"""Share of its speed that a vehicle loses in a second."""
WHEELBASE: Final = 2.9
FULL_STEER: Final = math.radians(35.0)
"""Of the front wheels."""
_VEHICLE_BOX: Final = BoundingBox(Vector(0.0, 0.0, 0.7), Vector(2.4, 1.1, 0.75))
_NO_BOX: Final = BoundingBox(Vector(), Vector())
_CLEAR_NOON: Final = (10.0, 0.0, 0.0, 5.0, -1.0, 45.0, 2.0, 0.75, 0.1, 0.0, 1.0, 0.03, 0.0331, 0.0)


class Actor:
    """A thing in the world.

    Attributes:
        id: Its number, never given twice.
        description: Blueprint and attributes.
        parent: What it is attached to.
        place: Its pose, relative to its parent where it has one.
        velocity: In the world, m/s.
    """

    def __init__(self, number: int, description: Description, place: Transform, parent: Actor | None) -> None:
        self.id, self.description = number, description
        self.place, self.parent = place, parent
        self.velocity = Vector()

    @property
    def box(self) -> BoundingBox:
        """The box around it."""
        return _NO_BOX

    @property
    def world_pose(self) -> Transform:
        """Its pose in the world."""
        return compose(self.parent.world_pose, self.place) if self.parent else self.place

    def detach(self) -> None:
        """Lets it stay in the world where it is, as what was attached to a destroyed actor does."""
        self.place, self.parent = self.world_pose, None

    def advance(self, seconds: float) -> None:
        """Moves it on."""
        if self.velocity != Vector() and self.parent is None:
            moved = (p + v * seconds for p, v in zip(self.place.location, self.velocity, strict=True))
            self.place = self.place._replace(location=Vector(*moved))


class Vehicle(Actor):
    """A vehicle: a bicycle model once it was given a control; else it keeps the velocity that it was given.

    Attributes:
        control: The driver's last one.
    """

    def __init__(self, number: int, description: Description, place: Transform, parent: Actor | None) -> None:
        super().__init__(number, description, place, parent)
        self.control = VehicleControl()
        self._driven = False

    @property
    def box(self) -> BoundingBox:
        """The box around it."""
        return _VEHICLE_BOX

    def drive(self, control: VehicleControl) -> None:
        """Takes a control, which holds until the next one."""
        self.control, self._driven = control, True

    def cruise(self, on: bool) -> None:
        """Autopilot: straight on along its heading; off, it rolls out."""
        self.velocity = self._along(CRUISE) if on else self.velocity
        self._driven = not on

    def advance(self, seconds: float) -> None:
        """Moves it on."""
        if self._driven and self.parent is None:
            self._steer(seconds)
        super().advance(seconds)

    def _steer(self, seconds: float) -> None:
        control = self.control
        forward = heading(self.place.rotation)
        speed = sum(v * f for v, f in zip(self.velocity, forward, strict=True))
        speed += THROTTLE * control.throttle * (-1 if control.reverse else 1) * seconds
        braked = (DRAG * abs(speed) + BRAKE * max(control.brake, control.hand_brake)) * seconds
        speed = math.copysign(max(0.0, abs(speed) - braked), speed)
        turned = math.degrees(speed / WHEELBASE * math.tan(control.steer * FULL_STEER) * seconds)
        yaw = math.remainder(self.place.rotation.yaw + turned, 360.0)
        self.place = self.place._replace(rotation=self.place.rotation._replace(yaw=yaw))
        self.velocity = self._along(speed)

    def _along(self, speed: float) -> Vector:
        return Vector(*(speed * f for f in heading(self.place.rotation)))


class Camera(Actor):
    """A camera.

    Attributes:
        kind: What it takes.
        lens: Its size, field of view and rate.
        stream: Where its pictures can be read.
        faults: What goes wrong with them.
        before: Its pose at the tick before.
    """

    def __init__(
        self, number: int, description: Description, place: Transform, parent: Actor | None, stream: int
    ) -> None:
        super().__init__(number, description, place, parent)
        self.kind = CameraKind(description.id)
        self.lens = read_lens({value.id: value.value for value in description.attributes})
        self.stream = stream
        self.faults = Faults()
        self.before = self.world_pose
        self._last_picture = -math.inf

    def is_due(self, seconds: float) -> bool:
        """Whether it takes a picture at this time; notes it."""
        due = seconds - self._last_picture >= self.lens.sensor_tick - 1e-6
        if due:
            self._last_picture = seconds
        return due


class World:
    """An episode.

    Args:
        town: Name of the map.
        episode: Id of the first episode; a restarted server needs another one for its clients to follow.
        first_frame: Number before the first tick's.
        rate: Ticks per second of an asynchronous world.

    Attributes:
        lock: Held by whoever reads or changes anything.
        observer: Number of the episode's state among the sensors.
        actors: By id; the spectator is one of them.
        frame: Number of the last tick; goes on counting from episode to episode.
        seconds: Simulation time of the episode.
    """

    def __init__(self, town: str, episode: int, first_frame: int, rate: float) -> None:
        self.lock = threading.RLock()
        self.town, self.episode, self.frame, self.rate = town, episode, first_frame, rate
        self.observer = WORLD_OBSERVER
        self._ids, self._streams = count(FIRST_ACTOR), count(FIRST_SENSOR_STREAM)
        self.settings = Settings()
        self._empty()

    def _empty(self) -> None:
        self.seconds = 0.0
        self.weather: tuple[float, ...] = _CLEAR_NOON
        self.actors: dict[int, Actor] = {}
        self.spectator = Actor(next(self._ids), Description(0, SPECTATOR, ()), Transform(Vector(z=10.0)), None)
        self.actors[self.spectator.id] = self.spectator

    @property
    def delta(self) -> float:
        """Seconds from tick to tick."""
        return self.settings.delta or 1 / self.rate

    def new_episode(self, town: str, *, reset_settings: bool) -> None:
        """Loads a map: all actors are gone."""
        self.town, self.episode, self.frame = town, self.episode + 1, self.frame + 1
        if reset_settings:
            self.settings = Settings()
        self._empty()

    def advance(self) -> None:
        """One tick."""
        for camera in self.cameras():
            camera.before = camera.world_pose
        self.frame += 1
        self.seconds += self.delta
        for actor in self.actors.values():
            actor.advance(self.delta)

    def cameras(self) -> list[Camera]:
        """All cameras."""
        return [actor for actor in self.actors.values() if isinstance(actor, Camera)]

    def actor(self, number: int) -> Actor:
        """The actor of that id.

        Raises:
            RpcError: There is none.
        """
        if number not in self.actors:
            raise RpcError(f"the actor {number} is not found: it was destroyed or never was")
        return self.actors[number]

    def vehicle(self, number: int) -> Vehicle:
        """The vehicle of that id.

        Raises:
            RpcError: There is none.
        """
        actor = self.actor(number)
        if not isinstance(actor, Vehicle):
            raise RpcError(f"the actor {number} is a {actor.description.id}, not a vehicle")
        return actor

    def camera(self, number: int) -> Camera:
        """The camera of that id.

        Raises:
            RpcError: There is none.
        """
        actor = self.actor(number)
        if not isinstance(actor, Camera):
            raise RpcError(f"the actor {number} is a {actor.description.id}, not a camera")
        return actor

    def spawn(self, description: Description, place: Transform, parent: Actor | None = None) -> Actor:
        """Puts an actor into the world.

        Raises:
            RpcError: The blueprint is unknown, an attribute is out of bounds, the place is taken, there are too many.
        """
        if len(self.actors) >= MAX_ACTORS:
            raise RpcError(f"there are {MAX_ACTORS} actors, which is the limit: destroy some first")
        description = complete(description)
        actor: Actor
        if description.id in set(CameraKind):
            actor = Camera(next(self._ids), description, place, parent, next(self._streams))
        elif description.id.startswith(VEHICLE_PREFIX):
            self._require_room(place)
            actor = Vehicle(next(self._ids), description, place, parent)
        else:
            actor = Actor(next(self._ids), description, place, parent)
        self.actors[actor.id] = actor
        return actor

    def destroy(self, number: int) -> Actor:
        """Takes an actor out of the world; what was attached to it stays where it was.

        Raises:
            RpcError: There is none of that id.
        """
        actor = self.actor(number)
        for other in self.actors.values():
            if other.parent is actor:
                other.detach()
        del self.actors[number]
        return actor

    def _require_room(self, place: Transform) -> None:
        others = (actor for actor in self.actors.values() if isinstance(actor, Vehicle))
        if any(math.dist(other.world_pose.location, place.location) < CLEARANCE for other in others):
            raise RpcError("Spawn failed because of collision at spawn position")
