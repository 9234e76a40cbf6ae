"""One server for all tests of a file; each test has a new episode and a new client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.carla_server.blueprints import CameraKind
from tests.carla_server.handle import CarlaServer

MakeCamera = Callable[..., Any]


@pytest.fixture(scope="module")
def server() -> Iterator[CarlaServer]:
    """A server whose asynchronous world is fast."""
    with CarlaServer(rate=100) as running:
        yield running


@pytest.fixture
def client(server: CarlaServer) -> Any:
    """The real client at a fresh episode."""
    pytest.importorskip("carla", reason="these tests need CARLA's client: pip install '.[carla]'")
    from tests.carla_server_tests.client import connect

    server.order("freeze", on=False)
    server.order("hold_rpc", method="*", seconds=0)
    server.order("new_episode", town="Town10HD")
    return connect(server)


@pytest.fixture
def world(client: Any) -> Any:
    """Its world, asynchronous."""
    return client.get_world()


@pytest.fixture
def synchronous(world: Any) -> Any:
    """Its world, synchronous at 20 ticks per second."""
    from tests.carla_server_tests.client import synchronize

    synchronize(world)
    return world


@pytest.fixture
def camera(server: CarlaServer) -> Iterator[MakeCamera]:
    """Makes cameras, and destroys them: a client that ends with live sensors may abort the process."""
    from tests.carla_server_tests.client import Camera

    made: list[Camera] = []

    def make(world: Any, kind: CameraKind = CameraKind.RGB, *arguments: Any, **options: Any) -> Camera:
        made.append(Camera(server, world, kind, *arguments, **options))
        return made[-1]

    yield make
    there = {actor.id for actor in server.sensors()}
    for one in made:
        one.actor.stop()
        # The client refuses, by chance, to destroy what was in no tick yet: the state it looks at is not set.
        if one.actor.id in there and not one.actor.destroy():
            server.order("destroy", actor=one.actor.id)
