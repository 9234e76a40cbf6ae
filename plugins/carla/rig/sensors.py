"""Our sensors on a vehicle, and the queue that their images wait in."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from plugins.carla.rig.rig import OWN_ATTRIBUTES, Rig, RigCamera
from plugins.carla.world.images import BLUEPRINTS, InstanceNumbers, bgra, depth_metres, semantic_ids
from plugins.carla.world.poses import Placement, pose_of
from plugins.carla.world.server import CarlaError, WorldAccess
from sim_bridge.errors import ImageError
from sim_bridge.frames import Encoding, Frame, Kind, PixelArray

if TYPE_CHECKING:
    import carla

TICKS_KEPT: Final = 8
"""Images of each sensor that may wait; beyond that the oldest of all is dropped."""

SensorKey = tuple[str, Kind]
"""Camera and kind of image."""

LENS: Final = "lens_"
"""What attributes of the lens begin with: they move pixels, so all of a camera's kinds must have them."""
_FITS: Final = {
    "Bool": re.compile("true|false", re.IGNORECASE),
    "Int": re.compile(r"[+-]?\d+"),
    "Float": re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE),
}

_log = logging.getLogger(__name__)

_ENCODINGS: Final[Mapping[Kind, Encoding]] = {
    Kind.RGB: Encoding.BGRA8,
    Kind.SEMANTIC: Encoding.MONO8,
    Kind.INSTANCE: Encoding.MONO16,
    Kind.DEPTH: Encoding.FLOAT1,
}


@dataclass(frozen=True, slots=True)
class Arrival:
    """An image as the client's thread handed it over."""

    camera: str
    kind: Kind
    image: carla.Image  # its pixels live as long as it does
    came: float  # seconds of the monotonic clock

    @property
    def number(self) -> int:
        """The world's frame number."""
        return int(self.image.frame)


