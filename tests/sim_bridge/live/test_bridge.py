import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import msgpack
import numpy as np
import pytest
import zmq

from sim_bridge import wire
from sim_bridge.client import Subscriber
from sim_bridge.errors import TranslatorError, UsageError
from sim_bridge.frames import Encoding, Frame, FrameStatus, Kind
from sim_bridge.live.bridge import Bridge, run_until_signalled
from sim_bridge.live.latency import Stage
from sim_bridge.live.ledger import Outcome
from sim_bridge.live.once import MAX_LINES
from sim_bridge.pixels.images import read_image
from sim_bridge.pixels.labels import ids_from_image, taxonomy
from sim_bridge.translators import ByteArray, Reason, Shot, Style, Translation
from sim_bridge.wire import StatusMessage
from sim_bridge.wire.transport import FrameSender
from tests.sim_bridge.bridge_helpers import (
    ANY_PORT,
    WAIT,
    BlockingTranslator,
    BridgeProcess,
    FailingTranslator,
    Reader,
    Simulator,
    StampTranslator,
    make_frame,
    make_pair,
    make_settings,
    running,
    shows_its_tick,
    streaming,
)


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


def counted(**wanted: int) -> Callable[[StatusMessage], bool]:
    """Whether a status message's RGB counters say at least this."""

    def fits(status: StatusMessage) -> bool:
        counters = status.counters["camera/rgb"]
        return all(counters[name] >= number for name, number in wanted.items())

    return fits


def test_a_published_frame_says_what_it_is_and_where_it_comes_from(simulator: Simulator) -> None:
    rgb, semantic = make_pair(41, "run 7")
    pose = np.eye(4)
    pose[:3, 3] = 1, 2, 3
    rgb = replace(rgb, pose=pose)
    before = time.time_ns()
    with streaming(simulator, StampTranslator(), style_seed=5) as (_, reader):
        simulator.send(semantic, rgb)
        frame = reader.frame()

    assert (frame.camera, frame.kind, frame.number, frame.session) == ("camera", Kind.PHOTOREAL, 41, "run 7")
    assert (frame.time, frame.fov, frame.sent) == (rgb.time, 90.0, rgb.sent)
    assert frame.pose is not None
    assert np.array_equal(frame.pose, pose)
    assert (frame.encoding, frame.width, frame.height) == (Encoding.RGB8, 16, 8)
    assert shows_its_tick(frame)
    assert frame.provenance is not None
    assert frame.provenance.status is FrameStatus.FRESH
    assert (frame.provenance.model, frame.provenance.seed) == ("0" * 12, 5)
    stamps = frame.provenance.received, frame.provenance.inferred, frame.provenance.published, time.time_ns()
    assert before < stamps[0] <= stamps[1] <= stamps[2] <= stamps[3]


@pytest.mark.parametrize("encoding", [Encoding.BGRA8, Encoding.BGR8, Encoding.PNG, Encoding.JPEG])
def test_a_frame_leaves_in_the_encoding_in_which_it_came(simulator: Simulator, encoding: Encoding) -> None:
    rgb, semantic = make_pair(3)
    bgr = np.ascontiguousarray(rgb.pixels[..., ::-1]).astype(np.uint8)
    pixels: ByteArray = bgr
    extension = {Encoding.PNG: ".png", Encoding.JPEG: ".jpg"}.get(encoding)
    if extension is not None:
        pixels = np.frombuffer(cv2.imencode(extension, bgr)[1].tobytes(), np.uint8)
    elif encoding is Encoding.BGRA8:
        pixels = np.dstack([bgr, np.zeros(bgr.shape[:2], np.uint8)])
    with streaming(simulator, StampTranslator()) as (_, reader):
        simulator.send(replace(rgb, encoding=encoding, pixels=pixels), semantic)
        frame = reader.frame()
    assert frame.encoding is encoding
    if encoding is Encoding.BGRA8:
        assert (frame.pixels[..., 3] == 255).all()
    if encoding in (Encoding.BGRA8, Encoding.BGR8):
        assert shows_its_tick(replace(frame, pixels=frame.pixels[..., 2::-1]))


