"""The CARLA examples as a user runs them: processes of their own, with the real client against the stand-in server."""

import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from sim_bridge.pixels.images import read_image
from sim_bridge.recordings.read import Folder, Recording
from tests.carla_server.handle import CarlaServer
from tests.carla_server.stamp import read_stamp
from tests.plugins.carla.carla_helpers import fresh, server, wait_until
from tests.sim_bridge.recording_helpers import WAIT, environment

__all__ = ["fresh", "server"]

pytestmark = pytest.mark.carla
EXAMPLES = Path(__file__).parents[2] / "examples"


def command(example: str, server: CarlaServer, *flags: str | Path) -> list[str]:
    always = ("--port", server.port, "--size", "128x64", "--bundle", "null", "--timeout", WAIT)
    return [sys.executable, str(EXAMPLES / example), *map(str, flags), *map(str, always)]


def run(example: str, server: CarlaServer, *flags: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(example, server, *flags),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=2 * WAIT,
        check=False,
    )


def assert_untouched(server: CarlaServer) -> None:
    """Nothing of the example's is left in the world."""
    assert [actor.type_id for actor in server.actors()] == ["spectator"]
    assert not server.order("state")["synchronous"]


def test_drive_writes_both_images_side_by_side(fresh: CarlaServer, tmp_path: Path) -> None:
    path = tmp_path / "drive.mp4"
    done = run("carla_drive.py", fresh, "--video", path, "--frames", "20")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"wrote {path}\n20 photoreal frames\n"
    assert_untouched(fresh)
    video = cv2.VideoCapture(str(path))
    images = []
    while (found := video.read())[0]:
        images.append(np.asarray(found[1], np.int16))
    assert len(images) == 20
    for image in images:
        assert image.shape == (64, 256, 3)
        assert np.abs(image[:, :128] - image[:, 128:]).mean() < 8  # the null network's image is CARLA's
        assert image.std() > 20
    assert np.abs(images[0] - images[7]).mean() > 2  # it moves


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_no_run_aborts_at_its_end(fresh: CarlaServer, tmp_path: Path) -> None:
    """The client's threads outlive a script that leaves a sensor, and abort the process in the interpreter's end."""
    ends = []
    for _ in range(50):
        done = run("carla_drive.py", fresh, "--video", tmp_path / "drive.mp4", "--frames", "3")
        ends.append((done.returncode, done.stderr))
        assert_untouched(fresh)
    assert ends == [(0, "")] * 50


def test_a_server_that_dies_ends_a_drive_soon(tmp_path: Path) -> None:
    with CarlaServer(rate=50) as doomed:
        line = command("carla_drive.py", doomed, "--video", tmp_path / "drive.mp4")
        line[line.index("--timeout") + 1] = "4"
        with subprocess.Popen(line, env=environment(), stderr=subprocess.PIPE, text=True) as process:
            try:
                wait_until(lambda: len(doomed.sensors()) == 2, "the drive's start")
                last = doomed.frame()
                wait_until(lambda: doomed.frame() > last + 5, "the drive's progress")
                doomed.kill()
                assert process.wait(WAIT) == 1
                assert process.stderr is not None
                assert "time-out of" in process.stderr.read()
            finally:
                process.kill()


def test_drive_without_a_traffic_manager_goes_straight_on(fresh: CarlaServer, tmp_path: Path) -> None:
    fresh.order("refuse", method="get_traffic_manager_running")
    done = run("carla_drive.py", fresh, "--video", tmp_path / "drive.mp4", "--frames", "5")
    fresh.order("refuse", method="")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("no autopilot, straight on: ")
    assert "5 photoreal frames" in done.stdout
    assert_untouched(fresh)


@pytest.mark.parametrize(("order", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_drive_that_is_ended_leaves_nothing(
    order: signal.Signals, code: int, fresh: CarlaServer, tmp_path: Path
) -> None:
    line = command("carla_drive.py", fresh, "--video", tmp_path / "drive.mp4")
    with subprocess.Popen(
        line, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            wait_until(lambda: len(fresh.sensors()) == 2, "the drive's start")
            last = fresh.frame()
            wait_until(lambda: fresh.frame() > last + 5, "the drive's progress")
            process.send_signal(order)
            assert process.wait(WAIT) == code
            assert process.stderr is not None
            assert "Traceback" not in process.stderr.read()
        finally:
            process.kill()
    assert_untouched(fresh)


def test_dataset_holds_images_labels_and_places(fresh: CarlaServer, tmp_path: Path) -> None:
    flags = ("--images", "6", "--every", "2", "--per-place", "3")
    done = run("carla_dataset.py", fresh, tmp_path / "set", *flags)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"6 images in {tmp_path / 'set'}\n"
    assert_untouched(fresh)
    recording = Recording.open(tmp_path / "set")
    assert recording.info.taxonomy == "carla-0.9.14"
    assert recording.info.translation is not None and recording.info.translation["bundle"] == "null"
    frames = list(recording.frames("camera"))
    numbers = [frame.number for frame in frames]
    assert np.diff(numbers).tolist() == [2, 2, 12, 2, 2]  # the car settles at its second place
    for frame in frames:
        rgb, ids, photoreal = (
            read_image(frame.files[kind]) for kind in (Folder.RGB, Folder.SEMANTIC, Folder.PHOTOREAL)
        )
        assert read_stamp(rgb[..., 2]).frame == read_stamp(ids).frame == frame.number
        assert np.array_equal(rgb, photoreal)
        assert frame.pose is not None
    places = np.array([frame.pose[:3, 3] for frame in frames if frame.pose is not None])
    steps = np.linalg.norm(np.diff(places, axis=0), axis=1)
    assert steps[2] > 2 * max(*steps[:2], *steps[3:])
    again = run("carla_dataset.py", fresh, tmp_path / "set", *flags)
    assert again.returncode == 1
    assert "holds a recording already: choose another folder" in again.stderr and "Traceback" not in again.stderr


@pytest.mark.parametrize("example", ["carla_drive.py", "carla_dataset.py"])
def test_a_server_that_is_not_there_is_a_sentence(example: str, fresh: CarlaServer, tmp_path: Path) -> None:
    flags = (tmp_path / "set",) if "dataset" in example else ("--video", tmp_path / "drive.mp4")
    line = command(example, fresh, *flags)
    line[line.index("--port") + 1], line[line.index("--timeout") + 1] = "1", "1"
    done = subprocess.run(line, env=environment(), capture_output=True, text=True, timeout=WAIT, check=False)
    assert done.returncode == 1
    assert "time-out of 1000ms" in done.stderr and "Traceback" not in done.stderr
