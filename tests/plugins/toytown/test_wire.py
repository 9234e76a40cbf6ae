"""Toytown as a source, on the wire and on disk."""

import json
import socket
import threading
from copy import copy
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from plugins.replay.source import ReplaySource
from plugins.toytown.run.recorder import Recorder, Wanted, describe
from plugins.toytown.run.setup import Look
from plugins.toytown.run.simulator import Simulator
from plugins.toytown.run.source import ToytownSource
from sim_bridge.client import Subscriber
from sim_bridge.errors import UsageError
from sim_bridge.frames import Encoding, Kind
from sim_bridge.recordings.captures import read_capture, recording_taxonomy
from sim_bridge.recordings.read import Folder, Recording
from sim_bridge.sources import Source, load_source
from sim_bridge.wire import decode, encode
from tests.sim_bridge.recording_helpers import WAIT, read_rgb, run_cli, running_cli, site

__all__ = ["site"]

ANY_PORT = "tcp://127.0.0.1:*"


@pytest.fixture
def unused_tcp_ports() -> tuple[int, int]:
    """Two ports that were free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        return one.getsockname()[1], other.getsockname()[1]


@pytest.fixture
def source(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> ToytownSource:
    """A source whose town is built already; what it publishes is checked against it."""
    monkeypatch.setattr("plugins.toytown.run.simulator.Simulator", lambda setup: simulator)
    made = ToytownSource()
    made.open({"rate": 0, "frames": 3, "first": 100, "kinds": ("instance", "depth", "flow")})
    return made


def test_ticks_are_whole(source: ToytownSource, simulator: Simulator) -> None:
    """Three cameras, five kinds each; every frame survives the wire with all that it says."""
    first, *_ = ticks = list(source.ticks())
    assert [frames[0].number for frames in ticks] == [100, 101, 102]
    assert {(frame.number, frame.time, frame.session) for frame in first} == {(100, 5.0, source.session)}
    assert [frame.camera for frame in first] == ["front"] * 5 + ["left"] * 5 + ["right"] * 5
    kinds = [Kind.RGB, Kind.SEMANTIC, Kind.INSTANCE, Kind.DEPTH, Kind.FLOW]
    assert [frame.kind for frame in first[:5]] == kinds
    shot = simulator.tick(100)[0]
    for frame, image in zip(
        first, (shot.cg(), shot.semantic(), shot.instance(), shot.depth(), shot.flow()), strict=False
    ):
        read = decode([memoryview(part) for part in encode(frame)], received=1)
        assert np.array_equal(read.pixels, image, equal_nan=image.dtype == np.float32)  # type: ignore[union-attr]
        assert np.allclose(read.pose, shot.pose)  # type: ignore[union-attr]
        assert read.fov == shot.lens.fov  # type: ignore[union-attr]
    assert first[1].labels == "toytown"
    assert first[0].encoding is Encoding.RGB8


def test_iterating_gives_the_frames_of_all_ticks(source: ToytownSource) -> None:
    assert [frame.number for frame in source] == [100] * 15 + [101] * 15 + [102] * 15
    assert source.published == 3


def test_closing_ends_the_iteration(source: ToytownSource) -> None:
    frames = iter(source)
    assert next(frames).number == 100
    source.close()
    source.close()
    assert {frame.number for frame in frames} <= {100, 101}


def test_a_paused_source_steps_one_tick_at_a_time(source: ToytownSource) -> None:
    source.pause()
    numbers: list[int] = []
    arrived = threading.Semaphore(0)

    def read() -> None:
        for frames in source.ticks():
            numbers.append(frames[0].number)
            arrived.release()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert not arrived.acquire(timeout=0.3)
        source.step()
        assert arrived.acquire(timeout=WAIT)
        assert not arrived.acquire(timeout=0.3)
        assert numbers == [100]
        source.resume()
        assert arrived.acquire(timeout=WAIT)
        assert arrived.acquire(timeout=WAIT)
    finally:
        source.close()
        reader.join(WAIT)
    assert numbers == [100, 101, 102]
    assert not reader.is_alive()


def test_keeps_a_few_ticks_ahead_of_the_answers(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plugins.toytown.run.simulator.Simulator", lambda setup: simulator)
    for patience in ("PATIENCE_SECONDS", "FIRST_PATIENCE_SECONDS"):
        monkeypatch.setattr(f"plugins.toytown.run.source.{patience}", WAIT)
    source = ToytownSource()
    source.open({"rate": 0, "frames": 5, "first": 100, "ahead": 2})
    numbers: list[int] = []
    made = threading.Semaphore(0)

    def read() -> None:
        for frames in source.ticks():
            numbers.append(frames[0].number)
            made.release()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert made.acquire(timeout=WAIT) and made.acquire(timeout=WAIT)
        assert not made.acquire(timeout=0.3)
        assert numbers == [100, 101]
        source.answered(100)
        assert made.acquire(timeout=WAIT)
        source.answered(99)  # late: nothing new
        assert not made.acquire(timeout=0.3)
        source.answered(102)  # 101 was dropped: that is an answer, too
        assert made.acquire(timeout=WAIT) and made.acquire(timeout=WAIT)
    finally:
        source.close()
        reader.join(WAIT)
    assert numbers == [100, 101, 102, 103, 104]


def test_goes_on_where_no_answer_comes(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plugins.toytown.run.simulator.Simulator", lambda setup: simulator)
    source = ToytownSource()
    source.open({"rate": 0, "frames": 3, "ahead": 1})
    assert [frames[0].number for frames in source.ticks()] == [0, 1, 2]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"speed": 3}, "option 'speed'"),
        ({"preset": "fog"}, "the preset 'fog' is unknown: use one of noon"),
        ({"size": (8, 8)}, "the size 8x8 is out of bounds"),
        ({"cameras": ()}, "the cameras are none"),
        ({"cameras": ("front", "front")}, "each only once"),
        ({"kinds": ("photoreal",)}, "has no photoreal"),
        ({"rate": float("nan")}, "option 'rate'"),
        ({"seed": -1}, "option 'seed'"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        ToytownSource().open(options)


def record(simulator: Simulator, folder: Path, wanted: Wanted, frames: int = 2) -> Path:
    recorder = Recorder(simulator, folder, wanted)
    assert list(recorder.record(frames, first=140)) == list(range(140, 140 + frames))
    recorder.close()
    return folder


@pytest.fixture
def recorded(simulator: Simulator, tmp_path: Path) -> Path:
    return record(simulator, tmp_path / "town", Wanted())


def test_a_recording_holds_what_was_seen(simulator: Simulator, tmp_path: Path) -> None:
    everything = Wanted((Look.CG, Look.PHOTO), instance=True, depth=True, flow=True)
    recording = Recording.open(record(simulator, tmp_path / "town", everything))
    assert recording.cameras() == ("front", "left", "right")
    assert len(recording) == 6
    camera = recording.info.cameras["left"]
    assert camera.K is not None
    assert np.allclose(camera.K, simulator.lens_of(simulator.setup.mounts[1]).K)
    shot = simulator.tick(141)[1]
    frame = list(recording.frames("left"))[1]
    assert (frame.number, frame.time) == (141, pytest.approx(shot.time))
    assert np.allclose(frame.pose, shot.pose)  # type: ignore[arg-type]
    capture = read_capture(frame, recording_taxonomy(recording, None))
    assert (capture.rgb == shot.cg()).all()
    assert (capture.ids == shot.semantic()).all()
    assert (read_rgb(frame.files[Folder.PHOTO]) == shot.photo()).all()
    assert np.array_equal(np.load(frame.files[Folder.FLOW]), shot.flow(), equal_nan=True)
    assert (np.load(frame.files[Folder.DEPTH]) == shot.depth()).all()


def test_a_recording_is_replayed(recorded: Path) -> None:
    replay = ReplaySource()
    replay.open({"folder": recorded, "rate": 0})
    frames = list(replay)
    assert len(frames) == 12
    assert {frame.labels for frame in frames if frame.kind is Kind.SEMANTIC} == {"toytown"}
    assert replay.problems == {}


def test_recording_goes_on_where_it_stopped(recorded: Path, simulator: Simulator) -> None:
    before = {path: path.stat().st_mtime_ns for path in recorded.rglob("*.png")}
    record(simulator, recorded, Wanted(), frames=3)
    assert len(Recording.open(recorded)) == 9
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_what_another_run_wrote_of_a_frame_stays_listed(simulator: Simulator, tmp_path: Path) -> None:
    folder = record(simulator, tmp_path / "town", Wanted(depth=True), frames=1)
    record(simulator, folder, Wanted(instance=True), frames=1)
    (frame,) = Recording.open(folder).frames("left")
    assert {Folder.RGB, Folder.SEMANTIC, Folder.DEPTH, Folder.INSTANCE} == set(frame.files)
    assert all(path.is_file() for path in frame.files.values())


def test_where_a_camera_is_decides_which_recording_it_is(simulator: Simulator) -> None:
    before = describe(simulator).session
    setup = simulator.setup
    higher = replace(setup.mounts[0], z=setup.mounts[0].z + 4)
    moved = copy(simulator)
    moved.setup = replace(setup, mounts=(higher, *setup.mounts[1:]))
    assert describe(moved).session != before


def test_another_recording_is_not_mixed_in(recorded: Path, simulator: Simulator) -> None:
    description = json.loads((recorded / "recording.json").read_text())
    assert description["session"] == describe(simulator).session
    assert description["session"].startswith("toytown-0-noon-normal-0.05s-")
    description["session"] = "toytown-1-noon-normal-0.05s"
    (recorded / "recording.json").write_text(json.dumps(description))
    with pytest.raises(UsageError, match="holds another recording"):
        Recorder(simulator, recorded, Wanted())


def test_the_command_publishes(site: Path) -> None:
    arguments = ("--size", "96x48", "--traffic", "sparse", "--preset", "overcast", "--rate", "30", "--frames", "20")
    cameras = ("--cameras", "front", "--mount", "roof=0,0,4,0,-20", "--depth", "--address", ANY_PORT, "--wait", "60")
    with running_cli("toytown", "run", *arguments, *cameras, site=site) as run:
        address = run.wait_for_line("toytown: session").split(" on ")[1].split(" ")[0]
        with Subscriber(address, camera="front", kinds=(Kind.RGB, Kind.SEMANTIC, Kind.DEPTH), buffer=100) as subscriber:
            frames = list(islice(subscriber.frames(WAIT), 30))
        code, rest = run.finish()
    assert code == 0
    assert "published 20 ticks" in rest
    numbers = [frame.number for frame in frames if frame.kind is Kind.RGB]
    assert numbers == sorted(numbers)
    assert {(frame.width, frame.height) for frame in frames} == {(96, 48)}
    assert {frame.kind for frame in frames} == {Kind.RGB, Kind.SEMANTIC, Kind.DEPTH}


def test_the_command_records_and_stops_at_mistakes(site: Path, tmp_path: Path) -> None:
    folder = tmp_path / "town"
    small = ("--size", "64x32", "--preset", "dusk", "--traffic", "sparse")
    done = run_cli("toytown", "record", folder, "--frames", "2", *small, "--looks", "cg", "--flow", site=site)
    assert done.returncode == 0, done.stderr
    assert "wrote 2 ticks of 1 camera" in done.stderr
    assert sorted(path.name for path in folder.iterdir()) == [
        "flow",
        "manifest.jsonl",
        "recording.json",
        "rgb",
        "semantic",
    ]
    for arguments, sentence in (
        (("record", folder, "--looks", "oil"), "--looks 'oil' is not known"),
        (("record", folder, "--cameras", "periscope"), "the camera 'periscope' is not known"),
        (("run", "--lockstep", "--depth"), "--lockstep sends RGB and semantic frames only"),
    ):
        done = run_cli("toytown", *arguments, site=site)
        assert done.returncode == 2
        assert sentence in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_lockstep_with_a_bridge(site: Path, unused_tcp_ports: tuple[int, int]) -> None:
    """Every tick comes back before the next one is made; none is lost."""
    inlet, outlet = (f"tcp://127.0.0.1:{port}" for port in unused_tcp_ports)
    bridge_flags = ("--bundle", "null", "--mode", "lockstep", "--topic", "front", "--input", inlet, "--output", outlet)
    town = ("--cameras", "front", "--size", "96x48", "--preset", "overcast", "--frames", "15", "--lockstep")
    with running_cli(*bridge_flags, site=site):
        done = run_cli("toytown", "run", *town, "--address", inlet, "--photoreal", outlet, "--timeout", "50", site=site)
    assert done.returncode == 0, done.stderr
    assert "published 15 ticks" in done.stderr


def test_the_source_is_found_by_its_name() -> None:
    """Where the package is installed with these entry points."""
    try:
        found = load_source("toytown")
    except UsageError as error:
        pytest.skip(f"the installed sim-bridge is older than this checkout: {error}")
    assert isinstance(found, ToytownSource)
    assert isinstance(found, Source)