def test_size_is_the_networks_and_the_published_one(simulator: Simulator) -> None:
    with streaming(simulator, StampTranslator(), size=(32, 16)) as (_, reader):
        simulator.send(*make_pair(0, size=(64, 32)))
        frame = reader.frame()
    assert (frame.width, frame.height) == (32, 16)
    assert shows_its_tick(frame)


def test_several_cameras_share_one_translator_and_keep_apart(simulator: Simulator) -> None:
    names = ("front", "rear")
    with running(make_settings(simulator.address, topics=names), StampTranslator()) as bridge:
        readers = [Reader(bridge.bridge.output_address, name) for name in names]
        simulator.wait_for_subscriptions(4)
        for number in range(20):
            for name in names:
                simulator.send(*make_pair(number, name, camera=name))
            for name, reader in zip(names, readers, strict=True):
                frame = reader.frame()
                assert (frame.camera, frame.session, frame.number) == (name, name, number)
                assert shows_its_tick(frame)
        for reader in readers:
            reader.close()


def changed(rgb: Frame, **changes: object) -> list[bytes]:
    topic, header, payload = wire.encode(rgb)
    return [bytes(topic), msgpack.packb(msgpack.unpackb(header) | changes), bytes(payload)]


def huge_jpeg() -> Frame:
    """A few bytes that say they are 8192x8192 pixels: legal on the wire, too much for a bridge that was not told."""
    pixels = np.frombuffer(b"\xff\xd8\xff", np.uint8)
    return replace(make_frame(Kind.RGB, 1), encoding=Encoding.JPEG, width=8192, height=8192, pixels=pixels)


def malformed() -> dict[str, Sequence[bytes]]:
    rgb = make_frame(Kind.RGB, 1)
    topic, header, payload = (bytes(part) for part in wire.encode(rgb))
    return {
        "one part": [topic],
        "four parts": [topic, header, payload, b""],
        "no msgpack": [topic, b"\xc1\xff", payload],
        "nested": [topic, b"\x91" * 2000, payload],
        "version": changed(rgb, v=2),
        "type": changed(rgb, frame="one"),
        "short": [topic, header, payload[:-1]],
        "zero": changed(rgb, width=0),
        "huge": changed(rgb, width=2**40),
        "stamp": changed(rgb, sent=2**64 - 1),
        "above max_pixels": [bytes(part) for part in wire.encode(huge_jpeg())],
        "longer topic": [b"camera/rgbx", header, payload],
        "kind below topic": [topic, *map(bytes, wire.encode(make_frame(Kind.SEMANTIC, 1))[1:])],
    }


