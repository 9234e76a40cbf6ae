"""What the unmodified client sees of the stand-in when nothing goes wrong."""

from __future__ import annotations

import math
import os
import queue
from typing import Any

import numpy as np
import pytest

carla = pytest.importorskip("carla", reason="these tests need CARLA's client: pip install '.[carla]'")

from sim_bridge.pixels.labels import taxonomy  # noqa: E402
from tests.carla_server.blueprints import CameraKind  # noqa: E402
from tests.carla_server.handle import CarlaServer  # noqa: E402
from tests.carla_server.payloads import SENSOR_TYPES  # noqa: E402
from tests.carla_server.stamp import PIXELS  # noqa: E402
from tests.carla_server_tests.client import (  # noqa: E402
    SECONDS,
    Camera,
    blueprint,
    connect,
    flow,
    matrix,
    meet,
    pixels,
    run_script,
    spawn_vehicle,
    stamp,
    synchronize,
    until,
)
from tests.carla_server_tests.conftest import MakeCamera  # noqa: E402

pytestmark = pytest.mark.carla
DATA = os.environ.get("SIM_BRIDGE_DATA")
IDS = {name: number for number, name in taxonomy("carla-0.9.14").ids.items()}


def test_versions_and_map(client: Any, world: Any, server: CarlaServer) -> None:
    assert client.get_server_version() == client.get_client_version() == "0.9.16"
    assert world.id == server.order("state")["episode"]
    assert {name.split("/")[-1] for name in client.get_available_maps()} == {"Town01", "Town07", "Town10HD"}
    town = world.get_map()
    assert town.name == "Carla/Maps/Town10HD"
    there, back = (town.get_waypoint(carla.Location(50, y, 0)) for y in (1, -1))
    assert (there.lane_id, back.lane_id) == (-1, 1)
    assert there.transform.location.y == pytest.approx(1.75)
    assert math.remainder(back.transform.rotation.yaw - 180, 360) == pytest.approx(0, abs=1e-3)
    for point in town.get_spawn_points():
        lane = town.get_waypoint(point.location).transform
        assert lane.location.distance(point.location) < 0.01
        assert math.remainder(lane.rotation.yaw - point.rotation.yaw, 360) == pytest.approx(0, abs=1e-3)


def test_settings_come_back_as_they_were_sent(world: Any) -> None:
    settings = world.get_settings()
    assert (settings.synchronous_mode, settings.fixed_delta_seconds) == (False, None)
    settings.fixed_delta_seconds, settings.synchronous_mode = 0.025, True
    settings.substepping, settings.max_substeps, settings.max_substep_delta_time = False, 7, 0.005
    settings.max_culling_distance, settings.tile_stream_distance = 123.0, 1500.0
    settings.deterministic_ragdolls, settings.actor_active_distance = False, 900.0
    world.apply_settings(settings)
    found = world.get_settings()
    assert found == settings
    assert (found.fixed_delta_seconds, found.max_substeps, found.tile_stream_distance) == (0.025, 7, 1500.0)


def test_ticks_and_snapshots(synchronous: Any, server: CarlaServer) -> None:
    first = synchronous.tick()
    before = synchronous.get_snapshot()
    assert [synchronous.tick() for _ in range(20)] == list(range(first + 1, first + 21))
    after = synchronous.get_snapshot()
    assert after.frame == first + 20 == server.frame()
    assert after.timestamp.delta_seconds == pytest.approx(0.05)
    assert after.timestamp.elapsed_seconds - before.timestamp.elapsed_seconds == pytest.approx(1.0)


def test_an_asynchronous_world_ticks_by_itself(world: Any) -> None:
    seen: queue.Queue[int] = queue.Queue()
    callback = world.on_tick(lambda snapshot: seen.put(snapshot.frame))
    frames = sorted(seen.get(timeout=SECONDS) for _ in range(10))  # callbacks run in several threads
    world.remove_on_tick(callback)
    assert frames == list(range(frames[0], frames[0] + 10))
    assert world.wait_for_tick(SECONDS).frame > frames[-1]
    assert world.get_snapshot().timestamp.delta_seconds == pytest.approx(0.01)


