"""PhotorealCamera in a script, with the real client against the stand-in server."""

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plugins.carla import BridgeLink, PhotorealCamera, PhotorealImage
from plugins.carla.camera import KEPT, SENT_KEPT
from plugins.carla.rig.rig import DEFAULT_PLACE
from plugins.carla.world.poses import Placement
from plugins.carla.world.server import CarlaError, VehicleLostError
from sim_bridge.errors import FrameTimeoutError, MissedFrameError, UsageError
from sim_bridge.frames import Kind
from sim_bridge.pixels.labels import taxonomy
from sim_bridge.translators import Shot, Translation
from sim_bridge.translators.null import NullTranslator
from tests.carla_server.handle import CarlaServer
from tests.carla_server.stamp import read_stamp
from tests.plugins.carla.carla_helpers import connect, fresh, server, spawn_hero, wait_until
from tests.sim_bridge.recording_helpers import running_cli, site

__all__ = ["fresh", "server", "site"]

pytestmark = pytest.mark.carla
WAIT = 60.0
SIZE = (128, 64)


@pytest.fixture
def world(fresh: CarlaServer) -> Any:
    """A synchronous world."""
    found = connect(fresh).get_world()
    settings = found.get_settings()
    settings.synchronous_mode, settings.fixed_delta_seconds = True, 0.05
    found.apply_settings(settings)
    return found


@pytest.fixture
def car(world: Any) -> Iterator[Any]:
    made = spawn_hero(world)
    world.tick()
    yield made
    made.destroy()


def place_of(world: Any, car: Any, frame: int) -> Placement:
    """Where a camera at the usual place was at a tick, by the client's own snapshot of it and its own matrices."""
    snapshot = world.get_snapshot()
    assert snapshot.frame == frame
    there = np.array(snapshot.find(car.id).get_transform().get_matrix())
    return Placement.from_matrix(there @ np.array(DEFAULT_PLACE.to_carla().get_matrix()))


def check(image: PhotorealImage, frame: int) -> None:
    assert image.frame == frame
    assert read_stamp(image.array[..., 2]).frame == frame


def test_every_tick_of_a_synchronous_world(fresh: CarlaServer, world: Any, car: Any) -> None:
    import carla

    place = carla.Transform(carla.Location(1.5, 0.2, 2.4), carla.Rotation(pitch=-10, yaw=20))
    with PhotorealCamera(
        world, attach_to=car, transform=place, image_size=SIZE, fov=100, engine="null", timeout=WAIT
    ) as camera:
        heard: queue.Queue[PhotorealImage] = queue.Queue()
        camera.listen(heard.put)
        assert camera.is_listening()
        frames = []
        for _ in range(100):
            frames.append(world.tick())
            image = camera.get(frames[-1], WAIT)
            check(image, frames[-1])
            assert image.timestamp == pytest.approx(world.get_snapshot().timestamp.elapsed_seconds)
        assert [heard.get(timeout=WAIT).frame for _ in frames] == frames
        assert frames == list(range(frames[0], frames[0] + 100))
        wanted = Placement.from_matrix(np.array(car.get_transform().get_matrix()) @ np.array(place.get_matrix()))
        assert np.allclose(Placement.of(image.transform), wanted, atol=1e-3)
        assert (image.width, image.height, image.fov) == (*SIZE, 100.0)
        assert {sensor.parent for sensor in fresh.sensors()} == {car.id}
        camera.stop()
        frame = world.tick()
        check(camera.get(frame, WAIT), frame)
        assert heard.empty()
    assert fresh.sensors() == []
    assert world.get_settings().synchronous_mode  # the script's own, left alone