class ArrivalQueue:
    """Images that wait to be sent. The newest win: what does not fit pushes the oldest out, and is counted.

    Images of all sensors share it, so that those of one tick go together.
    """

    def __init__(self, room: int) -> None:
        self._waiting: deque[Arrival] = deque()
        self._room = room
        self._changed = threading.Condition()
        self._first: dict[SensorKey, int] = {}
        self._newest: dict[SensorKey, int] = {}
        self.dropped = 0  # images pushed out
        self.count = 0  # images ever put in
        self.came = 0.0  # when the last one was, seconds of the monotonic clock

    def put(self, arrival: Arrival) -> None:
        """Adds one; called in the client's threads, so it never waits for a reader."""
        with self._changed:
            if len(self._waiting) >= self._room:
                self._waiting.popleft()
                self.dropped += 1
            self._waiting.append(arrival)
            self.came = arrival.came
            self.count += 1
            key = (arrival.camera, arrival.kind)
            self._first.setdefault(key, arrival.number)
            self._newest[key] = max(arrival.number, self._newest.get(key, -1))
            self._changed.notify_all()

    def first(self, key: SensorKey) -> int:
        """The frame number of the first image of a sensor; -1 when it never sent."""
        return self._first.get(key, -1)

    def newest(self, key: SensorKey) -> int:
        """The highest frame number that ever came from a sensor; -1 when it never sent."""
        return self._newest.get(key, -1)

    def wait_for(self, keys: Sequence[SensorKey], number: int, seconds: float) -> list[SensorKey]:
        """Waits until all these sensors have sent that frame or a later one; those that had not in time."""

        def missing() -> list[SensorKey]:
            return [key for key in keys if self.newest(key) < number]

        with self._changed:
            self._changed.wait_for(lambda: not missing(), seconds)
            return missing()

    def wait_for_more(self, count: int, seconds: float) -> None:
        """Waits until more than ``count`` were put in, if that is in time."""
        with self._changed:
            self._changed.wait_for(lambda: self.count > count, seconds)

    def get(self, timeout: float) -> Arrival | None:
        """The oldest one; None when none came within ``timeout`` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._waiting), max(0.0, timeout))
            return self._waiting.popleft() if self._waiting else None

    def clear(self) -> None:
        """Forgets all that wait."""
        with self._changed:
            self._waiting.clear()


class SensorSet:
    """The sensors of a rig, listening, one for each of a camera's kinds.

    They are on the vehicle, or in the world where there is none; ``tag`` is their role name.

    Raises:
        CarlaError: The server refuses one, or does not answer.
    """

    def __init__(
        self, server: WorldAccess, vehicle: carla.Actor | None, rig: Rig, kinds: Sequence[Kind], tag: str
    ) -> None:
        self.queue = ArrivalQueue(TICKS_KEPT * len(rig.cameras) * len(kinds))
        self._server, self._vehicle = server, vehicle
        self._sensors: dict[SensorKey, carla.Sensor] = {}
        self._seen: set[int] = set()
        try:
            for name, camera in rig.cameras.items():
                for kind in kinds:
                    self._add(name, camera, kind, tag)
        except BaseException:
            self.destroy()
            raise
        self._seen |= self._present([actor.id for actor in self._actors])

    @property
    def keys(self) -> tuple[SensorKey, ...]:
        """Camera and kind of every sensor."""
        return tuple(self._sensors)

    @property
    def _actors(self) -> list[carla.Actor]:
        return [actor for actor in (*self._sensors.values(), self._vehicle) if actor is not None]

    def _expected(self) -> set[int]:
        """Actors that a state of the world must have from now on.

        A new actor comes with the next tick. A state newer than a sensor's image has that sensor and its carrier.
        """
        expected = set(self._seen)
        newest = int(self._server.world.get_snapshot().frame)
        for key, sensor in tuple(self._sensors.items()):  # another thread may clear them
            if 0 <= self.queue.first(key) < newest:
                expected |= {actor.id for actor in (sensor, self._vehicle) if actor is not None}
        return expected

    @property
    def alive(self) -> bool:
        """Whether vehicle and sensors are in the newest state of the world that came in; asks nobody.

        An actor's own ``is_alive`` stays True when another client destroys it.
        """
        # Several threads ask: what is expected must be older than the state that is looked at.
        expected = self._expected()
        present = self._present([actor.id for actor in self._actors])
        self._seen |= present
        return expected <= present

    def destroy(self) -> int:
        """Ends and destroys the sensors that are still there; how many could not be."""
        seen = set(self._seen)
        there = self._present([sensor.id for sensor in self._sensors.values()])
        left = 0
        for sensor in self._sensors.values():
            _silence(sensor)
            if sensor.id in seen - there:
                self._server.made.discard(sensor.id)
            else:
                left += not self._server.destroy(sensor)
        self._sensors.clear()
        self.queue.clear()
        return left

    def _present(self, numbers: Sequence[int]) -> set[int]:
        """Those of the actors that are in the newest state of the world that came in."""
        snapshot = self._server.world.get_snapshot()
        return {number for number in numbers if snapshot.has_actor(number)}

    def _add(self, name: str, camera: RigCamera, kind: Kind, tag: str) -> None:
        blueprint = camera_blueprint(self._server, kind, camera, tag)
        place = camera.placement.to_carla()
        with self._server.asking(f"the {kind} sensor of camera {name!r}"):
            sensor = self._server.world.spawn_actor(blueprint, place, attach_to=self._vehicle)
        self._server.made.add(sensor.id)
        self._sensors[name, kind] = sensor
        with self._server.asking(f"the stream of the {kind} sensor of camera {name!r}"):
            sensor.listen(self._receiver(name, kind))

    def _receiver(self, name: str, kind: Kind) -> Callable[[Any], None]:
        queue = self.queue

        def receive(image: carla.Image) -> None:
            # In a thread of the client's, which must get away at once: checks and copies are made by the reader.
            queue.put(Arrival(name, kind, image, time.monotonic()))

        return receive


def camera_blueprint(server: WorldAccess, kind: Kind, camera: RigCamera, tag: str) -> Any:
    """The blueprint of a camera that sees ``kind``, an image at every tick.

    Raises:
        CarlaError: This server has no such camera, its RGB camera no such attribute, or an attribute another type.
    """
    name = BLUEPRINTS[kind]
    with server.asking("its blueprints"):
        library = server.world.get_blueprint_library()
    found = [blueprint for blueprint in library if blueprint.id == name]
    if not found:
        raise CarlaError(f"{server.name} has no {name}: leave it out")
    blueprint = found[0]
    wanted = {
        "image_size_x": str(camera.size[0]),
        "image_size_y": str(camera.size[1]),
        "fov": f"{camera.fov:g}",
        "sensor_tick": "0.0",
        "motion_blur_intensity": "0.0",  # it blurs the edges that the class ids have sharp
        "role_name": tag,
    }
    for attribute, value in wanted.items():
        if blueprint.has_attribute(attribute):
            blueprint.set_attribute(attribute, value)
    for attribute, asked in camera.attributes.items():
        if kind is Kind.RGB or (attribute.startswith(LENS) and blueprint.has_attribute(attribute)):
            _set_attribute(blueprint, attribute, asked)
    return blueprint


def _set_attribute(blueprint: Any, name: str, value: bool | float | str) -> None:
    """Sets what a user asked for; the client itself lets any name and any text pass."""
    if not blueprint.has_attribute(name):
        known = ", ".join(sorted(attribute.id for attribute in blueprint if attribute.id not in OWN_ATTRIBUTES))
        raise CarlaError(f"{blueprint.id} has no attribute {name!r}: it has {known}")
    kind, text = str(blueprint.get_attribute(name).type), str(value)
    if not _FITS.get(kind, re.compile(".*", re.DOTALL)).fullmatch(text):
        raise CarlaError(f"the attribute {name!r} of {blueprint.id} is {text!r}, but must be of the type {kind}")
    blueprint.set_attribute(name, text)


class FrameMaker:
    """Makes frames of what arrived."""

    def __init__(self, session: str, labels: str, rig: Rig) -> None:
        self._session, self._labels, self._rig = session, labels, rig
        self._instances = InstanceNumbers(labels)

    def frame(self, arrival: Arrival) -> Frame:
        """The frame, with a copy of the pixels. Raises ImageError: buffer or image has not the size asked for."""
        image = arrival.image
        pixels = bgra(image)
        height, width = pixels.shape[:2]
        asked = self._rig.cameras[arrival.camera].size
        if (width, height) != asked:
            raise ImageError(
                f"CARLA sent a {width}x{height} image to camera {arrival.camera!r}, which was asked to be "
                f"{asked[0]}x{asked[1]}: another server may have taken the place of the one before"
            )
        return Frame(
            camera=arrival.camera,
            kind=arrival.kind,
            number=arrival.number,
            time=float(image.timestamp),
            session=self._session,
            encoding=_ENCODINGS[arrival.kind],
            width=width,
            height=height,
            pixels=self._values(arrival.kind, pixels),
            sent=0,
            labels=self._labels if arrival.kind is Kind.SEMANTIC else None,
            fov=float(image.fov),
            pose=pose_of(Placement.of(image.transform)),
        )

    def _values(self, kind: Kind, pixels: Any) -> PixelArray:
        match kind:
            case Kind.SEMANTIC:
                return semantic_ids(pixels)
            case Kind.DEPTH:
                return depth_metres(pixels)
            case Kind.INSTANCE:
                return self._instances.number(pixels)
            case _:
                return np.array(pixels)


def _silence(sensor: carla.Sensor) -> None:
    try:
        sensor.stop()
    except RuntimeError as error:
        _log.debug("sensor %s could not be stopped: %s", sensor.id, error)