def test_blueprints(world: Any) -> None:
    library = world.get_blueprint_library()
    assert {one.id for one in library.filter("sensor.camera.*")} == set(CameraKind)
    assert len(library.filter("vehicle.*")) == 4
    camera, car = library.find("sensor.camera.rgb"), library.find("vehicle.tesla.model3")
    assert (camera.get_attribute("image_size_x").as_int(), camera.get_attribute("fov").as_float()) == (800, 90.0)
    assert camera.get_attribute("enable_postprocess_effects").as_bool() is True
    assert car.get_attribute("color").recommended_values[1] == "17,37,103"
    assert (car.get_attribute("base_type").is_modifiable, car.get_attribute("role_name").is_modifiable) == (False, True)


def test_spawn_and_destroy(world: Any, server: CarlaServer, camera: MakeCamera) -> None:
    car = spawn_vehicle(world)
    eye = camera(world, CameraKind.RGB, car, fov=110)
    meet(world, eye.actor)
    known = {actor.id: actor for actor in world.get_actors()}
    assert {actor.type_id for actor in known.values()} == {"spectator", "vehicle.tesla.model3", "sensor.camera.rgb"}
    assert known[car.id].attributes["role_name"] == "hero"
    assert known[eye.actor.id].attributes["fov"] == "110"
    assert eye.actor.parent.id == car.id
    assert car.bounding_box.extent.x == pytest.approx(2.4)
    assert car.semantic_tags == [IDS["car"]]
    (sensor,) = server.sensors()
    assert (sensor.id, sensor.parent, sensor.readers) == (eye.actor.id, car.id, 1)
    assert eye.actor.destroy()
    assert server.sensors() == []
    assert car.destroy()
    world.wait_for_tick(SECONDS)
    assert not car.is_alive
    assert [actor.type_id for actor in server.actors()] == ["spectator"]


def test_spawns_that_are_refused(world: Any, server: CarlaServer) -> None:
    car = spawn_vehicle(world)
    with pytest.raises(RuntimeError, match="Spawn failed because of collision"):
        spawn_vehicle(world)
    broken = blueprint(world, "sensor.camera.rgb", image_size_x="abc")
    with pytest.raises(RuntimeError, match="image_size_x must be 8 to 8192, not 'abc'"):
        world.spawn_actor(broken, carla.Transform())
    assert world.try_spawn_actor(broken, carla.Transform()) is None
    meet(world, car)
    assert car.destroy()
    with pytest.raises(RuntimeError, match=f"parent actor {car.id} not found"):
        world.spawn_actor(blueprint(world, "sensor.camera.rgb"), carla.Transform(), attach_to=car)
    assert len(server.actors()) == 1


def random_pose(rng: np.random.Generator) -> Any:
    x, y, z = rng.uniform(-20, 20, 3)
    return carla.Transform(
        carla.Location(x, y, z), carla.Rotation(rng.uniform(-89, 89), rng.uniform(-180, 180), rng.uniform(-180, 180))
    )


@pytest.mark.parametrize("seed", range(5))
def test_an_attached_camera_is_where_the_client_says(synchronous: Any, camera: MakeCamera, seed: int) -> None:
    rng = np.random.default_rng(seed)
    on_car, on_camera = random_pose(rng), random_pose(rng)
    car = spawn_vehicle(synchronous)
    first = camera(synchronous, CameraKind.RGB, car, on_car)
    second = camera(synchronous, CameraKind.DEPTH, first.actor, on_camera)
    car.set_transform(random_pose(rng))
    synchronous.tick()
    expected = matrix(car.get_transform()) @ matrix(on_car)
    assert matrix(first.next().transform) == pytest.approx(expected, abs=1e-3)
    assert matrix(first.actor.get_transform()) == pytest.approx(expected, abs=1e-3)
    assert matrix(second.next().transform) == pytest.approx(expected @ matrix(on_camera), abs=1e-3)