def test_malformed_input_is_counted_logged_once_per_cause_and_never_fatal(
    simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    bad = malformed()
    with streaming(simulator, StampTranslator()) as (bridge, reader):
        for _ in range(3):
            for parts in bad.values():
                simulator.send_raw(parts)
        simulator.send(*make_pair(1))
        assert reader.frame().number == 1
        rgb = bridge.bridge.ledger.snapshot()["camera/rgb"]
        assert bridge.end() == 0
    assert rgb.outcomes[Outcome.MALFORMED] == 3 * len(bad)
    assert rgb.received == 3 * len(bad) + 1
    lines = [record.message for record in caplog.records if "malformed" in record.message]
    assert len(lines) == len(set(lines))
    assert len(lines) < len(bad) + 1
    for cause in ("version", "msgpack", "parts", "bytes", "'sent'", "--max-pixels"):
        assert any(cause in line for line in lines), (cause, lines)


@pytest.mark.parametrize("sent", [0, 1, 2**63 - 1])
def test_no_stamp_of_a_simulator_ends_the_bridge(simulator: Simulator, sent: int) -> None:
    with streaming(simulator, StampTranslator()) as (bridge, reader):
        for number in range(2):
            rgb, semantic = make_pair(number)
            simulator.send(replace(rgb, sent=sent), replace(semantic, sent=sent))
            assert reader.frame().sent == sent
        status = reader.status(until=counted(published=2))
        assert status.latency_ms["age"]["p50"] == pytest.approx((time.time_ns() - sent) / 1e6, rel=1e-3)
        assert bridge.end() == 0


def test_the_largest_frame_can_be_raised(simulator: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    with streaming(simulator, StampTranslator(), max_pixels=400) as (_, reader):
        simulator.send(*make_pair(0, size=(21, 20)))
        reader.status(until=counted(malformed=1))
        simulator.send(*make_pair(1, size=(20, 20)))
        assert reader.frame().number == 1
    assert any("21x20" in line and "at most 400 in all" in line for line in warnings_in(caplog))


def test_a_compressed_frame_cannot_hide_its_size_from_the_limit(
    simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    big = np.frombuffer(cv2.imencode(".png", np.zeros((64, 64, 3), np.uint8))[1].tobytes(), np.uint8)
    with streaming(simulator, StampTranslator(), max_pixels=400) as (_, reader):
        rgb, semantic = make_pair(0)
        simulator.send(replace(rgb, encoding=Encoding.PNG, pixels=big), semantic)
        reader.status(until=counted(failed=1))
        simulator.send(*make_pair(1))
        assert reader.frame().number == 1
    assert any("64x64 pixels, but 16x8 were announced" in line for line in warnings_in(caplog))


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the stages complained about."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "sim_bridge.live.shared" and record.levelno == logging.WARNING
    ]


def test_rgb_without_labels_is_explained_once(simulator: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    with streaming(simulator, StampTranslator()) as (_, reader):
        simulator.send(*(make_frame(Kind.RGB, number) for number in range(100)))
        reader.status(until=counted(unpaired=92))
    (line,) = warnings_in(caplog)
    assert "no semantic frame at all: publish 'camera/semantic'" in line


def test_after_one_wild_number_the_late_ones_are_explained_once(
    simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    with streaming(simulator, StampTranslator()) as (_, reader):
        for number in (3, 2**40, *range(4, 24)):
            simulator.send(*make_pair(number))
        reader.status(until=counted(late=20))
    (line,) = warnings_in(caplog)
    assert f"frame 4 is older than frame {2**40}" in line


def test_a_simulator_that_starts_again_under_its_old_session_is_explained_once(
    simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    with streaming(simulator, StampTranslator()) as (_, reader):
        for number in (*range(100, 110), *range(110), 110):
            simulator.send(*make_pair(number))
        reader.status(until=counted(late=100, duplicate=10))
    late, duplicate = warnings_in(caplog)
    assert "frame 0 is older than frame 109" in late
    assert "frame 100 of session 's' came before" in duplicate
    assert "new session id" in late
    assert "new session id" in duplicate


def test_a_new_kind_of_failure_is_logged_whatever_failed_before(
    simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    with streaming(simulator, FailingTranslator(RuntimeError("out of memory"))) as (_, reader):
        sessions = 300
        for number in range(sessions):
            simulator.send(make_frame(Kind.RGB, 0, f"run {number}"))
        reader.status(until=counted(unpaired=sessions - 1))
        assert len(warnings_in(caplog)) == MAX_LINES
        simulator.send(*make_pair(0, "the last"))
        reader.status(until=counted(failed=1))
    assert "out of memory" in warnings_in(caplog)[-1]


DATA = os.environ.get("SIM_BRIDGE_DATA")


@pytest.mark.skipif(DATA is None, reason="SIM_BRIDGE_DATA does not name the folder with the captures")
def test_the_real_capture_whose_sizes_differ_is_mismatched(
    simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Path(str(DATA)) / "carla" / "carla_0.8.2_hiit"
    (rgb_file,), (semantic_file,) = folder.glob("*_rgb.png"), folder.glob("*_seg.png")
    ids = ids_from_image(np.asarray(read_image(semantic_file), np.uint8), taxonomy("carla-0.9.0"))
    height, width = ids.shape
    rgb, semantic = make_pair(0)
    rgb = replace(rgb, encoding=Encoding.PNG, width=800, height=600, pixels=np.fromfile(rgb_file, np.uint8))
    semantic = replace(semantic, width=width, height=height, pixels=ids, labels="carla-0.9.0")
    with streaming(simulator, StampTranslator()) as (bridge, reader):
        for number in range(3):
            simulator.send(replace(rgb, number=number), replace(semantic, number=number))
        simulator.send(*make_pair(3))
        assert reader.frame().number == 3
        assert bridge.end() == 0
    for count in bridge.bridge.ledger.snapshot().values():
        assert count.outcomes == {Outcome.MISMATCHED: 3, Outcome.PUBLISHED: 1}
    (line,) = warnings_in(caplog)
    assert "800x600" in line
    assert "800x800" in line


@pytest.mark.parametrize("extension", [".png", ".jpg"])
def test_a_broken_picture_costs_its_pair_and_is_explained_once(
    simulator: Simulator, caplog: pytest.LogCaptureFixture, extension: str
) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (8, 16, 3), np.uint8)
    whole = cv2.imencode(extension, noise)[1].tobytes()
    encoding = Encoding.PNG if extension == ".png" else Encoding.JPEG
    broken = (whole[: len(whole) // 2], whole[:-2], whole[:1], b"x" * 100)
    with streaming(simulator, StampTranslator()) as (bridge, reader):
        for number, data in enumerate(broken):
            rgb, semantic = make_pair(number)
            simulator.send(replace(rgb, encoding=encoding, pixels=np.frombuffer(data, np.uint8)), semantic)
            reader.status(until=counted(failed=number + 1))
        simulator.send(*make_pair(len(broken)))
        assert reader.frame().number == len(broken)
        assert bridge.end() == 0
    for count in bridge.bridge.ledger.snapshot().values():
        assert count.outcomes == {Outcome.FAILED: len(broken), Outcome.PUBLISHED: 1}
    (line,) = warnings_in(caplog)
    assert "frame 0: the image payload is a truncated" in line


def test_rgb_and_semantic_of_different_sizes_are_mismatched(
    simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    with streaming(simulator, StampTranslator()) as (bridge, reader):
        for number in range(3):
            rgb = make_frame(Kind.RGB, number, size=(80, 60))
            simulator.send(rgb, make_frame(Kind.SEMANTIC, number, size=(40, 30)))
        simulator.send(*make_pair(3))
        assert reader.frame().number == 3
        counts = bridge.bridge.ledger.snapshot()
    assert all(count.outcomes[Outcome.MISMATCHED] == 3 for count in counts.values())
    assert sum("80x60" in record.message and "40x30" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": "carla-7"}, "carla-7"),
        ({"pixels": np.full((8, 16), 200, np.uint8)}, "200"),
        ({"encoding": Encoding.PNG, "pixels": np.frombuffer(b"\x89PNG\r\n\x1a\n", np.uint8)}, ""),
    ],
    ids=["unknown taxonomy", "id out of range", "truncated png"],
)
def test_labels_that_cannot_be_used_cost_their_pair_and_are_explained_once(
    simulator: Simulator, caplog: pytest.LogCaptureFixture, change: dict[str, object], words: str
) -> None:
    with streaming(simulator, StampTranslator()) as (_, reader):
        for number in range(3):
            rgb, semantic = make_pair(number)
            simulator.send(rgb, replace(semantic, **change))  # type: ignore[arg-type]
            reader.status(until=counted(failed=number + 1))
        simulator.send(*make_pair(3))
        assert reader.frame().number == 3
    lines = [record for record in caplog.records if record.levelno == logging.WARNING and "frame 0" in record.message]
    assert len(lines) == 1
    assert words in lines[0].message
    assert not [record for record in caplog.records if "frame 1" in record.message]


@pytest.mark.parametrize("error", [TranslatorError("too large: 9, at most 8"), RuntimeError("out of memory")])
def test_a_failing_network_costs_its_frames_only(
    simulator: Simulator, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    translator = FailingTranslator(error, lambda call: call <= 3)
    with streaming(simulator, translator) as (_, reader):
        for number in range(3):
            simulator.send(*make_pair(number))
            reader.status(until=counted(failed=number + 1))
        simulator.send(*make_pair(3))
        assert reader.frame().number == 3
    (line,) = [record for record in caplog.records if str(error) in record.message]
    # Our own errors are sentences for the user; anything else is somebody's bug and needs its traceback.
    assert (line.exc_info is not None) == isinstance(error, RuntimeError)


def test_passing_the_cg_frame_on_when_the_network_fails(simulator: Simulator) -> None:
    translator = FailingTranslator(RuntimeError("broken"), lambda call: call == 1)
    with streaming(simulator, translator, on_error="passthrough") as (bridge, reader):
        frames = []
        for number in range(2):
            simulator.send(*make_pair(number))
            frames.append(reader.frame())
    outputs = bridge.bridge.outputs.of("camera")
    statuses = [frame.provenance.status for frame in frames if frame.provenance is not None]
    assert statuses == [FrameStatus.FALLBACK, FrameStatus.FRESH]
    assert np.array_equal(frames[0].pixels, make_frame(Kind.RGB, 0).pixels)
    assert (outputs.published, outputs.fallback) == (2, 1)


def test_realtime_takes_the_newest_pair_and_counts_the_others_superseded(simulator: Simulator) -> None:
    translator = BlockingTranslator()
    with streaming(simulator, translator) as (bridge, reader):
        simulator.send(*make_pair(0))
        assert translator.entered.acquire(timeout=WAIT)
        for number in range(1, 10):
            simulator.send(*make_pair(number))
        reader.status(until=counted(superseded=8))
        counts = bridge.bridge.ledger.snapshot()
        assert all(count.in_flight == 2 for count in counts.values())
        translator.go.release(2)
        assert [reader.frame().number for _ in range(2)] == [0, 9]
    for count in bridge.bridge.ledger.snapshot().values():
        assert count.outcomes == {Outcome.PUBLISHED: 2, Outcome.SUPERSEDED: 8}


def test_frames_without_a_partner_are_unpaired_and_the_window_is_bounded(simulator: Simulator) -> None:
    with streaming(simulator, StampTranslator(), pair_window=4) as (bridge, reader):
        simulator.send(*(make_frame(Kind.RGB, number) for number in range(20)))
        status = reader.status(until=counted(received=20))
        assert status.counters["camera/rgb"]["in_flight"] <= 4
        assert bridge.end() == 0
    count = bridge.bridge.ledger.snapshot()["camera/rgb"]
    assert count.outcomes == {Outcome.UNPAIRED: 16, Outcome.SHUTDOWN: 4}


def test_pausing_stepping_resuming(simulator: Simulator) -> None:
    with streaming(simulator, StampTranslator()) as (bridge, reader):
        bridge.bridge.pause()
        simulator.send(*make_pair(0))
        reader.status(until=counted(paused=1))
        bridge.bridge.step()
        simulator.send(*make_pair(1))
        assert reader.frame().number == 1
        simulator.send(*make_pair(2))
        reader.status(until=counted(paused=2))
        bridge.bridge.resume()
        simulator.send(*make_pair(3))
        assert reader.frame().number == 3


def test_the_style_can_change_while_it_runs(simulator: Simulator) -> None:
    seen: list[Style] = []

    class Watching(StampTranslator):
        def translate(self, shots: Sequence[Shot]) -> Sequence[Translation]:
            seen.extend(shot.style for shot in shots)
            return super().translate(shots)

    with streaming(simulator, Watching(), style_seed=1) as (bridge, reader):
        simulator.send(*make_pair(0))
        first = reader.frame()
        bridge.bridge.set_style("camera", Style(seed=9))
        simulator.send(*make_pair(1))
        second = reader.frame()
        with pytest.raises(KeyError):
            bridge.bridge.set_style("other", Style())
    assert [style.seed for style in seen] == [1, 9]
    assert [frame.provenance.seed for frame in (first, second) if frame.provenance is not None] == [1, 9]


def test_the_translator_is_warmed_before_the_stream_and_reset_with_each_session(simulator: Simulator) -> None:
    calls: list[object] = []

    class Watching(StampTranslator):
        def warm_up(self, sizes: Sequence[tuple[int, int]], batch: int = 1) -> None:
            calls.append((*sizes, batch))

        def reset(self, camera: str, reason: Reason) -> None:
            calls.append((camera, reason))

        def translate(self, shots: Sequence[Shot]) -> Sequence[Translation]:
            calls.append([(shot.number, shot.dropped) for shot in shots])
            return super().translate(shots)

    with streaming(simulator, Watching()) as (_, reader):
        for number, session in ((0, "a"), (1, "a"), (0, "b")):
            simulator.send(*make_pair(number, session))
            reader.frame()
    assert calls == [((16, 8), 1), [(0, None)], [(1, 0)], ("camera", Reason.SESSION), [(0, None)]]


def test_status_comes_regularly_without_input_and_while_the_translator_loads(simulator: Simulator) -> None:
    go = threading.Event()

    def load() -> StampTranslator:
        assert go.wait(WAIT)
        return StampTranslator()

    with (
        running(make_settings(simulator.address), load, ready=False) as bridge,
        Reader(bridge.bridge.output_address) as reader,
    ):
        statuses = [reader.status() for _ in range(5)]
        assert {(status.state, status.mode, status.seed) for status in statuses} == {("loading", "realtime", 0)}
        stamps = [status.sent for status in statuses]
        assert np.median(np.diff(stamps)) == pytest.approx(1e8, rel=0.5)
        go.set()
        assert bridge.bridge.wait_until_ready(WAIT)
        reader.status(until=lambda status: status.state == "running")
        simulator.wait_for_subscriptions()
        simulator.send(*make_pair(0))
        status = reader.status(until=counted(published=1))
    assert set(status.latency_ms) == {str(stage) for stage in Stage}
    assert status.counters["camera/photoreal"]["published"] == 1
    assert set(status.rates) == {"camera/rgb", "camera/semantic", "camera/photoreal"}


def test_a_subscriber_can_tell_loading_from_running(simulator: Simulator) -> None:
    go = threading.Event()

    def load() -> StampTranslator:
        assert go.wait(WAIT)
        return StampTranslator()

    settings = make_settings(simulator.address, style_seed=4, mode="lockstep")
    with (
        running(settings, load, ready=False) as bridge,
        Subscriber(bridge.bridge.output_address, kinds=("status",)) as subscriber,
    ):

        def wait_for(state: str) -> StatusMessage:
            with subscriber._arrived:
                fits = subscriber._arrived.wait_for(
                    lambda: subscriber._status is not None and subscriber._status.state == state, WAIT
                )
            assert fits
            assert subscriber.status is not None
            return subscriber.status

        assert wait_for("loading").mode == "lockstep"
        go.set()
        assert wait_for("running").seed == 4


def test_rates_are_per_second(simulator: Simulator) -> None:
    with streaming(simulator, StampTranslator(), status_interval=0.5) as (_, reader):
        reader.status()
        for number in range(10):
            simulator.send(*make_pair(number))
            reader.frame()
        status = reader.status(until=counted(published=10))
    assert sum(status.rates.values()) == pytest.approx(3 * 10 / 0.5, rel=0.5)


def test_the_last_status_accounts_for_everything(simulator: Simulator) -> None:
    with streaming(simulator, StampTranslator()) as (bridge, reader):
        simulator.send(*make_pair(0), make_frame(Kind.RGB, 1))
        reader.status(until=counted(received=2, published=1))
        assert bridge.end() == 0
        status = reader.status(until=lambda status: status.counters["camera/rgb"]["in_flight"] == 0)
    assert status.counters["camera/rgb"] == {
        **dict.fromkeys(map(str, Outcome), 0),
        "received": 2,
        "in_flight": 0,
        "published": 1,
        "shutdown": 1,
    }


def test_draining_finishes_what_is_in_flight(simulator: Simulator) -> None:
    translator = BlockingTranslator()
    with streaming(simulator, translator) as (bridge, reader):
        simulator.send(*make_pair(0))
        assert translator.entered.acquire(timeout=WAIT)
        simulator.send(*make_pair(1))
        reader.status(until=counted(received=2))
        bridge.bridge.stop()
        reader.status(until=lambda status: status.state == "stopping")
        translator.go.release(2)
        assert [reader.frame().number for _ in range(2)] == [0, 1]
        assert bridge.wait() == 0


@pytest.mark.parametrize("drain_timeout", [0.2, 60.0])
def test_a_hanging_network_holds_neither_a_second_stop_nor_the_drain_timeout(
    simulator: Simulator, drain_timeout: float
) -> None:
    translator = BlockingTranslator()
    with streaming(simulator, translator, drain_timeout=drain_timeout) as (bridge, reader):
        simulator.send(*make_pair(0))
        assert translator.entered.acquire(timeout=WAIT)
        simulator.send(*make_pair(1))
        reader.status(until=counted(received=2))
        bridge.bridge.stop()
        if drain_timeout > 1:
            bridge.bridge.stop(drain=False)
        assert bridge.wait() == 1
    for count in bridge.bridge.ledger.snapshot().values():
        assert count.outcomes == {Outcome.SHUTDOWN: 2}
    translator.go.release(2)  # lets the thread that was left behind end


def test_a_translator_that_cannot_be_loaded_ends_the_bridge_with_its_error(simulator: Simulator) -> None:
    def load() -> StampTranslator:
        raise TranslatorError("bundle 'x' is not known: sim-bridge bundles lists them")

    with running(make_settings(simulator.address), load, ready=False) as bridge:
        end = bridge.wait()
        assert isinstance(end, TranslatorError)
    with Bridge(make_settings(simulator.address, output=bridge.bridge.output_address), StampTranslator()):
        pass  # the port is free again


def test_an_output_in_use_is_refused_in_one_sentence(simulator: Simulator) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with FrameSender(context, ANY_PORT) as other, pytest.raises(UsageError, match="another process may hold it"):
        Bridge(make_settings(simulator.address, output=other.address), StampTranslator())
    context.term()


def test_an_address_off_the_machine_needs_consent(simulator: Simulator) -> None:
    with pytest.raises(UsageError, match="--insecure"):
        Bridge(make_settings(simulator.address, output="tcp://0.0.0.0:*"), StampTranslator())
    with pytest.raises(UsageError, match="--curve-keys"):
        Bridge(make_settings("tcp://192.0.2.1:5555"), StampTranslator())


def test_signal_handlers_are_restored(simulator: Simulator) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    bridge = Bridge(make_settings(simulator.address), StampTranslator())
    bridge.stop()
    assert run_until_signalled(bridge) == 0
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_drains(simulator: Simulator, number: int) -> None:
    with BridgeProcess(simulator.address) as bridge, Reader(bridge.address) as reader:
        simulator.wait_for_subscriptions()
        simulator.send(*make_pair(0))
        assert reader.frame().number == 0
        bridge.signal(number)
        account = bridge.line()["account"]
        assert bridge.wait() == 0
    assert account["camera/rgb"]["published"] == 1
    assert account["camera/rgb"]["in_flight"] == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_forces(simulator: Simulator, number: int) -> None:
    with BridgeProcess(simulator.address, "hang", drain_timeout=600.0) as bridge, Reader(bridge.address) as reader:
        simulator.wait_for_subscriptions()
        simulator.send(*make_pair(0))
        reader.status(until=counted(received=1))
        bridge.signal(number)
        reader.status(until=lambda status: status.state == "stopping")
        bridge.signal(number)
        account = bridge.line()["account"]
        assert bridge.wait() == 1
    assert account["camera/rgb"]["shutdown"] == 1


@pytest.mark.parametrize(("patient", "code"), [(True, 0), (False, 1)])
def test_stopping_while_the_translator_loads(simulator: Simulator, patient: bool, code: int) -> None:
    started, go = threading.Event(), threading.Event()

    def load() -> StampTranslator:
        started.set()
        assert go.wait(WAIT)
        return StampTranslator()

    with running(make_settings(simulator.address), load, ready=False) as bridge:
        assert started.wait(WAIT)
        bridge.bridge.stop()
        if patient:
            go.set()
        else:
            bridge.bridge.stop(drain=False)
        assert bridge.wait() == code
    go.set()  # lets the thread that was left behind end


def test_a_stage_that_breaks_ends_the_bridge_with_its_error(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: FrameSender, parts: Sequence[bytes | memoryview]) -> None:
        raise OSError("the socket is gone")

    with running(make_settings(simulator.address, status_interval=60.0), StampTranslator()) as bridge:
        simulator.wait_for_subscriptions()
        monkeypatch.setattr(FrameSender, "send", broken)
        simulator.send(*make_pair(0))
        assert isinstance(bridge.wait(), OSError)


@pytest.mark.parametrize("pixels", [np.full((8, 8, 3), np.nan, np.float32), np.zeros((8, 8), np.uint8)])
def test_pictures_that_are_none_are_failed_and_never_fresh(simulator: Simulator, pixels: ByteArray) -> None:
    class Wrong(StampTranslator):
        def translate(self, shots: Sequence[Shot]) -> Sequence[Translation]:
            return [Translation(pixels) for _ in shots]

    with streaming(simulator, Wrong(), on_error="passthrough") as (_, reader):
        simulator.send(*make_pair(0))
        frame = reader.frame()
    assert frame.provenance is not None and frame.provenance.status == "fallback"
