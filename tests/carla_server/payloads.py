"""The payloads of streams: a header, then a picture or the state of the episode. Little endian, packed."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable
from typing import Final

from tests.carla_server.blueprints import CameraKind, Lens
from tests.carla_server.streams import Buffer, Message
from tests.carla_server.structures import Transform
from tests.carla_server.world import Actor, Camera, Vehicle, World

SENSOR_TYPES: Final = {
    CameraKind.DEPTH: 1,
    CameraKind.OPTICAL_FLOW: 8,
    CameraKind.RGB: 13,
    CameraKind.SEMANTIC: 14,
    CameraKind.INSTANCE: 15,
}
"""Places in the sensor registry of 0.9.16; the client crashes on ids outside of it."""
MAP_CHANGED: Final = 1
"""Flag of an episode's first state."""

_HEADER: Final = struct.Struct("<QQd6f")  # type, frame, seconds, x y z pitch yaw roll
_IMAGE: Final = struct.Struct("<IIf")  # width, height, horizontal field of view
_EPISODE: Final = struct.Struct("<Qdf3iI")  # id, platform time, delta, map origin, flags
_ACTOR: Final = struct.Struct("<IB6f9f54s")  # id, state, pose, velocities and acceleration, by type
_VEHICLE: Final = struct.Struct("<3f3?if B?I")  # control, speed limit, traffic light
_ACTIVE: Final = 1
_NO_LIGHT: Final = 4
_STILL: Final = (0.0,) * 6
"""Angular velocity and acceleration: not simulated."""
SPEED_LIMIT: Final = 50.0


def picture(camera: Camera, world: World, pixels: Iterable[Buffer]) -> Message:
    """One picture of a camera; the first part is the header of 60 bytes."""
    lens: Lens = camera.lens
    header = _header(SENSOR_TYPES[camera.kind], world, camera.world_pose)
    return (header + _IMAGE.pack(lens.width, lens.height, lens.fov), *pixels)


def episode_state(world: World, flags: int = 0) -> Message:
    """The state of the episode and of all its actors at the world's present frame."""
    episode = _EPISODE.pack(world.episode, time.monotonic(), world.delta, 0, 0, 0, flags)
    return (_header(world.observer, world, Transform()) + episode + b"".join(map(_actor, world.actors.values())),)


def _header(sensor_type: int, world: World, pose: Transform) -> bytes:
    return _HEADER.pack(sensor_type, world.frame, world.seconds, *pose.location, *pose.rotation)


def _actor(actor: Actor) -> bytes:
    pose = actor.world_pose
    by_type = _VEHICLE.pack(*actor.control, SPEED_LIMIT, _NO_LIGHT, False, 0) if isinstance(actor, Vehicle) else b""
    return _ACTOR.pack(actor.id, _ACTIVE, *pose.location, *pose.rotation, *actor.velocity, *_STILL, by_type)
