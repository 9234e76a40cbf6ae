"""The client: three ways to read with their own failures, over real sockets; no sleeps, no fixed ports."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq
import zmq.auth

from sim_bridge.client import Publisher, Subscriber
from sim_bridge.errors import FrameTimeoutError, MissedFrameError, UsageError, WireError
from sim_bridge.frames import Encoding, Frame, Kind
from sim_bridge.wire import encode_status

LOOPBACK = "tcp://127.0.0.1:*"
PATIENCE = 20.0  # seconds; only a broken test waits this long


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    with Publisher(LOOPBACK, session="run") as opened:
        yield opened


def connect(publisher: Publisher, **options: Any) -> Subscriber:
    options = {"kinds": ("rgb",), **options}
    subscriber = Subscriber(publisher.address, **options)
    for kind in options["kinds"]:
        publisher.wait_for_subscriber(options.get("camera", "camera"), kind, PATIENCE)
    return subscriber


def send(
    publisher: Publisher, *numbers: int, kind: str = "rgb", session: str | None = None, camera: str = "camera"
) -> None:
    for number in numbers:
        shape, encoding, labels = ((4, 6, 3), "rgb8", None) if kind == "rgb" else ((4, 6), "mono8", "camvid")
        publisher.publish_image(
            camera,
            kind,
            number=number,
            time=number / 20,
            pixels=np.full(shape, number % 256, np.uint8),
            encoding=encoding,
            labels=labels,
            session=session,
        )


def wait_until_received(subscriber: Subscriber, count: int) -> None:
    """Waits on the subscriber's own condition, which every arrival notifies."""
    with subscriber._arrived:
        assert subscriber._arrived.wait_for(lambda: subscriber._counts["received"] >= count, PATIENCE)


def test_frames_come_in_order_and_as_sent(publisher: Publisher) -> None:
    pose = np.eye(4)
    pose[:3, 3] = (1.0, 2.0, 3.0)
    with connect(publisher) as subscriber:
        send(publisher, 1, 2)
        publisher.publish_image(
            "camera",
            Kind.RGB,
            number=3,
            time=0.15,
            pixels=np.zeros((2, 2, 4), np.uint8),
            encoding=Encoding.BGRA8,
            fov=90.0,
            pose=pose,
        )
        found = [subscriber.next_frame(PATIENCE) for _ in range(3)]
    assert [(frame.number, frame.session, frame.time) for frame in found] == [
        (1, "run", 0.05),
        (2, "run", 0.1),
        (3, "run", 0.15),
    ]
    assert (found[1].pixels == 2).all()
    assert found[2].fov == 90.0
    assert found[2].pose is not None
    assert np.array_equal(found[2].pose, pose)
    assert all(0 < frame.sent <= frame.received for frame in found)


def test_next_frame_times_out_with_a_sentence(publisher: Publisher) -> None:
    with (
        connect(publisher) as subscriber,
        pytest.raises(TimeoutError, match=r"rgb|did not come within 0\.01 s \(0 messages"),
    ):
        subscriber.next_frame(0.01)


def test_frames_ends_when_the_stream_does(publisher: Publisher) -> None:
    with connect(publisher) as subscriber:
        send(publisher, *range(5))
        wait_until_received(subscriber, 5)
        assert [frame.number for frame in subscriber.frames(timeout=0.05)] == [0, 1, 2, 3, 4]


