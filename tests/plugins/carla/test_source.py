"""The CARLA source with the real client against the stand-in server: every frame is checked by what it shows."""

import queue
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np
import pytest

from plugins.carla.rig.rig import single_camera
from plugins.carla.rig.sensors import SensorSet
from plugins.carla.run.attachment import Attachment
from plugins.carla.run.options import CarlaOptions
from plugins.carla.run.source import CarlaSource
from plugins.carla.world.poses import Placement
from plugins.carla.world.server import CarlaError, Server, ServerLostError, VehicleLostError, Where
from plugins.carla.world.vehicles import spawn_vehicle
from sim_bridge.errors import UsageError
from sim_bridge.frames import Frame, Kind
from sim_bridge.lockstep import OpenPairs
from sim_bridge.sources import Source
from tests.carla_server.handle import CarlaServer
from tests.plugins.carla.carla_helpers import (
    RIG,
    SECONDS,
    WIDE_RIG,
    by_number,
    check_content,
    connect,
    fresh,
    opened,
    server,
    spawn_hero,
    wait_until,
    world_pose,
)

__all__ = ["fresh", "server"]

pytestmark = pytest.mark.carla
PAIR = {("camera", Kind.RGB), ("camera", Kind.SEMANTIC)}


def test_driving_gives_both_images_of_every_tick(fresh: CarlaServer) -> None:
    with opened(fresh, tick=True) as source:
        driven = source.ticks()
        ticks = list(islice(driven, 30))
        vehicle = next(actor for actor in fresh.actors() if actor.type_id.startswith("vehicle."))
        assert fresh.order("state")["synchronous"]
    numbers = [frames[0].number for frames in ticks]
    assert numbers == list(range(numbers[0], numbers[0] + 30))
    location, rotation = vehicle.pose
    pose = world_pose(Placement(*location, *rotation), Placement(1.5, 0, 2.4, -10, 0, 0))
    for number, frames in zip(numbers, ticks, strict=True):
        assert by_number(frames) == {number: PAIR}
        assert len({check_content(frame) for frame in frames}) == 2
        assert {frame.session for frame in frames} == {frames[0].session}
        assert all(np.allclose(frame.pose, pose, atol=1e-4) for frame in frames if frame.pose is not None)
        assert all((frame.width, frame.height, frame.fov) == (128, 64, 90.0) for frame in frames)
    times = [frames[0].time for frames in ticks]
    assert np.allclose(np.diff(times), 0.05)
    assert {frame.labels for frames in ticks for frame in frames if frame.kind is Kind.SEMANTIC} == {"carla-0.9.14"}


def test_nothing_of_ours_is_left(fresh: CarlaServer) -> None:
    before = fresh.order("state")
    with opened(fresh, tick=True, step=0.1) as source:
        ticks = source.ticks()
        next(ticks)
        assert fresh.order("state")["delta"] == pytest.approx(0.1) and len(fresh.sensors()) == 2
    after = fresh.order("state")
    assert (after["synchronous"], after["delta"]) == (before["synchronous"], before["delta"])
    assert [actor.type_id for actor in fresh.actors()] == ["spectator"]


def test_driving_pauses_and_steps(fresh: CarlaServer) -> None:
    with opened(fresh, tick=True) as source:
        made = queue.Queue[int]()

        def drive() -> None:
            for frames in source.ticks():
                made.put(frames[0].number)

        driver = threading.Thread(target=drive)
        driver.start()
        made.get(timeout=SECONDS)
        source.pause()
        last = fresh.frame()
        wait_until(lambda: fresh.frame() - last <= 1, "the pause")
        stands = max(fresh.frame(), last)
        while not made.empty():
            stands = max(stands, made.get())
        with pytest.raises(queue.Empty):
            stands = max(stands, made.get(timeout=0.3))  # one may have been under way
            made.get(timeout=0.3)
        source.step()
        assert made.get(timeout=SECONDS) == stands + 1
        with pytest.raises(queue.Empty):
            made.get(timeout=0.3)
        source.resume()
        assert [made.get(timeout=SECONDS) for _ in range(5)] == [stands + 2 + more for more in range(5)]
        source.stop()
        driver.join(SECONDS)
        assert not driver.is_alive()


