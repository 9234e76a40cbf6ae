"""``sim-bridge carla`` as a user starts it: real processes, the real client, the stand-in server and its faults."""

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml

from plugins.carla.run.checks import look
from plugins.carla.run.doctor import examine
from plugins.carla.run.recorder import Recorder
from plugins.carla.run.source import CarlaSource
from plugins.carla.world.poses import Placement
from plugins.carla.world.server import Where
from plugins.replay.source import ReplaySource
from sim_bridge.client import Subscriber
from sim_bridge.errors import UsageError
from sim_bridge.frames import Frame, Kind
from sim_bridge.recordings.captures import read_capture, recording_taxonomy
from sim_bridge.recordings.read import Folder, Recording
from sim_bridge.tools.doctor import Check
from tests.carla_server.handle import CarlaServer
from tests.carla_server.stamp import read_stamp
from tests.plugins.carla.carla_helpers import RIG, WIDE_RIG, connect, fresh, server, spawn_hero, wait_until, world_pose
from tests.sim_bridge.recording_helpers import RunningCli, run_cli, running_cli, site

__all__ = ["fresh", "server", "site"]

pytestmark = pytest.mark.carla
WAIT = 60.0


@contextmanager
def bridge(server: CarlaServer, site: Path, *flags: str) -> Iterator[tuple[RunningCli, str]]:
    """``sim-bridge carla`` with the null translator, and where it publishes."""
    arguments = ("carla", "--port", str(server.port), "--bundle", "null", "--output", "tcp://127.0.0.1:*", *flags)
    with running_cli(*arguments, site=site) as run:
        line = run.wait_for_line(" -> tcp://")
        found = re.search(r"-> (\S+), cameras", line)
        assert found is not None
        yield run, found[1]


def photoreal(address: str, camera: str = "camera", buffer: int = 500) -> Subscriber:
    return Subscriber(address, camera=camera, buffer=buffer)


def check(frame: Frame) -> None:
    stamp = read_stamp(frame.pixels[..., 2])
    assert stamp.frame == frame.number, f"a picture of tick {stamp.frame} says that it is of {frame.number}"


def fresh_frames(subscriber: Subscriber) -> Iterator[Frame]:
    """The frames without those that came again, as they may in lockstep on a busy machine."""
    before = -1
    for frame in subscriber.frames(WAIT):
        if frame.number != before:
            before = frame.number
            yield frame


def actors(server: CarlaServer) -> list[str]:
    return [actor.type_id for actor in server.actors() if actor.type_id != "spectator"]


def test_realtime_beside_a_running_simulation(fresh: CarlaServer, site: Path) -> None:
    hero = spawn_hero(connect(fresh).get_world())
    with bridge(fresh, site, "--size", "128x64", "--transform", "1.5,0,2.4,-10,0,0") as (run, address):
        with photoreal(address) as subscriber:
            frames = list(islice(subscriber.frames(WAIT), 40))
        code, said = run.interrupt()
    assert code == 0, said
    assert "Traceback" not in said and re.search(r"carla: \d+ photoreal frames in 1 session\n", said)
    numbers = [frame.number for frame in frames]
    assert numbers == sorted(set(numbers))
    location, rotation = hero.get_transform().location, hero.get_transform().rotation
    vehicle = Placement(location.x, location.y, location.z, rotation.pitch, rotation.yaw, rotation.roll)
    pose = world_pose(vehicle, Placement(1.5, 0, 2.4, -10, 0, 0))
    for frame in frames:
        check(frame)
        assert frame.pose is not None and np.allclose(frame.pose, pose, atol=1e-4)
        assert frame.session == frames[0].session and frame.provenance is not None
    assert actors(fresh) == ["vehicle.tesla.model3"]
    hero.destroy()


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_lockstep_drives_the_world_and_loses_no_tick(
    end: signal.Signals, fresh: CarlaServer, site: Path, tmp_path: Path
) -> None:
    rig = tmp_path / "rig.yaml"
    rig.write_text(yaml.safe_dump(WIDE_RIG))
    flags = ("--spawn", "--tick", "--mode", "lockstep", "--rig", str(rig))
    with bridge(fresh, site, *flags) as (run, address):
        with photoreal(address, "front") as front, photoreal(address, "left") as left:
            seen = [list(islice(fresh_frames(subscriber), 50)) for subscriber in (front, left)]
        run.process.send_signal(end)
        code, said = run.finish()
    assert code == 0 and "3 cameras" not in said, said
    for frames in seen:
        numbers = [frame.number for frame in frames]
        assert numbers == list(range(numbers[0], numbers[0] + 50))
        for frame in frames:
            check(frame)
    assert {frame.session for frames in seen for frame in frames} == {seen[0][0].session}
    state = fresh.order("state")
    assert (state["synchronous"], state["delta"], actors(fresh)) == (False, None, [])