def test_vehicles_move_as_they_are_told(synchronous: Any) -> None:
    pushed, driven = spawn_vehicle(synchronous, 0), spawn_vehicle(synchronous, 5)
    pushed.set_target_velocity(carla.Vector3D(10, 0, 0))
    driven.apply_control(carla.VehicleControl(throttle=1.0, steer=0.2))
    start = [car.get_location() for car in (pushed, driven)]
    synchronous.tick()
    start = [car.get_location() for car in (pushed, driven)]
    for _ in range(20):
        synchronous.tick()
    assert pushed.get_location().x - start[0].x == pytest.approx(10.0, abs=1e-3)
    assert pushed.get_velocity().x == 10
    moved = driven.get_location() - start[1]
    assert moved.x > 1 and moved.y > 0.05 and driven.get_transform().rotation.yaw > 2  # steered to the right
    assert driven.get_control().throttle == 1.0
    driven.apply_control(carla.VehicleControl(brake=1.0))
    for _ in range(20):
        synchronous.tick()
    assert driven.get_velocity().length() == 0


AUTOPILOT = """
with CarlaServer() as server:
    client = connect(server)
    world = client.get_world()
    synchronize(world)
    car = spawn_vehicle(world)
    manager = client.get_trafficmanager(8000)
    manager.set_synchronous_mode(True)
    car.set_autopilot(True, manager.get_port())
    for _ in range(21):
        world.tick()
    assert abs(car.get_velocity().x - 30 / 3.6) < 1e-3
    assert 8 < car.get_location().x - 20 < 9
    car.set_autopilot(False)
    for _ in range(21):
        world.tick()
    assert 0 < car.get_velocity().x < 8.3
"""


def test_autopilot() -> None:
    """In a process of its own: the client's traffic manager slows down every client of the process, for ever."""
    run_script(AUTOPILOT)