class WitnessTranslator(NullTranslator):
    """Looks whether RGB picture and labels show the same tick."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[int, int] = {}
        self.largest_batch = 0

    @property
    def classes(self) -> tuple[str, ...]:
        """The stream's own, so that its ids arrive as they are."""
        return tuple(taxonomy("carla-0.9.14").ids.values())

    def translate(self, shots: Sequence[Shot]) -> Sequence[Translation]:
        self.largest_batch = max(self.largest_batch, len(shots))
        for shot in shots:
            frames = {read_stamp(shot.rgb[..., 0]).frame, read_stamp(shot.labels).frame}
            assert len(frames) == 1, f"RGB and semantic picture of one pair are of the ticks {frames}"
            frame = frames.pop()
            self.seen[frame] = self.seen.get(frame, 0) + 1
        return super().translate(shots)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("count", "ticks"), [(3, 50), *(pytest.param(count, 1000, marks=pytest.mark.slow) for count in (1, 3))]
)
def test_many_ticks_are_whole(count: int, ticks: int, world: Any, car: Any) -> None:
    """512x256: every tick of every camera, with its number, time and place, RGB and labels of one tick."""
    import carla

    names = ("front", "left", "right")[:count]
    witness = WitnessTranslator()
    car.apply_control(carla.VehicleControl(throttle=1.0, steer=0.3))
    places = []
    with BridgeLink.in_process(witness, names) as link, ExitStack() as stack:
        cameras = [
            stack.enter_context(
                PhotorealCamera(world, attach_to=car, image_size=(512, 256), bridge=link, name=name, timeout=WAIT)
            )
            for name in names
        ]
        frames = []
        for _ in range(ticks):
            frames.append(world.tick())
            seconds = world.get_snapshot().timestamp.elapsed_seconds
            places.append(place_of(world, car, frames[-1]))
            for camera in cameras:
                image = camera.get(frames[-1], WAIT)
                check(image, frames[-1])
                assert image.timestamp == pytest.approx(seconds)
                assert np.allclose(Placement.of(image.transform), places[-1], atol=1e-3)
    # It moves, so that the place of the tick before would not pass.
    assert min(np.hypot(later.x - place.x, later.y - place.y) for place, later in pairwise(places[5:])) > 0.01
    assert frames == list(range(frames[0], frames[0] + ticks))
    assert {frame: witness.seen[frame] for frame in frames} == dict.fromkeys(frames, count)
    assert witness.largest_batch == count


def test_what_it_was_made_of_is_there_for_some_ticks(world: Any, car: Any) -> None:
    with PhotorealCamera(world, attach_to=car, image_size=SIZE, engine="null", timeout=WAIT) as camera:
        frames = [world.tick() for _ in range(SENT_KEPT + 1)]
        image = camera.get(frames[-1], WAIT)
        rgb, semantic = camera.inputs(frames[-1])
        assert np.array_equal(rgb.pixels, image.array) and (rgb.kind, rgb.number) == (Kind.RGB, frames[-1])
        assert read_stamp(semantic.pixels).frame == semantic.number == frames[-1]
        for number in (frames[0], frames[-1] + 1):
            with pytest.raises(MissedFrameError, match=f"at frame {number} is not here"):
                camera.inputs(number)