def test_lockstep_with_a_camera_that_is_always_two_ticks_late(fresh: CarlaServer, site: Path) -> None:
    flags = ("--spawn", "--tick", "--mode", "lockstep", "--size", "128x64")
    with bridge(fresh, site, *flags) as (run, address):
        with photoreal(address) as subscriber:
            frames = fresh_frames(subscriber)
            next(frames)
            sensor = next(actor.id for actor in fresh.sensors() if "semantic" in actor.type_id)
            fresh.order("delay", sensor=sensor, ticks=2)
            late = fresh.frame() + 1
            seen = [frame for frame in islice(frames, 60) if frame.number > late]
        code, said = run.interrupt()
    assert code == 0, said
    for frame in seen:
        check(frame)
    numbers = [frame.number for frame in seen]
    assert len(numbers) > 40 and numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_a_server_that_is_killed_and_started_again(site: Path) -> None:
    with (
        CarlaServer(rate=50) as mortal,
        bridge(mortal, site, "--spawn", "--size", "128x64", "--timeout", "2") as (run, address),
    ):
        with photoreal(address) as subscriber:
            before = list(islice(subscriber.frames(WAIT), 20))
            mortal.kill()
            run.wait_for_line("connecting again")
            mortal.restart()
            run.wait_for_line("session 2 is")
            after = [frame for frame in islice(subscriber.frames(WAIT), 200) if frame.session != before[0].session]
        assert len(mortal.sensors()) == 2
        code, said = run.interrupt()
        assert code == 0 and "in 2 sessions" in said
        assert len(after) >= 20 and after[0].number < before[-1].number  # it counts from 0 again
        for frame in before + after:
            check(frame)
        assert actors(mortal) == []


def child_of(run: RunningCli) -> psutil.Process:
    return next(
        child for child in psutil.Process(run.process.pid).children() if "plugins.carla.run.child" in child.cmdline()
    )


def test_a_killed_client_process_is_started_again_and_cleans_up(fresh: CarlaServer, site: Path) -> None:
    with bridge(fresh, site, "--spawn", "--size", "128x64") as (run, address):
        with photoreal(address) as subscriber:
            first = subscriber.next_frame(WAIT)
            child_of(run).kill()
            run.wait_for_line("it is started again")
            run.wait_for_line("session 2 is")
            later = next(frame for frame in subscriber.frames(WAIT) if frame.session != first.session)
        assert sorted(actors(fresh)) == [
            "sensor.camera.rgb",
            "sensor.camera.semantic_segmentation",
            "vehicle.tesla.model3",
        ]
        check(later)
        assert run.interrupt()[0] == 0
    assert actors(fresh) == []


def test_the_client_process_may_die_with_the_server(site: Path) -> None:
    with (
        CarlaServer(rate=50) as mortal,
        bridge(mortal, site, "--spawn", "--size", "128x64", "--timeout", "2") as (run, address),
    ):
        with photoreal(address) as subscriber:
            first = subscriber.next_frame(WAIT)
            mortal.kill()
            child_of(run).kill()
            run.wait_for_line("no CARLA server listens")
            run.wait_for_line("still waiting")
            mortal.restart()
            run.wait_for_line("session 2 is")
            check(next(frame for frame in subscriber.frames(WAIT) if frame.session != first.session))
        assert run.interrupt()[0] == 0
        assert actors(mortal) == []