def test_three_cameras_and_all_kinds(fresh: CarlaServer) -> None:
    with opened(fresh, tick=True, rig=WIDE_RIG, kinds=("instance", "depth")) as source:
        ticks = list(islice(source.ticks(), 5))
        assert source.cameras == ("front", "left", "right")
    kinds = (Kind.RGB, Kind.SEMANTIC, Kind.INSTANCE, Kind.DEPTH)
    wanted = {(camera, kind) for camera in ("front", "left", "right") for kind in kinds}
    for frames in ticks:
        assert by_number(frames) == {frames[0].number: wanted}
        for frame in frames:
            if frame.kind in (Kind.RGB, Kind.SEMANTIC):
                check_content(frame)
            if frame.kind is Kind.DEPTH:
                assert frame.pixels.dtype == np.float32 and frame.pixels.shape == (64, frame.width)
        left = next(frame for frame in frames if frame.camera == "left")
        assert (left.width, left.fov) == (96, 70.0)
        (pairs,) = OpenPairs().add(frames)
        assert sorted(pair[0].camera for pair in pairs) == ["front", "left", "right"]


def test_following_looks_on(fresh: CarlaServer) -> None:
    world = connect(fresh).get_world()
    hero = spawn_hero(world)
    with opened(fresh, spawn=False) as source:
        iterator = iter(source)
        frames = list(islice(iterator, 40))
        assert {actor.parent for actor in fresh.sensors()} == {hero.id}
    for frame in frames:
        check_content(frame)
    numbers = [frame.number for frame in frames if frame.kind is Kind.RGB]
    assert numbers == sorted(set(numbers))
    assert not fresh.order("state")["synchronous"]
    assert [actor.type_id for actor in fresh.actors() if actor.type_id != "spectator"] == ["vehicle.tesla.model3"]
    hero.destroy()


def sensor_of(server: CarlaServer, kind: str) -> int:
    return next(actor.id for actor in server.sensors() if kind in actor.type_id)


def test_lost_images_are_not_made_up(fresh: CarlaServer) -> None:
    with opened(fresh) as source:
        semantic = sensor_of(fresh, "semantic")
        fresh.order("drop", sensor=semantic, share=0.3)
        iterator = iter(source)
        frames = list(islice(iterator, 100))
        lost = set(fresh.order("dropped", sensor=semantic))
    for frame in frames:
        check_content(frame)
    assert {frame.number for frame in frames if frame.kind is Kind.RGB} & lost
    assert not {frame.number for frame in frames if frame.kind is Kind.SEMANTIC} & lost


@pytest.mark.parametrize(
    ("order", "arguments"), [("delay", {"ticks": 2}), ("repeat", {"count": 20}), ("swap", {"count": 5})]
)
def test_late_repeated_and_overtaken_images_keep_their_numbers(
    order: str, arguments: dict[str, int], fresh: CarlaServer
) -> None:
    with opened(fresh) as source:
        fresh.order(order, sensor=sensor_of(fresh, "semantic"), **arguments)
        frames = list(islice(iter(source), 60))
    for frame in frames:
        check_content(frame)
    both = [number for number, seen in by_number(frames).items() if seen == PAIR]
    assert len(both) >= 10


@pytest.mark.parametrize("count", [4, -4])
def test_images_of_a_wrong_length_are_left_out(count: int, fresh: CarlaServer) -> None:
    with opened(fresh, tick=True) as source:
        ticks = source.ticks()
        next(ticks)
        fresh.order("miss_bytes", sensor=sensor_of(fresh, "rgb"), count=count)
        frames = next(ticks)
        assert [frame.kind for frame in frames] == [Kind.SEMANTIC]
        assert OpenPairs().add(frames) == []
    assert source.malformed == 1


def test_a_tick_that_lacks_an_image_does_not_hang(fresh: CarlaServer, caplog: pytest.LogCaptureFixture) -> None:
    with opened(fresh, tick=True) as source:
        ticks = source.ticks()
        next(ticks)
        fresh.order("drop", sensor=sensor_of(fresh, "rgb"), count=1)
        began = time.monotonic()
        assert [frame.kind for frame in next(ticks)] == [Kind.SEMANTIC]
        assert time.monotonic() - began < 5  # and not the time-out of 20 s
        assert len(next(ticks)) == 2
    assert source.incomplete == 1
    assert re.search(r"frame \d+ of camera/rgb had not come 1\S* s after its tick.* so far 1 of the ticks", caplog.text)


