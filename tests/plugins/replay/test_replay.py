import errno
import os
import socket
import threading
from collections import Counter
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import zmq
import zmq.auth

from plugins.replay.command import send
from plugins.replay.faults import Arrival, FaultInjector, Faults
from plugins.replay.source import ReplaySource
from sim_bridge import wire
from sim_bridge.client import Subscriber
from sim_bridge.errors import UsageError
from sim_bridge.frames import Encoding, Frame, Kind
from sim_bridge.pixels.labels import ids_from_image, taxonomy
from sim_bridge.sources import Source, load_source
from sim_bridge.wire.transport import KEY_NAME, CurveKeys, FrameReceiver
from tests.sim_bridge.recording_helpers import (
    TAXONOMY,
    WAIT,
    class_ids,
    data,
    data_folder,
    make_recording,
    palette_image,
    picture,
    run_cli,
    running_cli,
    site,
    write_rgb,
)

__all__ = ["site"]

ANY_PORT = "tcp://127.0.0.1:*"


def ticks(count: int) -> list[Frame]:
    pixels = np.zeros((1, 1), np.uint8)
    return [
        Frame("camera", kind, number, 0.0, "s", Encoding.MONO8, 1, 1, pixels, 0)
        for number in range(count)
        for kind in (Kind.RGB, Kind.SEMANTIC)
    ]


def injected(faults: Faults, count: int = 500) -> tuple[list[tuple[int, Kind]], Counter[str], list[float]]:
    injector = FaultInjector(faults)
    deliveries = list(injector.deliveries(Arrival(0.0, frame) for frame in ticks(count)))
    return [(d.frame.number, d.frame.kind) for d in deliveries], injector.counts, [d.due for d in deliveries]


def test_no_faults_change_nothing() -> None:
    sent, counts, delays = injected(Faults())
    assert sent == [(frame.number, frame.kind) for frame in ticks(500)]
    assert not any(counts.values())
    assert not any(delays)


def test_the_same_seed_gives_the_same_faults() -> None:
    faults = Faults(drop=0.1, duplicate=0.05, reorder=3, delay=0.01, seed=7)
    assert injected(faults) == injected(faults)
    assert injected(faults) != injected(Faults(drop=0.1, duplicate=0.05, reorder=3, delay=0.01, seed=8))


def test_faults_are_counted_and_add_up() -> None:
    sent, counts, delays = injected(Faults(drop=0.1, duplicate=0.05, reorder=3, delay=0.01, seed=1))
    assert len(sent) == 1000 - counts["dropped"] + counts["duplicated"]
    assert 60 < counts["dropped"] < 140
    assert 20 < counts["duplicated"] < 80
    assert max(Counter(sent).values()) == 2
    newest, late = -1, 0
    for number, _ in sent:
        late += number < newest
        newest = max(newest, number)
    assert late == counts["reordered"] > 100
    assert 0 < max(delays) <= 0.01


def test_no_message_is_later_than_asked_for() -> None:
    sent, _, _ = injected(Faults(reorder=3, seed=3))
    newest = -1
    for number, _ in sent:
        newest = max(newest, number)
        assert newest - number <= 3
    assert sorted(sent) == sorted((frame.number, frame.kind) for frame in ticks(500))


def test_one_fault_leaves_the_others_in_place() -> None:
    alone, _, _ = injected(Faults(drop=0.1, seed=5))
    together, _, _ = injected(Faults(drop=0.1, duplicate=0.3, reorder=2, delay=1.0, seed=5))
    assert set(alone) == set(together)