@pytest.mark.parametrize("client_dies", [False, True])
def test_another_vehicle_that_got_the_actor_id_is_left_alone(client_dies: bool, site: Path) -> None:
    with CarlaServer(rate=50) as mortal:
        hero = spawn_hero(connect(mortal).get_world())
        flags = ("--actor", str(hero.id), "--size", "128x64", "--timeout", "2")
        with bridge(mortal, site, *flags) as (run, address):
            with photoreal(address) as subscriber:
                check(subscriber.next_frame(WAIT))
            child = child_of(run)
            if client_dies:
                child.suspend()  # it may not notice before there is a stranger
            mortal.restart()
            assert spawn_hero(connect(mortal).get_world(), place=1).id == hero.id
            if client_dies:
                child.kill()
            code, said = run.finish()
        assert code == 1 and "an actor id is that of one vehicle of one world only, give --role-name\n" in said
        assert "session 2" not in said and "Traceback" not in said
        assert actors(mortal) == ["vehicle.tesla.model3"]


def test_what_is_refused_after_a_restart_is_waited_for(site: Path) -> None:
    with (
        CarlaServer(rate=50) as mortal,
        bridge(mortal, site, "--spawn", "--size", "128x64", "--timeout", "2") as (run, address),
    ):
        with photoreal(address) as subscriber:
            first = subscriber.next_frame(WAIT)
            mortal.order("refuse", method="spawn_actor")
            child = child_of(run)
            for actor in mortal.actors():
                if actor.type_id.startswith("vehicle."):
                    mortal.order("destroy", actor=actor.id)
            assert "spawn points" in run.wait_for_line("still waiting")
            mortal.order("refuse", method="")
            assert "session 2 is" in run.wait_for_line("carla: ")
            check(next(frame for frame in subscriber.frames(WAIT) if frame.session != first.session))
        assert child.is_running() and run.interrupt()[0] == 0


def test_the_client_process_ends_and_cleans_up_with_a_bridge_that_was_killed(fresh: CarlaServer, site: Path) -> None:
    with bridge(fresh, site, "--spawn", "--tick", "--size", "128x64") as (run, address):
        with photoreal(address) as subscriber:
            check(subscriber.next_frame(WAIT))
        child = child_of(run)
        run.process.kill()
        psutil.wait_procs([child], WAIT)
        assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    wait_until(lambda: actors(fresh) == [], "the end of our sensors")
    assert not fresh.order("state")["synchronous"]


def test_what_cannot_be_mended_is_one_sentence(fresh: CarlaServer, site: Path) -> None:
    for flags, code, sentence in (
        (("--role-name", "ego", "--timeout", "1"), 1, "got no vehicle with the role name 'ego' within 1 s"),
        (("--port", "1"), 1, "no CARLA server listens at 127.0.0.1:1"),
        (("--spawn", "--bundle", "no-such"), 2, "no-such"),
    ):
        arguments = ("carla", "--port", str(fresh.port), "--bundle", "null", "--output", "tcp://127.0.0.1:*", *flags)
        done = run_cli(*arguments, site=site)
        assert done.returncode == code and sentence in done.stderr, done.stderr
        assert "Traceback" not in done.stderr and "see above" not in done.stderr
    assert actors(fresh) == []


@pytest.mark.parametrize("version", ["0.10.0"])
def test_an_unknown_version_asks_for_labels(version: str, site: Path) -> None:
    with CarlaServer(version=version) as other:
        done = run_cli("carla", "--port", str(other.port), "--spawn", "--bundle", "null", site=site)
    assert done.returncode == 2 and "name the taxonomy by --labels" in done.stderr


def test_record(fresh: CarlaServer, site: Path, tmp_path: Path) -> None:
    folder = tmp_path / "drive"
    common = ("carla", "record", folder, "--port", str(fresh.port), "--spawn", "--tick", "--size", "96x64")
    done = run_cli(*common, "--frames", "4", "--every", "3", "--instance", "--depth", site=site)
    assert done.returncode == 0, done.stderr
    assert "wrote 4 ticks of 1 camera" in done.stderr
    recording = Recording.open(folder)
    frames = list(recording.frames("camera"))
    assert [frame.number - frames[0].number for frame in frames] == [0, 3, 6, 9]
    assert recording.info.taxonomy == "carla-0.9.14" and recording.info.cameras["camera"].fov == 90
    for frame in frames:
        capture = read_capture(frame, recording_taxonomy(recording, None))
        assert read_stamp(capture.rgb[..., 0]).frame == frame.number
        assert read_stamp(capture.ids).frame == frame.number
        assert frame.pose is not None and set(frame.files) == {
            Folder.RGB,
            Folder.SEMANTIC,
            Folder.INSTANCE,
            Folder.DEPTH,
        }
        assert np.load(frame.files[Folder.DEPTH]).shape == (64, 96)
    replay = ReplaySource()
    replay.open({"folder": folder, "rate": 0})
    assert len([frame for frame in replay if frame.kind is Kind.SEMANTIC]) == 4 and replay.problems == {}
    assert actors(fresh) == [] and not fresh.order("state")["synchronous"]
    again = run_cli(*common, site=site)
    assert again.returncode == 2 and "holds a recording already" in again.stderr