def test_frames_of_an_address_where_nobody_is_end_with_a_warning(
    publisher: Publisher, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    with Subscriber(f"ipc://{tmp_path}/nobody", kinds=("rgb",)) as subscriber:
        assert list(subscriber.frames(0.05)) == []
    assert "did not come within 0.05 s (0 messages so far" in caplog.text
    caplog.clear()
    with connect(publisher) as subscriber:
        send(publisher, 1)
        assert [frame.number for frame in subscriber.frames(0.5)] == [1]
    assert not caplog.records


def test_only_the_camera_and_kinds_asked_for(publisher: Publisher) -> None:
    with connect(publisher, kinds=("rgb", "semantic"), camera="left") as subscriber:
        send(publisher, 1, camera="right")
        send(publisher, 2, camera="left", kind="semantic")
        send(publisher, 3, camera="left")
        assert [subscriber.next_frame(PATIENCE).topic for _ in range(2)] == ["left/semantic", "left/rgb"]


def test_latest_drops_what_is_older(publisher: Publisher) -> None:
    with connect(publisher) as subscriber:
        send(publisher, *range(6))
        wait_until_received(subscriber, 6)
        assert subscriber.latest(max_age_ms=60_000).number == 5
        assert subscriber.counts == {"received": 6, "malformed": 0, "dropped": 5}
        with pytest.raises(FrameTimeoutError, match="younger than 60000 ms"):
            subscriber.latest(max_age_ms=60_000)


def test_latest_refuses_frames_that_waited_too_long(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    with connect(publisher) as subscriber:
        send(publisher, 1)
        wait_until_received(subscriber, 1)
        later = time.time_ns() + 2_000_000_000
        with monkeypatch.context() as clock, pytest.raises(FrameTimeoutError, match="younger than 1000 ms"):
            clock.setattr("sim_bridge.client.time.time_ns", lambda: later)
            subscriber.latest(max_age_ms=1000)
        assert subscriber.next_frame(PATIENCE).number == 1  # too old for latest, but not lost


def test_latest_waits_when_told(publisher: Publisher) -> None:
    with connect(publisher) as subscriber:
        send(publisher, 8)
        assert subscriber.latest(max_age_ms=60_000, timeout=PATIENCE).number == 8


def test_exactly_frame_n(publisher: Publisher) -> None:
    with connect(publisher) as subscriber:
        send(publisher, 1, 2, 3, 5, 6)
        assert subscriber.frame(3, PATIENCE).number == 3
        with pytest.raises(MissedFrameError, match=r"frame 4 .* missed: frame 5"):
            subscriber.frame(4, PATIENCE)
        assert subscriber.frame(5, PATIENCE).number == 5
        assert subscriber.counts["dropped"] == 2
        with pytest.raises(FrameTimeoutError, match="frame 7"):
            send(publisher, 6)
            subscriber.frame(7, 0.01)


def test_frame_n_of_one_session_is_not_that_of_another(publisher: Publisher) -> None:
    with connect(publisher) as subscriber:
        send(publisher, 7, 8, session="old")
        send(publisher, 6, 7, session="new")
        assert subscriber.frame(7, PATIENCE, session="new").session == "new"
        send(publisher, 3, 4, session="newer")
        assert subscriber.frame(4, PATIENCE).session == "newer"


def test_frame_n_leaves_other_kinds_alone(publisher: Publisher) -> None:
    with connect(publisher, kinds=("rgb", "semantic")) as subscriber:
        for number in (1, 2, 3):
            send(publisher, number)
            send(publisher, number, kind="semantic")
        assert subscriber.frame(3, PATIENCE).kind is Kind.RGB
        assert subscriber.frame(2, PATIENCE, kind="semantic").number == 2
        assert subscriber.next_frame(PATIENCE).topic == "camera/semantic"
        with pytest.raises(UsageError, match="'depth' is not subscribed to"):
            subscriber.frame(4, PATIENCE, kind="depth")


def test_a_slow_reader_loses_the_oldest_and_knows_it(publisher: Publisher) -> None:
    with connect(publisher, buffer=3) as subscriber:
        send(publisher, *range(10))
        wait_until_received(subscriber, 10)
        assert [frame.number for frame in subscriber.frames(timeout=0.0)] == [7, 8, 9]
        assert subscriber.counts == {"received": 10, "malformed": 0, "dropped": 7}


def test_malformed_messages_are_counted_and_logged_once_per_cause(caplog: pytest.LogCaptureFixture) -> None:
    with zmq.Context() as context, context.socket(zmq.XPUB) as socket:
        socket.linger = 0
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        with Subscriber(f"tcp://127.0.0.1:{port}", kinds=("rgb",)) as subscriber, caplog.at_level(logging.WARNING):
            assert socket.poll(int(PATIENCE * 1000))
            for parts in (
                [b"camera/rgb"],
                [b"camera/rgb", b"\xc1", b""],
                [b"camera/rgb", b"\xc1", b""],
                [b"camera/rgbx", b"", b""],
            ):
                socket.send_multipart(parts)
            wait_until_received(subscriber, 4)
            assert subscriber.counts == {"received": 4, "malformed": 4, "dropped": 0}
            with pytest.raises(FrameTimeoutError, match="4 of them malformed"):
                subscriber.next_frame(0.0)
    assert len(caplog.records) == 3  # parts, header, topic


def test_status_messages_are_kept_apart() -> None:
    with zmq.Context() as context, context.socket(zmq.XPUB) as socket:
        socket.linger = 0
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        with Subscriber(f"tcp://127.0.0.1:{port}", kinds=("photoreal", "status")) as subscriber:
            for _ in range(2):
                assert socket.poll(int(PATIENCE * 1000))
                socket.recv()
            assert subscriber.status is None
            body = {"counters": {"camera/rgb": {"received": 3}}, "rates": {"published": 24.5}, "latency_ms": {}}
            socket.send_multipart(encode_status("camera", 5, body))
            wait_until_received(subscriber, 1)
            assert subscriber.status is not None
            assert subscriber.status.counters["camera/rgb"]["received"] == 3


def test_a_publisher_may_come_later_and_come_back(tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/stream"
    with Subscriber(address, kinds=("rgb",)) as subscriber:
        for session in ("first", "second"):
            with Publisher(address, session=session) as publisher:
                publisher.wait_for_subscriber("camera", "rgb", PATIENCE)
                send(publisher, 0)
                frame = subscriber.next_frame(PATIENCE)
                assert (frame.number, frame.session) == (0, session)


def test_close_ends_a_waiting_caller(publisher: Publisher) -> None:
    subscriber = connect(publisher)
    waiting = threading.Event()
    outcome: list[BaseException] = []

    def read() -> None:
        waiting.set()
        try:
            subscriber.next_frame(None)
        except FrameTimeoutError as error:
            outcome.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    assert waiting.wait(PATIENCE)
    subscriber.close()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert "closed" in str(outcome[0])
    subscriber.close()


def test_nobody_listens(publisher: Publisher) -> None:
    send(publisher, 1)  # goes nowhere, and waits for nobody
    with pytest.raises(FrameTimeoutError, match=r"nobody subscribed to camera/rgb .* within 0\.01 s"):
        publisher.wait_for_subscriber("camera", "rgb", 0.01)
    with connect(publisher), pytest.raises(FrameTimeoutError):
        publisher.wait_for_subscriber("camera", "semantic", 0.01)


def test_a_reader_that_never_reads_does_not_make_the_publisher_grow() -> None:
    pixels = np.zeros((1024, 2048, 3), np.uint8)  # 6 MiB: more than the kernel's buffers hold
    with Publisher(LOOPBACK, queue=4) as publisher, zmq.Context() as context, context.socket(zmq.SUB) as stalled:
        stalled.linger, stalled.rcvhwm = 0, 1
        stalled.subscribe(b"camera/rgb")
        stalled.connect(publisher.address)
        publisher.wait_for_subscriber("camera", "rgb", PATIENCE)
        started = time.monotonic()
        for number in range(40):
            publisher.publish_image("camera", "rgb", number=number, time=0.0, pixels=pixels, encoding="rgb8")
        assert time.monotonic() - started < PATIENCE
        arrived = 0
        while stalled.poll(500):
            stalled.recv_multipart()
            arrived += 1
        assert 1 <= arrived < 20
        publisher.close(linger=0)


def test_a_reader_that_keeps_up_loses_nothing_however_large_frames_are(publisher: Publisher) -> None:
    with connect(publisher) as subscriber:
        for side in (4, 700, 16, 900):
            pixels = np.zeros((side, side, 3), np.uint8)
            for number in range(100):
                publisher.publish_image("camera", "rgb", number=number, time=0.0, pixels=pixels, encoding="rgb8")
                assert subscriber.next_frame(PATIENCE).number == number


def test_copied_pixels_may_be_drawn_over(publisher: Publisher) -> None:
    pixels = np.zeros((256, 512, 3), np.uint8)
    with connect(publisher, buffer=8) as subscriber:
        for number in range(8):
            pixels[:] = number
            publisher.publish_image("camera", "rgb", number=number, time=0.0, pixels=pixels, encoding="rgb8")
        for number in range(8):
            assert (subscriber.next_frame(PATIENCE).pixels == number).all()


def test_sessions_differ_unless_given() -> None:
    with Publisher(LOOPBACK) as first, Publisher(LOOPBACK) as second:
        assert first.session != second.session
        assert first.address != second.address


@pytest.mark.parametrize("address", ["foo", "tcp://127.0.0.1", "tcp://:5556", "http://127.0.0.1:80", ""])
def test_addresses_that_are_none(address: str) -> None:
    for end in (Publisher, Subscriber):
        with pytest.raises(UsageError, match="address"):
            end(address)


def test_off_the_machine_only_when_said_so() -> None:
    for end, address in ((Publisher, "tcp://0.0.0.0:*"), (Subscriber, "tcp://192.0.2.1:5556")):
        with pytest.raises(UsageError, match="other machines"):
            end(address)
        end(address, insecure=True).close()


def test_off_the_machine_with_keys_and_only_for_those_who_hold_them(tmp_path: Path) -> None:
    zmq.auth.create_certificates(tmp_path, "sim-bridge")
    with Publisher("tcp://0.0.0.0:*", session="run", curve_keys=tmp_path) as publisher:
        address = publisher.address.replace("0.0.0.0", "127.0.0.1")
        with (
            Subscriber(address, kinds=("rgb",)) as stranger,
            Subscriber(address, kinds=("rgb",), curve_keys=tmp_path) as friend,
        ):
            publisher.wait_for_subscriber("camera", "rgb", PATIENCE)
            send(publisher, 1, 2)
            assert [friend.next_frame(PATIENCE).number for _ in range(2)] == [1, 2]
            with pytest.raises(FrameTimeoutError):
                stranger.next_frame(0.2)
    publisher.close()  # a second time


def test_missing_keys_and_impossible_ports_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="create_certificates"):
        Publisher("tcp://127.0.0.1:*", curve_keys=tmp_path)
    for end in (Publisher, Subscriber):
        with pytest.raises(UsageError, match="the port must be 1 to 65535"):
            end("tcp://127.0.0.1:99999")


def test_an_address_in_use_says_so(publisher: Publisher) -> None:
    with pytest.raises(UsageError, match="in use"):
        Publisher(publisher.address)


def test_a_second_publisher_on_an_ipc_path_is_refused_until_the_first_is_closed(tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/frames"
    with Publisher(address), pytest.raises(UsageError, match="in use"):
        Publisher(address)
    with Publisher(address) as later, connect(later) as subscriber:
        send(later, 1)
        assert subscriber.next_frame(PATIENCE).number == 1


def test_a_closed_publisher_says_so(publisher: Publisher) -> None:
    publisher.close()
    with pytest.raises(UsageError, match="is closed: make a new one"):
        send(publisher, 1)


def test_wrong_arguments_are_sentences(publisher: Publisher, tmp_path: Path) -> None:
    for options in ({"kinds": ()}, {"kinds": ("rbg",)}, {"buffer": 0}, {"curve_keys": tmp_path}):
        with pytest.raises(UsageError):
            Subscriber(publisher.address, **options)
    with pytest.raises(WireError, match="topic"):
        Subscriber(publisher.address, camera="a/b")
    with pytest.raises(UsageError, match="at least 4"):
        Publisher(LOOPBACK, queue=3)
    data = np.zeros(9, np.uint8)
    with pytest.raises(UsageError, match="pass size"):
        publisher.publish_image("camera", "rgb", number=1, time=0.0, pixels=data, encoding="jpeg")
    with pytest.raises(UsageError, match="encoding 'rgb16' is unknown"):
        publisher.publish_image("camera", "rgb", number=1, time=0.0, pixels=data, encoding="rgb16", size=(3, 3))
    with pytest.raises(WireError, match="labels"):
        publisher.publish_image(
            "camera", "semantic", number=1, time=0.0, pixels=np.zeros((2, 2), np.uint8), encoding="mono8"
        )


def test_compressed_frames_travel(publisher: Publisher) -> None:
    data = np.frombuffer(b"\xff\xd8 not looked at on the way", np.uint8)
    with connect(publisher) as subscriber:
        publisher.publish_image("camera", "rgb", number=1, time=0.0, pixels=data, encoding="jpeg", size=(640, 480))
        frame: Frame = subscriber.next_frame(PATIENCE)
    assert (frame.width, frame.height, frame.pixels.tobytes()) == (640, 480, data.tobytes())


def test_two_threads_publish_whole_messages(publisher: Publisher) -> None:
    count = 400
    with Publisher(LOOPBACK, queue=2 * count) as shared, connect(shared, buffer=2 * count) as subscriber:
        threads = [threading.Thread(target=send, args=(shared, *range(first, first + count))) for first in (0, count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        wait_until_received(subscriber, 2 * count)
        assert subscriber.counts == {"received": 2 * count, "malformed": 0, "dropped": 0}
        assert {subscriber.next_frame(0).number for _ in range(2 * count)} == set(range(2 * count))


def test_a_lossless_publisher_waits_for_room_until_it_is_stopped() -> None:
    stop = threading.Event()
    with Publisher(LOOPBACK, queue=4, lossless=True) as publisher, zmq.Context() as context:
        with context.socket(zmq.SUB) as subscriber:
            subscriber.rcvhwm = 1
            subscriber.subscribe("camera/rgb")
            subscriber.connect(publisher.address)
            assert publisher.wait_for_subscribers(["camera/rgb"], PATIENCE)
            sent: list[bool] = []
            pixels = np.zeros((1024, 1024, 3), np.uint8)
            frame = Frame("camera", Kind.RGB, 1, 0.0, "run", Encoding.RGB8, 1024, 1024, pixels, 0)

            def publish() -> None:
                while publisher.publish(frame, stop=stop):
                    sent.append(True)

            thread = threading.Thread(target=publish)
            thread.start()
            taken = 0
            subscriber.rcvtimeo = round(PATIENCE * 1000)
            while taken < 50:
                subscriber.recv_multipart()
                taken += 1
            stop.set()
            thread.join(PATIENCE)
            assert not thread.is_alive() and len(sent) >= taken
        publisher.close(0.0)


def test_waiting_for_subscribers_ends_when_stopped(publisher: Publisher) -> None:
    stop = threading.Event()
    stop.set()
    assert not publisher.wait_for_subscribers(["camera/rgb"], None, stop)
    assert not publisher.wait_for_subscribers(["camera/rgb"], 0.0)