def test_pictures_of_all_cameras(synchronous: Any, camera: MakeCamera, server: CarlaServer) -> None:
    cameras = {kind: camera(synchronous, kind, fov=100) for kind in CameraKind}
    frame = synchronous.tick()
    images = {kind: one.next() for kind, one in cameras.items()}
    for kind, image in images.items():
        assert (image.frame, image.width, image.height, image.fov) == (frame, 64, 32, 100)
        assert image.timestamp == synchronous.get_snapshot().timestamp.elapsed_seconds
        assert stamp(image) == (frame, cameras[kind].actor.id, SENSOR_TYPES[kind])
    rgb, tags, depth, instance = (pixels(images[kind])[PIXELS // 64 :] for kind in _BGRA)
    assert set(np.unique(tags[..., 2])) == {IDS[name] for name in ("road", "sky", "building", "car")}
    assert all((one[..., 3] == 255).all() for one in (rgb, tags, depth, instance))
    for number, color in taxonomy("carla-0.9.14").palette.items():
        assert (rgb[tags[..., 2] == number][:, 2::-1] == color).all()  # the same scene in both
    assert (instance[..., 2] == tags[..., 2]).all()
    assert ((instance[..., 1] == 1) == (tags[..., 2] == IDS["car"])).all()
    metres = depth[..., ::-1].astype(np.float64)[..., 1:] @ (1, 256, 65536) / (2**24 - 1) * 1000
    assert metres[-1] == pytest.approx(32 / 15, abs=1e-3)
    assert metres[0] == pytest.approx(1000)
    motion = flow(images[CameraKind.OPTICAL_FLOW])[PIXELS // 64 :]
    assert (motion[..., 0] == (tags[..., 2] == IDS["car"]) / 8).all()


_BGRA = (CameraKind.RGB, CameraKind.SEMANTIC, CameraKind.DEPTH, CameraKind.INSTANCE)


def test_the_clients_own_conversions(synchronous: Any, camera: MakeCamera) -> None:
    tags, depth = camera(synchronous, CameraKind.SEMANTIC), camera(synchronous, CameraKind.DEPTH)
    synchronous.tick()
    image = tags.next()
    image.convert(carla.ColorConverter.CityScapesPalette)
    assert tuple(pixels(image)[-1, 0, 2::-1]) == (128, 64, 128)
    image = depth.next()
    image.convert(carla.ColorConverter.Depth)
    grey = pixels(image)[..., 0]
    assert (grey[1, 0], grey[-1, 0]) == (255, round(32 / 15 / 1000 * 255))


def test_two_cameras_have_the_same_ticks(synchronous: Any, camera: MakeCamera) -> None:
    both = [camera(synchronous, kind) for kind in (CameraKind.RGB, CameraKind.SEMANTIC)]
    slow = camera(synchronous, sensor_tick=0.1)
    frames = [synchronous.tick() for _ in range(50)]
    for one in both:
        images = [one.next() for _ in frames]
        assert [image.frame for image in images] == [stamp(image).frame for image in images]
        assert sorted(image.frame for image in images) == frames
    assert slow.frames(25) == frames[::2]
    assert slow.is_empty


def test_stop_and_listen_again(synchronous: Any, camera: MakeCamera, server: CarlaServer) -> None:
    one = camera(synchronous)
    one.actor.stop()
    server.wait_for_readers(one.actor.id, 0)
    synchronous.tick()
    one.listen()
    assert one.frames(0) == []
    assert synchronous.tick() == one.next().frame
    assert one.is_empty


def test_no_rendering(synchronous: Any, camera: MakeCamera) -> None:
    one = camera(synchronous)
    settings = synchronous.get_settings()
    settings.no_rendering_mode = True
    synchronous.apply_settings(settings)
    while not one.is_empty:  # of the ticks that the client made to apply them
        one.next()
    synchronous.tick()
    settings.no_rendering_mode = False
    synchronous.apply_settings(settings)
    frame = synchronous.tick()
    seen = one.frames(1)
    while max(seen) != frame:
        seen += one.frames(1)
    assert len(seen) < 5


def test_load_world(client: Any, synchronous: Any, camera: MakeCamera, server: CarlaServer) -> None:
    one = camera(synchronous)
    other = connect(server)
    other.get_world()
    loaded = client.load_world("Town07")
    assert loaded.id == server.order("state")["episode"]
    assert loaded.get_map().name == "Carla/Maps/Town07"
    assert [actor.type_id for actor in loaded.get_actors()] == ["spectator"]
    assert loaded.get_settings().synchronous_mode is False
    loaded.wait_for_tick(SECONDS)
    assert not one.actor.is_alive
    until(lambda: other.get_world().id == loaded.id)
    with pytest.raises(RuntimeError, match="map not found"):
        client.load_world("Town99")
    synchronize(loaded)
    assert client.load_world("Town01", reset_settings=False).get_settings().synchronous_mode is True


def test_weather(world: Any) -> None:
    world.set_weather(carla.WeatherParameters.HardRainNoon)
    assert world.get_weather() == carla.WeatherParameters.HardRainNoon


def test_batches(client: Any, synchronous: Any, server: CarlaServer) -> None:
    command = carla.command
    points = synchronous.get_map().get_spawn_points()
    car = blueprint(synchronous, "vehicle.audi.tt")
    spawn = command.SpawnActor(car, points[0]).then(
        command.ApplyTargetVelocity(command.FutureActor, carla.Vector3D(20, 0, 0))
    )
    first, second = client.apply_batch_sync([spawn, command.SpawnActor(car, points[0])], True)
    assert (first.error, second.error) == ("", "Spawn failed because of collision at spawn position")
    place = carla.Transform(carla.Location(30, 1, 0))
    results = client.apply_batch_sync(
        [command.ApplyTransform(first.actor_id, place), command.DestroyActor(4711)], False
    )
    assert [bool(result.error) for result in results] == [False, True]
    synchronous.tick()
    assert synchronous.get_actor(first.actor_id).get_location().x == pytest.approx(31)
    client.apply_batch_sync([command.DestroyActor(first.actor_id)], True)
    assert len(server.actors()) == 1


@pytest.mark.parametrize(
    ("version", "name"), [("0.9.15", "0.9.14"), ("0.9.13", "0.9.10"), ("0.9.5", "0.9.0"), ("0.10.0", "0.9.14")]
)
def test_servers_of_other_versions_have_their_tags(version: str, name: str) -> None:
    tags = taxonomy(f"carla-{name}")
    with CarlaServer(version=version) as server:
        client = connect(server)
        assert client.get_server_version() == version
        car = spawn_vehicle(client.get_world())
        assert [tags.ids[tag] for tag in car.semantic_tags] == ["car"]
        eye = Camera(server, client.get_world(), CameraKind.SEMANTIC)
        found = {tags.ids[number] for number in np.unique(pixels(eye.next())[..., 2])}
        assert found == {"road", "building", "car", "none" if name == "0.9.0" else "sky"}
        eye.actor.destroy()


def test_a_drive_through_toytown() -> None:
    """The process's pictures are what toytown looks like from where the client says that the camera is."""
    pytest.importorskip("embreex", reason="toytown needs embreex: pip install '.[toytown]'")
    from tests.carla_server.blueprints import Lens
    from tests.carla_server.pictures import Moment, Shot
    from tests.carla_server.structures import Rotation, Transform, Vector
    from tests.carla_server.toytown_pictures import ToytownPictures

    with CarlaServer(pictures="toytown") as server:
        world = connect(server).get_world()
        synchronize(world, 0.5)
        car = spawn_vehicle(world)
        car.set_target_velocity(carla.Vector3D(8, 0, 0))
        cameras = [Camera(server, world, kind, car, size=(128, 64)) for kind in (CameraKind.RGB, CameraKind.SEMANTIC)]
        frames = [world.tick() for _ in range(3)]
        images = [sorted((one.next() for _ in frames), key=lambda image: image.frame) for one in cameras]
        for one in cameras:
            assert one.actor.destroy()
    rgb, tags = (series[-1] for series in images)
    assert rgb.frame == tags.frame == frames[-1]
    assert tags.transform.location.x == pytest.approx(20 + 1.5 + (frames[-1] - frames[0] + 1) * 4, abs=1e-3)
    place, turn = rgb.transform.location, rgb.transform.rotation
    pose = Transform(Vector(place.x, place.y, place.z), Rotation(turn.pitch, turn.yaw, turn.roll))
    now = Moment(pose, rgb.timestamp)
    town = ToytownPictures(taxonomy("carla-0.9.14"))
    for image, kind in ((rgb, CameraKind.RGB), (tags, CameraKind.SEMANTIC)):
        shot = Shot(kind, 0, image.frame, Lens(128, 64, 90.0, 0.0), now, now, 0)
        drawn = np.frombuffer(b"".join(town.paint(shot)), np.uint8).reshape(64, 128, 4)
        assert (drawn == pixels(image)).all(axis=2).mean() > 0.98  # poses travel as 32-bit floats


@pytest.mark.skipif(DATA is None, reason="SIM_BRIDGE_DATA does not name the folder with the captures")
def test_captures_of_a_real_server_come_through() -> None:
    folder = f"{DATA}/carla/carla_0.9.15_carlascapes"
    with CarlaServer(pictures="captures", rgb=f"{folder}/*_img.png", semantic=f"{folder}/*_labelIds.png") as server:
        world = connect(server).get_world()
        with pytest.raises(RuntimeError, match=r"there are no pictures of sensor\.camera\.depth here"):
            Camera(server, world, CameraKind.DEPTH)
        one = Camera(server, world, CameraKind.SEMANTIC, size=(512, 256))
        found = pixels(one.next())[..., 2]
        one.actor.destroy()
    assert (found == IDS["building"]).mean() == pytest.approx(0.386, abs=0.01)
    assert (found == IDS["road"]).mean() == pytest.approx(0.317, abs=0.01)