@pytest.mark.parametrize("end", ["server killed", "client killed", "interrupted"])
def test_a_recording_that_ends_early_is_whole_and_says_why(end: str, site: Path, tmp_path: Path) -> None:
    folder = tmp_path / "drive"
    flags = ("--spawn", "--tick", "--size", "96x64", "--frames", "100000", "--timeout", "2")
    with CarlaServer(rate=50) as mortal:
        with running_cli("carla", "record", str(folder), "--port", str(mortal.port), *flags, site=site) as run:
            run.wait_for_line("carla: 100 of 100000 ticks")
            match end:
                case "server killed":
                    mortal.kill()
                case "client killed":
                    child_of(run).kill()
                case _:
                    run.process.send_signal(signal.SIGINT)
            code, said = run.finish()
        if end == "interrupted":
            assert actors(mortal) == [] and not mortal.order("state")["synchronous"]
    sentence = {
        "server killed": "sim-bridge: the CARLA server at .* did not answer within 2 s when it was asked for",
        "client killed": r"sim-bridge: CARLA's client crashed \(SIGKILL\): see above",
        "interrupted": r"carla: wrote \d+ ticks of 1 camera to .*; 0 left out",
    }[end]
    assert code == (end != "interrupted") and re.search(sentence, said), said
    assert "terminate called" not in said and "Traceback" not in said
    assert len(list(Recording.open(folder).frames("camera"))) >= 100


def test_what_a_recording_leaves_out_is_counted_by_numbers(fresh: CarlaServer, tmp_path: Path) -> None:
    """Ticks that are pushed out of the queue whole are seen by nobody."""
    source = CarlaSource()
    asked = {"port": fresh.port, "spawn": True, "rig": RIG, "timeout": 20.0, "paced": False, "reconnect": False}
    with Recorder(source, tmp_path / "drive", asked) as recorder:
        for _ in recorder.record(5):
            there = fresh.frame()
            wait_until(lambda there=there: fresh.frame() > there + 20, "20 ticks")  # type: ignore[misc]
    numbers = [frame.number for frame in Recording.open(tmp_path / "drive").frames("camera")]
    assert recorder.left_out == numbers[-1] - numbers[0] + 1 - 5 > 20


def test_recording_several_cameras_beside_a_script(fresh: CarlaServer, site: Path, tmp_path: Path) -> None:
    rig, folder = tmp_path / "rig.yaml", tmp_path / "drive"
    rig.write_text(yaml.safe_dump(WIDE_RIG))
    hero = spawn_hero(connect(fresh).get_world())
    done = run_cli("carla", "record", folder, "--port", str(fresh.port), "--rig", rig, "--frames", "3", site=site)
    assert done.returncode == 0, done.stderr
    recording = Recording.open(folder)
    assert recording.cameras() == ("front", "left", "right") and len(recording) == 9
    assert actors(fresh) == ["vehicle.tesla.model3"]
    hero.destroy()


def test_doctor(fresh: CarlaServer, site: Path) -> None:
    address = f"127.0.0.1:{fresh.port}"
    hero = spawn_hero(connect(fresh).get_world())
    found = run_cli("doctor", "--bundle", "null", "--carla", address, site=site)
    lines = {line[5:20].strip(): line for line in found.stdout.splitlines() if "carla" in line[:12]}
    assert set(lines) == {
        f"carla {name}"
        for name in ("version", "world", "settings", "labels", "rgb", "semantic", "instance", "depth", "pair")
    }
    assert all(line.startswith("ok") for line in lines.values()), found.stdout
    assert f"server 0.9.16 at {address}" in lines["carla version"]
    assert "Town10HD" in lines["carla world"] and f"{hero.id} hero" in lines["carla world"]
    assert "asynchronous" in lines["carla settings"] and "carla-0.9.14" in lines["carla labels"]
    common = "image_size_x 800, image_size_y 600, fov 90, sensor_tick 0"
    assert f"sensor.camera.rgb, as the server has it: {common}, enable_postprocess_effects on" in lines["carla rgb"]
    assert "exposure_mode histogram, exposure_compensation -1, shutter_speed 200, iso 100" in lines["carla rgb"]
    assert "gamma 2.2, motion_blur_intensity 0.45" in lines["carla rgb"]
    assert all(common in lines[f"carla {kind}"] for kind in ("semantic", "instance", "depth"))
    assert re.search(r"RGB and semantic image of frame \d+ after", lines["carla pair"])
    assert actors(fresh) == ["vehicle.tesla.model3"]
    hero.destroy()


