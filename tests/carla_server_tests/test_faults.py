"""Each fault of the stand-in, as the unmodified client sees it."""

from __future__ import annotations

from typing import Any

import pytest

carla = pytest.importorskip("carla", reason="these tests need CARLA's client: pip install '.[carla]'")

from tests.carla_server.blueprints import CameraKind  # noqa: E402
from tests.carla_server.handle import CarlaServer  # noqa: E402
from tests.carla_server.orders import EPISODE  # noqa: E402
from tests.carla_server_tests.client import connect, matrix, run_script, spawn_vehicle, until  # noqa: E402
from tests.carla_server_tests.conftest import MakeCamera  # noqa: E402

pytestmark = pytest.mark.carla


def ticks(world: Any, count: int) -> list[int]:
    return [world.tick() for _ in range(count)]


def test_lost_pictures(synchronous: Any, camera: MakeCamera, server: CarlaServer) -> None:
    one, other = camera(synchronous), camera(synchronous, CameraKind.SEMANTIC)
    server.order("drop", sensor=one.actor.id, count=2)
    frames = ticks(synchronous, 4)
    assert (one.frames(2), other.frames(4)) == (frames[2:], frames)
    server.order("drop", sensor=one.actor.id, share=0.05, seed=3)
    more = ticks(synchronous, 200)
    lost = server.order("dropped", sensor=one.actor.id)
    assert lost[:2] == frames[:2]
    assert 3 <= len(lost[2:]) <= 20
    server.order("drop", sensor=one.actor.id)
    last = ticks(synchronous, 1)
    assert one.frames(201 - len(lost[2:])) == [frame for frame in more if frame not in lost] + last


def test_late_pictures(synchronous: Any, camera: MakeCamera, server: CarlaServer) -> None:
    one = camera(synchronous)
    server.order("delay", sensor=one.actor.id, ticks=2)
    frames = ticks(synchronous, 5)
    assert one.frames(3) == frames[:3]
    assert one.is_empty
    server.order("delay", sensor=one.actor.id, ticks=0)
    frames += ticks(synchronous, 3)
    assert one.frames(5) == frames[3:]


def test_repeated_and_swapped_pictures(synchronous: Any, camera: MakeCamera, server: CarlaServer) -> None:
    one = camera(synchronous)
    server.order("repeat", sensor=one.actor.id, count=1)
    a, b = ticks(synchronous, 2)
    assert one.frames(3) == [a, a, b]
    server.order("swap", sensor=one.actor.id, count=2)
    a = synchronous.tick()
    assert one.is_empty
    b = synchronous.tick()
    assert one.frames(2) == [a, b]


@pytest.mark.parametrize("count", [100, -100, 1 << 28])
def test_wrong_numbers_of_pixels(synchronous: Any, camera: MakeCamera, server: CarlaServer, count: int) -> None:
    one = camera(synchronous)
    server.order("miss_bytes", sensor=one.actor.id, count=count)
    synchronous.tick()
    image = one.next()
    assert (image.width, image.height) == (64, 32)
    assert len(image.raw_data) == max(0, 64 * 32 * 4 - count)
    server.order("miss_bytes", sensor=one.actor.id, count=0)
    synchronous.tick()
    assert len(one.next().raw_data) == 64 * 32 * 4


def test_a_closed_stream_comes_back_by_itself(synchronous: Any, camera: MakeCamera, server: CarlaServer) -> None:
    one, other = camera(synchronous), camera(synchronous)
    server.order("close_stream", sensor=one.actor.id, refuse_seconds=0.5)
    lost = ticks(synchronous, 1)
    server.wait_for_readers(one.actor.id)
    frames = ticks(synchronous, 2)
    assert one.frames(2) == frames
    assert other.frames(3) == lost + frames


def test_a_closed_episode_stream_comes_back_too(synchronous: Any, server: CarlaServer) -> None:
    before = server.order("readers", sensor=EPISODE)
    server.order("close_stream", sensor=EPISODE)
    server.wait_for_readers(EPISODE, before)
    frame = synchronous.tick()
    assert synchronous.get_snapshot().frame == frame


def test_slow_and_hanging_calls(server: CarlaServer, synchronous: Any) -> None:
    impatient = connect(server, 2.0)
    world = impatient.get_world()
    server.order("hold_rpc", method="get_map_info", seconds=0.5)
    assert world.get_map().name == "Carla/Maps/Town10HD"
    server.order("hold_rpc", method="*", seconds=600)
    with pytest.raises(RuntimeError, match="time-out"):
        world.tick()
    server.order("hold_rpc", method="*", seconds=0)
    assert connect(server).get_server_version() == "0.9.16"


def test_ticks_that_stop(synchronous: Any, server: CarlaServer) -> None:
    frame = synchronous.tick()
    server.order("freeze")
    with pytest.raises(RuntimeError, match="time-out"):
        synchronous.tick(1.0)
    assert server.frame() == frame
    server.order("freeze", on=False)
    assert synchronous.tick() == frame + 1


def test_the_vehicle_is_destroyed(synchronous: Any, camera: MakeCamera, server: CarlaServer) -> None:
    car = spawn_vehicle(synchronous)
    one = camera(synchronous, CameraKind.RGB, car)
    car.set_target_velocity(carla.Vector3D(10, 0, 0))
    synchronous.tick()
    before = one.next().transform
    server.order("destroy", actor=car.id)
    synchronous.tick()
    assert synchronous.get_actors().find(car.id) is None
    assert synchronous.get_actors().find(one.actor.id) is not None
    assert matrix(one.next().transform) == pytest.approx(matrix(before), abs=1e-5)  # it stays where it was
    server.order("destroy", actor=one.actor.id)
    synchronous.tick()
    assert synchronous.get_actors().find(one.actor.id) is None
    assert one.is_empty
    assert not one.actor.destroy()  # no exception: the client prints a line and goes on


def test_somebody_loads_another_world(client: Any, world: Any, camera: MakeCamera, server: CarlaServer) -> None:
    one = camera(world)
    one.next()
    episode = server.order("new_episode", town="Town01")
    until(lambda: client.get_world().id == episode)
    assert not one.actor.is_alive
    assert connect(server).get_world().id == episode
    assert server.sensors() == []


RESTART = """
def raises(call):
    try:
        call()
    except RuntimeError as error:
        return str(error)

with CarlaServer(rate=50, first_frame=500) as server:
    client = connect(server, 2.0)
    world = client.get_world()
    camera = Camera(server, world, CameraKind.RGB)
    assert camera.next().frame > 500
    port, stale = server.port, world.get_snapshot().frame
    server.kill()
    assert "time-out" in raises(client.get_server_version)
    assert "time-out" in raises(lambda: world.wait_for_tick(1.0))
    assert world.get_snapshot().frame >= stale  # stale, but there is no error
    server.restart()
    assert server.port == port
    assert "time-out" in raises(client.get_server_version)  # the old client stays dead
    fresh = connect(server)
    again = fresh.get_world()
    assert again.id == 2
    assert again.wait_for_tick(20).frame < 500
    assert server.sensors() == []
    new = Camera(server, again, CameraKind.RGB)
    new.next()
    meet(again, new.actor)
    assert new.actor.destroy()
"""


def test_kill_and_restart() -> None:
    """In a process of its own: what is left of the dead server's client may abort its end."""
    run_script(RESTART)
