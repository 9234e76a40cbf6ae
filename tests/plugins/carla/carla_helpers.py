"""What the tests of the CARLA plugin share: the stand-in server, and pictures checked by their content."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from plugins.carla.run.source import CarlaSource
from plugins.carla.world.images import BLUEPRINTS
from plugins.carla.world.poses import Placement, pose_of
from sim_bridge.frames import Frame, Kind
from tests.carla_server.handle import CarlaServer
from tests.carla_server.payloads import SENSOR_TYPES
from tests.carla_server.stamp import read_stamp

SECONDS = 60.0
"""How long anything may take on a busy machine."""
RIG = {"cameras": {"camera": {"x": 1.5, "z": 2.4, "pitch": -10, "size": "128x64"}}}
WIDE_RIG = {
    "cameras": {
        "front": {"x": 1.5, "z": 2.4, "size": "128x64"},
        "left": {"x": 1.0, "y": -0.5, "z": 2.4, "yaw": -60, "size": "96x64", "fov": 70},
        "right": {"x": 1.0, "y": 0.5, "z": 2.4, "yaw": 60, "size": "96x64", "fov": 70},
    }
}


@pytest.fixture(scope="module")
def server() -> Iterator[CarlaServer]:
    """A server whose asynchronous world makes 50 ticks a second."""
    pytest.importorskip("carla", reason="needs the CARLA client: pip install '.[carla]'")
    with CarlaServer(rate=50) as running:
        yield running


@pytest.fixture
def fresh(server: CarlaServer) -> CarlaServer:
    """The same with an empty, asynchronous world."""
    server.order("freeze", on=False)
    server.order("hold_rpc", method="*", seconds=0)
    server.order("new_episode", town="Town10HD")
    return server


def options(server: CarlaServer, **further: object) -> dict[str, object]:
    """Of a source with one small camera on a vehicle of its own."""
    return {"port": server.port, "spawn": True, "rig": RIG, "timeout": 20.0, "paced": False, **further}


@contextmanager
def opened(server: CarlaServer, source: CarlaSource | None = None, **further: object) -> Iterator[CarlaSource]:
    """A source that is closed at the end, and before that when it takes too long."""
    source = source or CarlaSource()
    late = threading.Timer(SECONDS, source.stop)
    late.start()
    try:
        source.open(options(server, **further))
        yield source
    finally:
        late.cancel()
        source.close()


def check_content(frame: Frame) -> int:
    """Whether a frame shows what it says it does; the actor id of the sensor that made it."""
    plane = frame.pixels if frame.pixels.ndim == 2 else frame.pixels[..., 2]
    stamp = read_stamp(plane)
    assert stamp.frame == frame.number, f"a picture of tick {stamp.frame} says that it is of {frame.number}"
    assert stamp.sensor_type == SENSOR_TYPES[BLUEPRINTS[frame.kind]]
    return stamp.camera


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Waits for what another process does."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, f"{what} did not happen within {SECONDS:g} s"
        time.sleep(0.01)


def world_pose(vehicle: Placement, mount: Placement) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The wire's pose of a camera on a vehicle."""
    return pose_of(Placement.from_matrix(vehicle.matrix() @ mount.matrix()))


def by_number(frames: Iterable[Frame]) -> dict[int, set[tuple[str, Kind]]]:
    """Which cameras and kinds there are of each number."""
    found: dict[int, set[tuple[str, Kind]]] = {}
    for frame in frames:
        found.setdefault(frame.number, set()).add((frame.camera, frame.kind))
    return found


def connect(server: CarlaServer) -> Any:
    """A client of the test's own."""
    import carla

    client = carla.Client("127.0.0.1", server.port)
    client.set_timeout(20.0)
    return client


def spawn_hero(world: Any, place: int = 0) -> Any:
    """A vehicle with the role name that is looked for."""
    blueprint = world.get_blueprint_library().find("vehicle.tesla.model3")
    blueprint.set_attribute("role_name", "hero")
    return world.spawn_actor(blueprint, world.get_map().get_spawn_points()[place])