def test_doctor_says_what_is_wrong(site: Path) -> None:
    (gone,) = examine("127.0.0.1:1")
    assert not gone.ok and "no CARLA server listens at 127.0.0.1:1" in gone.detail
    with pytest.raises(UsageError, match="is not HOST:PORT"):
        list(examine("there:what"))
    with CarlaServer(version="0.10.0") as other:
        checks = {check.name: check for check in examine(f"127.0.0.1:{other.port}")}
    assert {name for name, check in checks.items() if not check.ok} == {"carla version", "carla labels"}
    assert "PythonAPI/carla/dist" in checks["carla version"].advice
    for flags, sentence in (
        (("--carla",), "--carla needs a value: --carla HOST:PORT"),
        (("--karla", "x"), "doctor does not know '--karla'"),
    ):
        done = run_cli("doctor", *flags, site=site)
        assert done.returncode == 2 and sentence in done.stderr


def test_doctor_touches_nothing_in_a_world_that_nobody_ticks(
    fresh: CarlaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plugins.carla.run.checks.PAIR_SECONDS", 0.5)
    world = connect(fresh).get_world()
    settings = world.get_settings()
    settings.synchronous_mode = True
    world.apply_settings(settings)
    before = fresh.frame()
    found = look(Where(port=fresh.port))
    checks = {check.name: check for check in found if isinstance(check, Check)}
    assert fresh.frame() == before and fresh.sensors() == []
    assert not checks["carla pair"].ok and "--tick" in checks["carla pair"].advice
    assert not checks["carla settings"].ok and "fixed_delta_seconds" in checks["carla settings"].advice


def test_a_version_that_crashes_the_client_is_named(site: Path) -> None:
    """The state of a 0.9.15 server's world has a number that is another sensor's in the client 0.9.16."""
    crash = "CARLA's client crashed (SIGSEGV), as the versions do not fit (client 0.9.16, server 0.9.15): "
    with CarlaServer(version="0.9.15", rate=50, world_observer=16) as old:
        address = f"127.0.0.1:{old.port}"
        found = run_cli("doctor", "--bundle", "null", "--carla", address, site=site)
        assert found.returncode == 1 and "Traceback" not in found.stderr
        assert re.search(r"FAIL carla version +client 0\.9\.16, server 0\.9\.15 at ", found.stdout)
        assert re.search(rf"FAIL carla client +{re.escape(crash)}", found.stdout)
        command = ("carla", "--port", str(old.port), "--spawn", "--bundle", "null", "--output", "tcp://127.0.0.1:*")
        done = run_cli(*command, site=site)
    assert done.returncode == 1 and f"sim-bridge: {crash}install the wheel" in done.stderr, done.stderr
    assert "the versions differ (client 0.9.16, server 0.9.15 at" in done.stderr


def test_a_version_that_works_is_only_a_warning(site: Path) -> None:
    with (
        CarlaServer(version="0.9.15", rate=50) as other,
        bridge(other, site, "--spawn", "--size", "128x64") as (run, address),
    ):
        run.wait_for_line("the versions differ (client 0.9.16, server 0.9.15 at")
        with photoreal(address) as subscriber:
            check(subscriber.next_frame(WAIT))
        assert run.interrupt()[0] == 0


def test_a_doctor_that_takes_too_long_ends(fresh: CarlaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plugins.carla.run.doctor.LIMIT_SECONDS", 3.0)
    fresh.order("hold_rpc", method="get_episode_info", seconds=30)
    checks = list(examine(f"127.0.0.1:{fresh.port}"))
    assert [check.name for check in checks] == ["carla version", "carla"]
    assert not checks[-1].ok and "did not end within 3 s" in checks[-1].detail