class CountingTranslator(NullTranslator):
    """Remembers which frames it got."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[int] = []

    def translate(self, shots: Sequence[Shot]) -> list[Translation]:
        self.frames += [read_stamp(shot.rgb[..., 0]).frame for shot in shots]
        return super().translate(shots)


def test_only_what_is_asked_for_is_translated(world: Any, car: Any) -> None:
    counting = CountingTranslator()
    with PhotorealCamera(
        world, attach_to=car, image_size=SIZE, engine=counting, every=1_000_000, timeout=WAIT
    ) as camera:
        frames = [world.tick() for _ in range(3 * SENT_KEPT)]
        check(camera.get(frames[-1], WAIT), frames[-1])
        check(camera.get(frames[-3], WAIT), frames[-3])  # an older one, still here
        check(camera.get(frames[-1], WAIT), frames[-1])
        with pytest.raises(MissedFrameError, match=f"frame {frames[0]} .* was not asked for in time"):
            camera.get(frames[0], WAIT)
        heard: queue.Queue[int] = queue.Queue()
        camera.listen(lambda image: heard.put(image.frame))
        coming = world.tick()
        check(camera.get(coming, WAIT), coming)
        assert heard.get(timeout=WAIT) == coming
    assert counting.frames[-3:] == [frames[-1], frames[-3], coming]
    assert not set(counting.frames) & set(frames[:-3])


def test_every_nth_tick_goes_by_itself(world: Any, car: Any) -> None:
    counting = CountingTranslator()
    heard: queue.Queue[int] = queue.Queue()
    with PhotorealCamera(world, attach_to=car, image_size=SIZE, engine=counting, every=3, timeout=WAIT) as camera:
        camera.listen(lambda image: heard.put(image.frame))
        frames = [world.tick() for _ in range(9)]
        wanted = [frame for frame in frames if frame % 3 == 0]
        assert [heard.get(timeout=WAIT) for _ in wanted] == wanted
    assert [frame for frame in counting.frames if frame in frames] == wanted


def test_attributes_reach_the_blueprints_and_are_checked(fresh: CarlaServer, world: Any, car: Any) -> None:
    attributes = {"gamma": 1.7, "lens_k": -0.5, "enable_postprocess_effects": False}
    with PhotorealCamera(
        world, attach_to=car, image_size=SIZE, engine="null", attributes=attributes, timeout=WAIT
    ) as camera:
        frame = world.tick()
        check(camera.get(frame, WAIT), frame)
        rgb, semantic = sorted(world.get_actors().filter("sensor.camera.*"), key=lambda actor: actor.type_id)
        assert float(rgb.attributes["gamma"]) == 1.7 and rgb.attributes["enable_postprocess_effects"].lower() == "false"
        assert float(rgb.attributes["lens_k"]) == float(semantic.attributes["lens_k"]) == -0.5
    for wrong, sentence in (
        ({"gama": 2}, "sensor.camera.rgb has no attribute 'gama': it has .*gamma"),
        ({"gamma": "bright"}, "'gamma' of sensor.camera.rgb is 'bright', but must be of the type Float"),
    ):
        with pytest.raises(CarlaError, match=sentence):
            PhotorealCamera(world, attach_to=car, image_size=SIZE, engine="null", attributes=wrong, timeout=WAIT)
    assert fresh.sensors() == []


def test_settings_of_a_bridge_in_this_process(world: Any, car: Any) -> None:
    with PhotorealCamera(
        world, attach_to=car, image_size=SIZE, engine="null", settings={"size": "64x32", "style_seed": 5}, timeout=WAIT
    ) as camera:
        image = camera.get(world.tick(), WAIT)
        assert (image.width, image.height) == (64, 32)
    for wrong, sentence in (
        ({"divice": "cpu"}, "'divice'.*'device'"),
        ({"topics": ["a"]}, "'topics', which a bridge in this process has from elsewhere"),
    ):
        with pytest.raises(UsageError, match=sentence):
            PhotorealCamera(world, attach_to=car, image_size=SIZE, engine="null", settings=wrong, timeout=WAIT)
    with pytest.raises(UsageError, match="give engine, too"):
        PhotorealCamera(world, attach_to=car, image_size=SIZE, settings={"device": "cpu"}, timeout=1.0)
    with pytest.raises(UsageError, match="every is 0"):
        PhotorealCamera(world, attach_to=car, image_size=SIZE, engine="null", every=0, timeout=1.0)


def test_what_did_not_come_is_named(fresh: CarlaServer, world: Any, car: Any) -> None:
    with PhotorealCamera(world, attach_to=car, image_size=SIZE, engine="null", timeout=WAIT) as camera:
        frame = world.tick()
        check(camera.get(frame, WAIT), frame)
        with pytest.raises(FrameTimeoutError, match=rf"no rgb \(last one {frame}\) and no semantic .* ticked that far"):
            camera.get(frame + 1, 0.5)
        semantic = next(sensor.id for sensor in fresh.sensors() if "semantic" in sensor.type_id)
        fresh.order("drop", sensor=semantic, count=1)
        lost = world.tick()
        with pytest.raises(FrameTimeoutError, match=f"frame {lost} .*CARLA sent no semantic"):
            camera.get(lost, 0.5)
        fresh.order("delay", sensor=semantic, ticks=2)
        late = [world.tick() for _ in range(5)]
        for number in late[:3]:
            check(camera.get(number, WAIT), number)
        fresh.order("delay", sensor=semantic, ticks=0)
        for _ in range(3):  # those that are held go first
            world.tick()
        fresh.order("miss_bytes", sensor=semantic, count=4)
        short = world.tick()
        with pytest.raises(FrameTimeoutError):
            camera.get(short, 0.5)
        assert camera.malformed >= 1


def test_a_vehicle_or_world_that_is_gone_is_no_time_out(fresh: CarlaServer, world: Any) -> None:
    car = spawn_hero(world)
    world.tick()
    with PhotorealCamera(world, attach_to=car, image_size=SIZE, engine="null", timeout=WAIT) as camera:
        camera.get(world.tick(), WAIT)
        fresh.order("destroy", actor=car.id)
        world.tick()
        with pytest.raises(VehicleLostError, match="make a new PhotorealCamera"):
            camera.get(world.tick() + 1, WAIT)
    assert fresh.sensors() == []
    with PhotorealCamera(world, image_size=SIZE, engine="null", timeout=WAIT) as camera:
        camera.get(world.tick(), WAIT)
        fresh.order("new_episode", town="Town07")
        with pytest.raises(VehicleLostError):
            camera.get(10**6, WAIT)


def test_who_listens_is_told_that_no_more_comes(
    fresh: CarlaServer, world: Any, caplog: pytest.LogCaptureFixture
) -> None:
    car = spawn_hero(world)
    world.tick()
    with PhotorealCamera(world, attach_to=car, image_size=SIZE, engine="null", timeout=WAIT) as camera:
        camera.listen(lambda image: None)
        camera.get(world.tick(), WAIT)
        assert camera.is_alive and "no more images" not in caplog.text
        fresh.order("destroy", actor=car.id)
        world.tick()
        wait_until(lambda: "'camera' gets no more images: its vehicle" in caplog.text, "the warning")
        assert not camera.is_alive
    assert not camera.is_alive


def test_a_callback_that_does_not_return_cannot_hold_the_end(
    world: Any, car: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """CARLA's own idiom, ``listen(queue.put)``, with a bounded queue that nobody empties any more."""
    monkeypatch.setattr("plugins.carla.camera.END_SECONDS", 0.2)
    full: queue.Queue[PhotorealImage] = queue.Queue(maxsize=1)
    with PhotorealCamera(world, attach_to=car, image_size=SIZE, engine="null", timeout=WAIT) as camera:
        camera.listen(full.put)
        for _ in range(3):
            last = world.tick()
        camera.get(last - 1, WAIT)
    assert "ends without its callback, which has not returned from an image" in caplog.text
    while not full.empty():
        full.get_nowait()  # lets the thread go