def test_ticks_that_lack_an_image_are_counted_now_and_then(
    fresh: CarlaServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plugins.carla.rig.ticks.BETWEEN_SECONDS", 0.1)
    with opened(fresh, tick=True) as source:
        ticks = source.ticks()
        next(ticks)
        fresh.order("drop", sensor=sensor_of(fresh, "rgb"), count=3)
        list(islice(ticks, 2))
        monkeypatch.setattr("plugins.carla.run.attachment.COUNT_SECONDS", 0.0)
        next(ticks)
    assert re.findall(r"so far (\d) of the ticks", caplog.text) == ["1", "3"]


def test_images_that_are_always_late_are_joined_all_the_same(fresh: CarlaServer) -> None:
    with opened(fresh, tick=True, rig=WIDE_RIG) as source:
        ticks = source.ticks()
        first = next(ticks)[0].number
        for actor in fresh.sensors()[3:]:  # among them both of one camera
            fresh.order("delay", sensor=actor.id, ticks=2)
        pairs, seen = OpenPairs(), []
        for frames in islice(ticks, 40):
            complete = pairs.add(frames)
            seen += [(number, rgb.camera) for one in complete for rgb, _ in one for number in (rgb.number,)]
            assert all(rgb.number == semantic.number for one in complete for rgb, semantic in one)
    cameras = ("front", "left", "right")
    expected = {(first + more, camera) for more in range(1, 39) for camera in cameras}
    assert set(seen) >= expected and len(seen) == len(set(seen))


@pytest.mark.parametrize("tick", [False, True])
def test_a_world_that_is_not_rendered_is_named(
    tick: bool, fresh: CarlaServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plugins.carla.run.attachment._TELL_SECONDS", 0.5)
    world = connect(fresh).get_world()
    settings = world.get_settings()
    settings.no_rendering_mode = True
    world.apply_settings(settings)
    if tick:
        with pytest.raises(CarlaError, match="is not rendered: no_rendering_mode is on"):
            CarlaSource().open({"port": fresh.port, "spawn": True, "rig": RIG, "timeout": 20.0, "tick": True})
        assert [actor.type_id for actor in fresh.actors()] == ["spectator"]
        assert not fresh.order("state")["synchronous"]
        return
    with opened(fresh) as source:
        assert "is not rendered: no_rendering_mode is on" in caplog.text
        settings.no_rendering_mode = False
        threading.Timer(3.0, world.apply_settings, (settings,)).start()
        next(iter(source))
    assert "its world is asynchronous: no_rendering_mode is on" in caplog.text


def test_a_stream_that_is_cut_comes_back(fresh: CarlaServer) -> None:
    with opened(fresh) as source:
        frames = iter(source)
        list(islice(frames, 10))
        fresh.order("close_stream", sensor=sensor_of(fresh, "rgb"), refuse_seconds=0.3)
        seen: list[Frame] = []
        while sum(frame.kind is Kind.RGB for frame in seen[-20:]) < 5 or len(seen) < 60:
            seen.append(next(frames))
            check_content(seen[-1])
        frames.close()  # type: ignore[attr-defined]
    assert source.sessions == 1


def sessions_of(frames: Iterator[Frame], loss: Callable[[], None], count: int = 20) -> tuple[list[Frame], list[Frame]]:
    """Frames before and after a loss that begins a new session."""
    before = list(islice(frames, count))
    loss()
    after: list[Frame] = []
    for frame in frames:
        if frame.session != before[0].session:
            after.append(frame)
            if len(after) == count:
                break
    for frame in before + after:
        check_content(frame)
    return before, after


def test_another_map_is_another_session(fresh: CarlaServer) -> None:
    with opened(fresh) as source:
        frames = iter(source)
        before, after = sessions_of(frames, lambda: fresh.order("new_episode", town="Town07"))
        assert source.sessions == 2 and len(fresh.sensors()) == 2
    assert len({frame.session for frame in after}) == 1 and after[0].number > before[-1].number
    assert fresh.sensors() == []


def test_the_next_vehicle_of_the_role_is_followed(fresh: CarlaServer) -> None:
    world = connect(fresh).get_world()
    first = spawn_hero(world)

    def change() -> None:
        fresh.order("destroy", actor=first.id)
        heroes.append(spawn_hero(world, place=1))

    heroes = [first]
    with opened(fresh, spawn=False) as source:
        frames = iter(source)
        _, after = sessions_of(frames, change)
        assert {actor.parent for actor in fresh.sensors()} == {heroes[1].id}
    assert after and source.sessions == 2
    heroes[1].destroy()


def test_an_actor_that_is_gone_is_an_error(fresh: CarlaServer) -> None:
    hero = spawn_hero(connect(fresh).get_world())
    with opened(fresh, spawn=False, actor=hero.id) as source:
        frames = iter(source)
        next(frames)
        fresh.order("destroy", actor=hero.id)
        with pytest.raises(CarlaError, match=f"the actor {hero.id} or a sensor on it was destroyed"):
            for _ in frames:
                pass
    assert fresh.sensors() == []


def test_what_a_killed_process_left_is_destroyed(fresh: CarlaServer) -> None:
    left = CarlaSource()
    left.open({"port": fresh.port, "spawn": True, "rig": RIG, "tag": "sim-bridge-one"})
    try:
        with opened(fresh, tag="sim-bridge-other"):
            assert len(fresh.sensors()) == 4  # another's are left alone
        with opened(fresh, tag="sim-bridge-one"):
            assert len(fresh.sensors()) == 2
            assert len([actor for actor in fresh.actors() if actor.type_id.startswith("vehicle.")]) == 1
    finally:
        left.close()


def test_a_vehicle_that_is_made_has_the_role_that_maps_are_streamed_around(fresh: CarlaServer) -> None:
    def roles() -> list[str]:
        return [actor.attributes["role_name"] for actor in fresh.actors() if actor.type_id.startswith("vehicle.")]

    with opened(fresh):
        assert roles() == ["hero"]
    with opened(fresh, role_name="ego"):
        assert roles() == ["ego"]


@pytest.mark.parametrize("sensors", [0, 1])
def test_a_vehicle_of_a_killed_process_is_found_and_no_other(sensors: int, fresh: CarlaServer) -> None:
    """It was killed before it had made its sensors, or all of them."""
    world = connect(fresh).get_world()
    hero = spawn_hero(world, place=7)
    dead = Server(Where(port=fresh.port, timeout=20.0))
    other = spawn_vehicle(dead, "hero", "sim-bridge-other")
    left = spawn_vehicle(dead, "hero", "sim-bridge-one")
    if sensors:
        SensorSet(dead, left, CarlaOptions.checked({"rig": RIG}).rig, (Kind.RGB,), "sim-bridge-one")
    with opened(fresh, tag="sim-bridge-one"):
        ids = {actor.id for actor in fresh.actors()}
        assert left.id not in ids and ids >= {hero.id, other.id}
        assert len(fresh.sensors()) == 2
    assert sorted(actor.id for actor in fresh.actors() if actor.type_id != "spectator") == [hero.id, other.id]
    for actor in (hero, other):
        actor.destroy()


def test_a_vehicle_that_only_carried_our_sensors_stays(fresh: CarlaServer) -> None:
    hero = spawn_hero(connect(fresh).get_world())
    dead = Server(Where(port=fresh.port, timeout=20.0))
    SensorSet(dead, hero, CarlaOptions.checked({"rig": RIG}).rig, (Kind.RGB,), "sim-bridge-one")
    with opened(fresh, tag="sim-bridge-one", spawn=False):
        assert {actor.parent for actor in fresh.sensors()} == {hero.id} and len(fresh.sensors()) == 2
    assert [actor.id for actor in fresh.actors() if actor.type_id != "spectator"] == [hero.id]
    hero.destroy()


def test_two_runs_beside_each_other_leave_each_other_alone(
    fresh: CarlaServer, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(fresh) as one, opened(fresh) as other:
        assert len(fresh.sensors()) == 4
        frames = [list(islice(iter(source), 20)) for source in (one, other)]
        assert {one.sessions, other.sessions} == {1} and len(frames[0]) == len(frames[1]) == 20
    assert "left behind" not in caplog.text and fresh.sensors() == []


def test_a_vehicle_of_ours_that_is_destroyed_is_named(fresh: CarlaServer) -> None:
    with opened(fresh, reconnect=False) as source:
        frames = iter(source)
        next(frames)
        fresh.order("destroy", actor=next(actor.id for actor in fresh.actors() if "vehicle" in actor.type_id))
        with pytest.raises(VehicleLostError, match="the vehicle that was made for the cameras or a sensor on it was"):
            list(frames)


def test_a_vehicle_that_is_not_there_is_named(fresh: CarlaServer) -> None:
    hero = spawn_hero(connect(fresh).get_world())
    with pytest.raises(VehicleLostError, match=rf"no vehicle with the role name 'ego' within 1 s.*{hero.id} \(hero\)"):
        CarlaSource().open({"port": fresh.port, "role_name": "ego", "timeout": 1.0})
    with pytest.raises(VehicleLostError, match="no actor 4711"):
        CarlaSource().open({"port": fresh.port, "actor": 4711, "timeout": 1.0})
    hero.destroy()


def test_a_vehicle_that_comes_late_is_waited_for(fresh: CarlaServer, caplog: pytest.LogCaptureFixture) -> None:
    """The time-out of 0.5 s passes twice, by the log, before the vehicle is made."""
    source, heroes = CarlaSource(), list[Any]()

    def spawn_late() -> None:
        waits = "still waiting for the vehicle with the role name 'hero'"
        wait_until(lambda: caplog.text.count(waits) >= 2, "the second wait")
        heroes.append(spawn_hero(connect(fresh).get_world()))

    with caplog.at_level("INFO"), ThreadPoolExecutor(1) as pool:
        spawned = pool.submit(spawn_late)
        source.open({"port": fresh.port, "wait": True, "timeout": 0.5})
        try:
            spawned.result()
            assert {actor.parent for actor in fresh.sensors()} == {heroes[0].id}
        finally:
            source.close()
    heroes[0].destroy()


def test_a_server_that_does_not_answer_is_a_time_out_with_a_name(fresh: CarlaServer) -> None:
    with opened(fresh, tick=True, timeout=2.0, reconnect=False) as source:
        ticks = source.ticks()
        next(ticks)
        fresh.order("hold_rpc", method="tick_cue", seconds=20)
        with pytest.raises(ServerLostError, match=r"did not answer within 2 s when it was asked for a tick"):
            next(ticks)
        fresh.order("hold_rpc", method="tick_cue", seconds=0)
    assert fresh.sensors() == []


def test_no_server_is_known_at_once(fresh: CarlaServer) -> None:
    with pytest.raises(ServerLostError, match=r"no CARLA server listens at 127.0.0.1:1 \(Connection refused\)"):
        CarlaSource().open({"port": 1, "timeout": 30.0})


def test_a_silent_world_says_why(
    fresh: CarlaServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plugins.carla.run.attachment._TELL_SECONDS", 0.5)
    world = connect(fresh).get_world()
    settings = world.get_settings()
    with opened(fresh) as source:
        frames = iter(source)
        next(frames)
        settings.synchronous_mode, settings.fixed_delta_seconds = True, 0.05
        world.apply_settings(settings)
        threading.Timer(3.0, lambda: fresh.order("tick", count=30)).start()
        list(islice(frames, 40))
    assert "its world is synchronous: run the script that ticks it, or give --tick" in caplog.text


@pytest.mark.parametrize(("version", "labels"), [("0.9.13", "carla-0.9.10"), ("0.9.5", "carla-0.9.0")])
def test_older_servers_have_other_class_ids(version: str, labels: str) -> None:
    with CarlaServer(version=version, rate=50) as older, opened(older, tick=True) as source:
        frames = next(source.ticks())
        assert {frame.labels for frame in frames} == {None, labels}


def test_an_unknown_version_is_refused_before_anything_is_made() -> None:
    with CarlaServer(version="0.10.0", rate=50) as newer:
        with pytest.raises(UsageError, match=r"version is '0\.10\.0'"):
            CarlaSource().open({"port": newer.port, "spawn": True})
        assert [actor.type_id for actor in newer.actors()] == ["spectator"]
        with opened(newer, labels="carla-0.9.14") as source:
            assert next(iter(source)).number > 0


def test_it_is_a_source(fresh: CarlaServer) -> None:
    told: list[tuple[int, str]] = []

    def tell(number: int, attachment: Attachment) -> None:
        told.append((number, attachment.session))

    with opened(fresh, CarlaSource(tell)) as source:
        assert isinstance(source, Source)
        frame = next(iter(source))
    assert told == [(1, frame.session)]


def test_a_refusal_that_takes_its_time_is_no_time_out(fresh: CarlaServer, caplog: pytest.LogCaptureFixture) -> None:
    """A slow world answers from one tick to the next; what it refuses one by one goes in the end by a batch."""
    with opened(fresh, tick=True) as source:
        ticks = source.ticks()
        next(ticks)
        fresh.order("hold_rpc", method="destroy_actor", seconds=0.6)
        fresh.order("refuse", method="destroy_actor")
        try:
            source.close()
        finally:
            fresh.order("refuse", method="")
            fresh.order("hold_rpc", method="destroy_actor", seconds=0)
    assert "stay in the world" not in caplog.text
    assert not fresh.order("state")["synchronous"]
    assert [actor.type_id for actor in fresh.actors()] == ["spectator"]


def test_a_refusal_does_not_make_a_server_lost(fresh: CarlaServer) -> None:
    with unticked(fresh) as (connection, _, vehicle):
        connection.tick()
        fresh.order("hold_rpc", method="destroy_actor", seconds=0.6)
        fresh.order("refuse", method="destroy_actor")
        assert not connection.destroy(connection.world.get_actor(vehicle))
        assert not connection.lost
        fresh.order("refuse", method="")
        fresh.order("hold_rpc", method="destroy_actor", seconds=0)


def test_edges_are_not_blurred(fresh: CarlaServer) -> None:
    """CARLA's own default is 0.45."""
    with opened(fresh):
        blur = {actor.type_id: actor.attributes.get("motion_blur_intensity") for actor in fresh.sensors()}
    assert blur == {"sensor.camera.rgb": "0.0", "sensor.camera.semantic_segmentation": None}


def test_images_that_nobody_took_are_counted(fresh: CarlaServer) -> None:
    with opened(fresh) as source:
        frames = iter(source)
        next(frames)
        attachment = source.attachment
        assert attachment is not None and attachment._sensors is not None
        waiting = attachment._sensors.queue
        wait_until(lambda: waiting.dropped >= 3, "images beyond what may wait")
    assert source.dropped >= 3


@contextmanager
def unticked(server: CarlaServer) -> Iterator[tuple[Server, SensorSet, int]]:
    """Sensors on a vehicle in a synchronous world that was not ticked since; and the vehicle's id."""
    connection = Server(Where(port=server.port, timeout=20.0))
    connection.drive(0.05)
    vehicle = spawn_vehicle(connection, "hero", "tests")
    rig = single_camera((128, 64), 90.0, Placement(x=1.5, z=2.4))
    sensors = SensorSet(connection, vehicle, rig, (Kind.RGB, Kind.SEMANTIC), "tests")
    try:
        yield connection, sensors, vehicle.id
    finally:
        sensors.destroy()
        connection.destroy(vehicle)
        connection.restore()


def test_sensors_are_alive_for_a_thread_that_looked_before_another(
    fresh: CarlaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with unticked(fresh) as (connection, sensors, _):
        look = sensors._present
        others: list[bool] = []

        def interrupted(numbers: Sequence[int]) -> set[int]:
            found = look(numbers)
            monkeypatch.setattr(sensors, "_present", look)
            connection.tick()
            others.append(sensors.alive)  # the other thread's turn, in the middle of ours
            return found

        monkeypatch.setattr(sensors, "_present", interrupted)
        assert sensors.alive and others == [True]
        assert len(look([actor.id for actor in fresh.sensors()])) == 2


def test_what_is_destroyed_before_it_was_ever_looked_for_is_missed(fresh: CarlaServer) -> None:
    with unticked(fresh) as (connection, sensors, vehicle):
        number = connection.tick()
        while sensors.queue.wait_for(sensors.keys, number, 0.2):  # streams open in the background
            number = connection.tick()
        fresh.order("destroy", actor=vehicle)
        connection.tick()
        assert not sensors.alive


@pytest.mark.parametrize("wait", [False, True])
def test_what_was_in_no_tick_yet_is_destroyed(wait: bool, fresh: CarlaServer) -> None:
    """Before its first tick the client's own ``destroy`` may do nothing, and says so by False only."""
    world = connect(fresh).get_world()
    settings = world.get_settings()
    settings.synchronous_mode, settings.fixed_delta_seconds = True, 0.05
    world.apply_settings(settings)
    server = Server(Where(port=fresh.port, timeout=20.0))
    blueprint = server.world.get_blueprint_library().find("sensor.camera.rgb")
    for _ in range(10):
        actor = server.world.spawn_actor(blueprint, Placement(0, 0, 2, 0, 0, 0).to_carla())
        if wait:
            server.tick()
        assert server.destroy(actor)
        assert fresh.sensors() == []
    assert not server.lost