class FakeTime(threading.Event):
    """A clock that only waiting moves on."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.now += timeout
        return False


def delivered(faults: Faults, rate: float, count: int) -> list[tuple[float, float, int]]:
    """Publishes ticks at a rate: for each message when it was due, when it went out, and its frame number."""
    fake, sent = FakeTime(), []

    def publish(frame: Frame) -> bool:
        sent.append((frame.number / rate, fake.now - 1000.0, frame.number))
        return True

    arrivals = (Arrival(frame.number / rate, frame) for frame in ticks(count))
    assert send(FaultInjector(faults).deliveries(arrivals), publish, fake, lambda: fake.now) == len(sent)
    return sent


def test_delays_do_not_add_up_and_keep_the_order() -> None:
    sent = delivered(Faults(delay=0.1, seed=2), rate=50.0, count=30)
    late = [out - due for due, out, _ in sent]
    assert min(late) >= 0
    assert max(late) <= 0.1 + 1e-9
    assert len({round(value, 6) for value in late}) > 10
    assert [number for _, _, number in sent] == sorted(number for _, _, number in sent)
    assert sent[-1][1] <= 29 / 50 + 0.1 + 1e-9


def test_delays_and_reordering_go_together() -> None:
    sent = delivered(Faults(delay=0.05, reorder=3, seed=2), rate=20.0, count=100)
    numbers = [number for _, _, number in sent]
    assert numbers != sorted(numbers)
    assert all(0 <= out - due <= 3 / 20 + 0.05 + 1e-9 for due, out, _ in sent)
    assert all(early <= late for (_, early, _), (_, late, _) in pairwise(sent))


def test_without_faults_messages_go_out_when_they_are_due() -> None:
    assert all(out == pytest.approx(due) for due, out, _ in delivered(Faults(), rate=20.0, count=20))


def test_source_schedules_what_it_yields(tmp_path: Path) -> None:
    root = make_recording(tmp_path / "r", [3, 9, 12])
    scheduled = [(due, frame.number) for due, frame in opened(root, rate=10.0).scheduled()]
    assert scheduled == [(0.0, 3), (0.0, 3), (0.1, 9), (0.1, 9), (0.2, 12), (0.2, 12)]


def test_delay_needs_a_rate(tmp_path: Path, site: Path) -> None:
    root = make_recording(tmp_path / "r", [1])
    done = run_cli("replay", root, "--delay", "5", "--rate", "0", "--wait", "0", "--address", ANY_PORT, site=site)
    assert done.returncode == 2
    assert "--delay 5 needs a --rate above 0" in done.stderr


def test_everything_lost() -> None:
    sent, counts, _ = injected(Faults(drop=1.0))
    assert sent == []
    assert counts["dropped"] == 1000


def opened(root: Path, **options: object) -> ReplaySource:
    source = ReplaySource()
    source.open({"folder": root, "rate": 0.0, **options})
    return source


def test_source_yields_every_image_exactly(tmp_path: Path) -> None:
    source = opened(make_recording(tmp_path / "r", [3, 9]))
    assert isinstance(source, Source)
    frames = list(source)
    assert [(frame.number, frame.kind) for frame in frames] == [
        (3, Kind.RGB),
        (3, Kind.SEMANTIC),
        (9, Kind.RGB),
        (9, Kind.SEMANTIC),
    ]
    assert (frames[2].pixels == picture(9)).all()
    assert (frames[3].pixels == class_ids(9)).all()
    assert [frame.time for frame in frames[::2]] == [3 * 0.05, 9 * 0.05]
    assert frames[1].labels == TAXONOMY
    assert frames[0].labels is None
    assert len({frame.session for frame in frames}) == 1


def test_loop_is_a_new_session_each_pass(tmp_path: Path) -> None:
    source = opened(make_recording(tmp_path / "r", [1, 2]), loop=True, frames=5)
    frames = list(source)
    assert [frame.number for frame in frames[::2]] == [1, 2, 1, 2, 1]
    sessions = [frame.session for frame in frames[::2]]
    assert sessions[0] == sessions[1] != sessions[2] == sessions[3] != sessions[4] != sessions[0]
    assert (source.published, source.passes) == (5, 3)
    assert (frames[4].pixels == picture(1)).all()


def test_two_runs_are_two_sessions(tmp_path: Path) -> None:
    root = make_recording(tmp_path / "r", [1])
    assert next(iter(opened(root))).session != next(iter(opened(root))).session


def test_cameras_share_their_ticks(tmp_path: Path) -> None:
    root = make_recording(tmp_path / "r", [1, 2], cameras=("left", "right"))
    order = [(frame.number, frame.topic) for frame in opened(root)]
    assert order[:4] == [(1, "left/rgb"), (1, "left/semantic"), (1, "right/rgb"), (1, "right/semantic")]
    assert {topic for _, topic in ((frame.number, frame.topic) for frame in opened(root, camera="right"))} == {
        "right/rgb",
        "right/semantic",
    }


def test_broken_frame_is_left_out_once_per_frame(tmp_path: Path) -> None:
    root = make_recording(tmp_path / "r", [1, 2, 3])
    broken = root / "rgb" / "000002.png"
    broken.write_bytes(broken.read_bytes()[:-200])
    source = opened(root, loop=True, frames=4)
    assert [frame.number for frame in list(source)[::2]] == [1, 3, 1, 3]
    assert list(source.problems) == [("camera", 2)]


def test_loop_over_nothing_but_broken_frames_ends(tmp_path: Path) -> None:
    root = make_recording(tmp_path / "r", [1])
    (root / "semantic" / "000001.png").unlink()
    assert list(opened(root, loop=True)) == []


def test_closing_ends_a_paced_iteration(tmp_path: Path) -> None:
    source = opened(make_recording(tmp_path / "r", [1, 2]), rate=0.001, loop=True)
    frames = iter(source)
    assert [next(frames).number, next(frames).number] == [1, 1]  # the next tick would come after 1000 s
    source.close()
    assert list(frames) == []


@pytest.mark.parametrize(
    ("options", "part"),
    [({"rate": -1.0}, "'rate' is -1.0"), ({"speed": 2}, "'speed' is 2"), ({"frames": 0}, "'frames' is 0")],
)
def test_bad_options_are_named(tmp_path: Path, options: dict[str, object], part: str) -> None:
    with pytest.raises(UsageError, match=part):
        opened(make_recording(tmp_path / "r", [1]), **options)


def test_source_is_found_by_its_name(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(site))
    assert isinstance(load_source("replay"), ReplaySource)
    with pytest.raises(UsageError, match="did you mean 'replay'"):
        load_source("replai")


def test_process_publishes_the_folder(tmp_path: Path, site: Path) -> None:
    numbers = list(range(40))
    root = make_recording(tmp_path / "r", numbers)
    with running_cli("replay", root, "--address", ANY_PORT, "--rate", "0", site=site) as replay:
        address = replay.wait_for_line("waiting for a subscriber").split(" on ")[1].split(",")[0]
        with Subscriber(address, kinds=(Kind.RGB, Kind.SEMANTIC), buffer=100) as subscriber:
            frames = [subscriber.next_frame(WAIT) for _ in range(80)]
        code, rest = replay.finish()
    assert code == 0
    assert "published 80 messages of 40 frames in 1 pass" in rest
    assert [frame.number for frame in frames[::2]] == numbers
    assert all((frame.pixels == picture(frame.number)).all() for frame in frames[::2])
    assert all((frame.pixels == class_ids(frame.number)).all() for frame in frames[1::2])
    assert len({frame.session for frame in frames}) == 1
    sent = [frame.sent for frame in frames]
    assert all(early <= late for early, late in pairwise(sent))


def test_rate_zero_waits_for_a_slow_subscriber(tmp_path: Path, site: Path) -> None:
    """Frames of 3 MB against queues of a few messages: a publisher that drops would lose most of them."""
    root = make_recording(tmp_path / "r", [1, 2], size=(1024, 1024))
    arguments = ("--address", ANY_PORT, "--rate", "0", "--loop", "--frames", "60")
    with running_cli("replay", root, *arguments, site=site) as replay:
        address = replay.wait_for_line("waiting for a subscriber").split(" on ")[1].split(",")[0]
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        with context, context.socket(zmq.SUB) as subscriber:
            subscriber.rcvhwm = 2
            subscriber.rcvtimeo = round(WAIT * 1000)
            subscriber.subscribe("camera/")
            subscriber.connect(address)
            received = []
            for _ in range(120):
                frame = wire.decode(subscriber.recv_multipart(copy=False), received=0)
                assert isinstance(frame, Frame)
                received.append((frame.session, frame.number, frame.kind))
        assert replay.finish()[0] == 0
    assert len(set(received)) == 120


def test_palette_images_arrive_as_ids(tmp_path: Path, site: Path) -> None:
    ids = class_ids(1)
    write_rgb(tmp_path / "rgb" / "shot_0007.png", picture(1))
    write_rgb(tmp_path / "seg" / "seg_7.png", palette_image(ids))
    globs = ("--rgb", "rgb/*.png", "--semantic", "seg/*.png", "--labels", TAXONOMY, "--camera", "front")
    with running_cli("replay", tmp_path, *globs, "--address", ANY_PORT, site=site) as replay:
        assert "1 pair of RGB and labels made by the last number" in replay.wait_for_line("made by")
        address = replay.wait_for_line("waiting for a subscriber").split(" on ")[1].split(",")[0]
        with Subscriber(address, camera="front", kinds=(Kind.SEMANTIC, Kind.RGB)) as subscriber:
            frame = subscriber.frame(7, WAIT, kind=Kind.SEMANTIC)
        assert replay.finish()[0] == 0
    assert frame.labels == TAXONOMY
    assert (palette_image(np.asarray(frame.pixels, np.uint8)) == palette_image(ids)).all()


def test_sizes_that_differ_are_refused(tmp_path: Path, site: Path) -> None:
    write_rgb(tmp_path / "1_rgb.png", picture(1, (80, 60)))
    write_rgb(tmp_path / "1_seg.png", class_ids(1, (80, 80)))
    globs = ("--rgb", "*_rgb.png", "--semantic", "*_seg.png", "--labels", TAXONOMY)
    done = run_cli("replay", tmp_path, *globs, "--address", ANY_PORT, "--wait", "0", site=site)
    assert done.returncode == 1
    assert "1_rgb.png is 80x60 and its labels" in done.stderr
    assert "1_seg.png are 80x80 pixels, but a pair must agree" in done.stderr
    assert "published 0 messages" in done.stderr
    assert "Traceback" not in done.stderr


def test_nobody_listens(tmp_path: Path, site: Path) -> None:
    root = make_recording(tmp_path / "r", [1])
    done = run_cli("replay", root, "--address", ANY_PORT, "--wait", "0.1", site=site)
    assert done.returncode == 1
    assert "nobody subscribed within 0.1 s: start sim-bridge, or give --wait 0" in done.stderr


def test_address_in_use_is_the_users_mistake(tmp_path: Path, site: Path) -> None:
    root = make_recording(tmp_path / "r", [1])
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        done = run_cli("replay", root, "--address", address, site=site)
    assert done.returncode == 2
    assert f"cannot bind {address} ({os.strerror(errno.EADDRINUSE)})" in done.stderr


def test_address_off_the_machine_needs_consent(tmp_path: Path, site: Path) -> None:
    done = run_cli("replay", make_recording(tmp_path / "r", [1]), "--address", "tcp://0.0.0.0:*", site=site)
    assert done.returncode == 2
    assert "--insecure" in done.stderr


def test_keys_keep_strangers_out(tmp_path: Path, site: Path) -> None:
    root = make_recording(tmp_path / "r", [1])
    for folder in ("ours", "theirs"):
        (tmp_path / folder).mkdir()
        zmq.auth.create_certificates(tmp_path / folder, KEY_NAME)
    ours, theirs = CurveKeys.load(tmp_path / "ours"), CurveKeys.load(tmp_path / "theirs")
    stranger = CurveKeys(ours.public, theirs.secret, theirs.folder)  # knows the server's key, has none that is listed
    with running_cli("replay", root, "--address", ANY_PORT, "--loop", "--curve-keys", ours.folder, site=site) as replay:
        address = replay.wait_for_line("waiting for a subscriber").split(" on ")[1].split(",")[0]
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        with context, FrameReceiver(context, address, ["camera/"], keys=ours) as friend:
            assert friend.receive(WAIT) is not None
            with FrameReceiver(context, address, ["camera/"], keys=stranger) as refused:
                assert refused.receive(1.0) is None
            assert friend.receive(WAIT) is not None
        assert replay.interrupt()[0] == 0


def test_interrupt_ends_a_loop_in_good_order(tmp_path: Path, site: Path) -> None:
    root = make_recording(tmp_path / "r", [1, 2])
    with running_cli("replay", root, "--loop", "--rate", "500", "--address", ANY_PORT, site=site) as replay:
        address = replay.wait_for_line("waiting for a subscriber").split(" on ")[1].split(",")[0]
        with Subscriber(address, kinds=(Kind.RGB, Kind.SEMANTIC)) as subscriber:
            sessions = {subscriber.next_frame(WAIT).session for _ in range(12)}
        code, rest = replay.interrupt()
    assert code == 0
    assert len(sessions) >= 3
    assert "published" in rest


def test_help_reads_well(site: Path) -> None:
    done = run_cli("replay", "--help", site=site)
    assert done.returncode == 0
    assert "SRC" in done.stdout
    assert "folder}" not in done.stdout
    for flag in ("--rgb", "--semantic", "--labels", "--rate", "--loop", "--drop", "--reorder", "--seed", "--wait"):
        assert flag in done.stdout


@data
def test_real_082_capture_is_refused(site: Path) -> None:
    folder = data_folder() / "carla" / "carla_0.8.2_hiit"
    globs = ("--rgb", "*_rgb.png", "--semantic", "*_seg.png", "--labels", "carla-0.9.0")
    done = run_cli("replay", folder, *globs, "--address", ANY_PORT, "--wait", "0", site=site)
    assert done.returncode == 1
    assert "_rgb.png is 800x600 and its labels" in done.stderr
    assert "_seg.png are 800x800 pixels, but a pair must agree" in done.stderr


@data
def test_real_palette_capture_arrives_as_ids(site: Path) -> None:
    folder = data_folder() / "carla" / "carla_0.9.12_alexacarlson_town07"
    globs = ("--rgb", "rgb/*.png", "--semantic", "sem/*.png", "--labels", "carla-0.9.10")
    with running_cli("replay", folder, *globs, "--address", ANY_PORT, "--rate", "0", site=site) as replay:
        address = replay.wait_for_line("waiting for a subscriber").split(" on ")[1].split(",")[0]
        with Subscriber(address, kinds=(Kind.SEMANTIC, Kind.RGB)) as subscriber:
            frame = subscriber.frame(11, WAIT, kind=Kind.SEMANTIC)
        assert replay.finish()[0] == 0
    stored = cv2.imread(str(folder / "sem" / "000011_cityscapes.png"), cv2.IMREAD_UNCHANGED)
    assert stored is not None
    assert (frame.pixels == ids_from_image(stored, taxonomy("carla-0.9.10"))).all()