def test_a_time_out_says_that_the_network_fails(world: Any, car: Any) -> None:
    class Failing(NullTranslator):
        def translate(self, shots: Sequence[Shot]) -> Sequence[Translation]:
            raise MemoryError("no room")

    with PhotorealCamera(world, attach_to=car, image_size=SIZE, engine=Failing(), timeout=WAIT) as camera:
        number = world.tick()
        with pytest.raises(FrameTimeoutError, match="lockstep, and has failed on 1 of its frames; see its log"):
            camera.get(number, 3.0)


def test_old_images_make_room(world: Any, car: Any) -> None:
    with PhotorealCamera(world, attach_to=car, image_size=SIZE, engine="null", timeout=WAIT) as camera:
        numbers = [world.tick() for _ in range(1)]
        for _ in range(KEPT):
            camera.get(numbers[-1], WAIT)
            numbers.append(world.tick())
        camera.get(numbers[-1], WAIT)
        check(camera.get(numbers[1], 0.0), numbers[1])
        with pytest.raises(MissedFrameError, match=f"frame {numbers[0]} .* not here any more, as {KEPT} later ones"):
            camera.get(numbers[0], WAIT)


class SlowTranslator(NullTranslator):
    """Takes as long as the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.turn = threading.Semaphore(0)

    def translate(self, shots: Sequence[Shot]) -> Sequence[Translation]:
        self.turn.acquire(timeout=WAIT)
        return super().translate(shots)


def test_realtime_passes_over_what_is_too_much(fresh: CarlaServer) -> None:
    """Beside an asynchronous world with a slow network: the newest wins, and what was passed over is known at once."""
    world = connect(fresh).get_world()
    slow = SlowTranslator()
    with PhotorealCamera(world, image_size=SIZE, engine=slow, timeout=WAIT) as camera:
        heard: queue.Queue[PhotorealImage] = queue.Queue()
        camera.listen(heard.put)
        numbers = []
        for _ in range(4):
            for _ in range(10):
                world.wait_for_tick()
            slow.turn.release()
            image = heard.get(timeout=WAIT)
            check(image, image.frame)
            numbers.append(image.frame)
        assert all(later - earlier > 3 for earlier, later in pairwise(numbers[1:]))
        with pytest.raises(MissedFrameError, match=f"frame {numbers[-1] - 1} .* was missed"):
            camera.get(numbers[-1] - 1, WAIT)
        for _ in range(100):
            slow.turn.release()


def test_three_cameras_share_a_bridge_of_its_own(
    fresh: CarlaServer, world: Any, car: Any, site: Path, tmp_path: Path
) -> None:
    inlet, outlet = f"ipc://{tmp_path}/in", f"ipc://{tmp_path}/out"
    names = ("front", "left", "right")
    topics = [flag for name in names for flag in ("--topic", name)]
    flags = ("--bundle", "null", "--mode", "lockstep", "--input", inlet, "--output", outlet)
    with running_cli(*flags, *topics, site=site), BridgeLink(outlet, inlet) as link, ExitStack() as stack:
        cameras = [
            stack.enter_context(
                PhotorealCamera(world, attach_to=car, image_size=SIZE, bridge=link, name=name, timeout=WAIT)
            )
            for name in names
        ]
        for _ in range(30):
            frame = world.tick()
            stamps = [read_stamp(camera.get(frame, WAIT).array[..., 2]) for camera in cameras]
            assert {stamp.frame for stamp in stamps} == {frame}
            assert len({stamp.camera for stamp in stamps}) == 3
    assert fresh.sensors() == []


def test_an_error_in_the_callback_ends_nothing(world: Any, car: Any, caplog: pytest.LogCaptureFixture) -> None:
    with PhotorealCamera(world, attach_to=car, image_size=SIZE, engine="null", timeout=WAIT) as camera:

        def fail(image: PhotorealImage) -> None:
            raise ValueError("not of ours")

        camera.listen(fail)
        for _ in range(2):
            camera.get(world.tick(), WAIT)
        camera.destroy()
    assert caplog.text.count("the callback of camera 'camera' failed on frame") == 2


def test_no_bridge_and_wrong_arguments_are_sentences(fresh: CarlaServer, world: Any, car: Any, tmp_path: Path) -> None:
    with pytest.raises(
        FrameTimeoutError, match=r"no bridge listens to camera/rgb .* start 'sim-bridge --topic camera'"
    ):
        PhotorealCamera(world, attach_to=car, publish=f"ipc://{tmp_path}/in", bridge=f"ipc://{tmp_path}/out", timeout=1)
    with pytest.raises(UsageError, match=r"camera\.fov"):
        PhotorealCamera(world, attach_to=car, fov=500, engine="null")
    with pytest.raises(UsageError, match="bridge and engine: give one"):
        PhotorealCamera(world, attach_to=car, bridge=f"ipc://{tmp_path}/out", engine="null")
    with pytest.raises(UsageError, match="--labels nonsense"):
        PhotorealCamera(world, attach_to=car, labels="nonsense", engine="null")
    with pytest.raises(UsageError, match="no-such"):
        PhotorealCamera(world, attach_to=car, engine="no-such", timeout=WAIT)
    assert fresh.sensors() == []


SCRIPT = """
import sys, carla
from plugins.carla import PhotorealCamera
client = carla.Client("127.0.0.1", int(sys.argv[1]))
client.set_timeout(20.0)
world = client.get_world()
settings = world.get_settings()
settings.synchronous_mode, settings.fixed_delta_seconds = True, 0.05
world.apply_settings(settings)
camera = PhotorealCamera(world, image_size=(64, 32), engine="null", timeout=60)
camera.listen(lambda image: None)
for _ in range(5):
    assert camera.get(world.tick(), 60).frame
{end}
"""


@pytest.mark.parametrize(
    ("end", "runs"),
    [
        ("", 1),
        ("raise ValueError('of the script')", 1),
        pytest.param("", 50, marks=[pytest.mark.slow, pytest.mark.timeout(1200)]),
    ],
)
def test_a_script_that_just_ends_leaves_nothing_and_does_not_abort(end: str, runs: int, fresh: CarlaServer) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    for _ in range(runs):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT.replace("{end}", end), str(fresh.port)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=WAIT,
            check=False,
        )
        assert done.returncode == ("raise" in end), done.stderr
        assert "terminate called" not in done.stderr
        assert fresh.sensors() == []
