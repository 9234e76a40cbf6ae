import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import zmq
import zmq.auth

from sim_bridge.client import Subscriber
from sim_bridge.errors import FrameTimeoutError, LockstepTimeoutError, TranslatorError, UsageError
from sim_bridge.frames import Kind
from sim_bridge.live.ledger import Outcome
from sim_bridge.lockstep import LockstepClient
from tests.sim_bridge.bridge_helpers import (
    ANY_PORT,
    WAIT,
    BridgeProcess,
    FailingTranslator,
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
def client() -> Iterator[LockstepClient]:
    with LockstepClient(ANY_PORT, None) as client:
        yield client


def test_every_tick_has_its_frame_in_order(client: LockstepClient) -> None:
    ticks = 1000
    with BridgeProcess(client.address, mode="lockstep") as bridge:
        client.connect(bridge.address)
        for number in range(ticks):
            frame = client.tick(*make_pair(number), timeout=WAIT)
            assert (frame.session, frame.number) == ("s", number)
            assert shows_its_tick(frame)
        bridge.signal(signal.SIGTERM)
        account = bridge.line()["account"]
        assert bridge.wait() == 0
    for counters in account.values():
        assert counters["published"] == ticks
        assert counters["received"] == ticks + counters["duplicate"]
    assert client.resent < ticks / 100  # resending is for lost messages, not the usual way


def test_a_tick_may_be_sent_before_the_bridge_is_there(client: LockstepClient) -> None:
    with BridgeProcess(client.address) as earlier:
        client.connect(earlier.address)  # an address where nobody will be when the tick is sent
    with ThreadPoolExecutor(1) as pool:
        tick = pool.submit(client.tick, *make_pair(0), timeout=WAIT)
        with BridgeProcess(client.address, mode="lockstep", output=earlier.address):
            assert tick.result(WAIT).number == 0
    assert client.resent > 0


def test_a_killed_bridge_is_a_time_out_that_says_so_and_a_new_one_goes_on(client: LockstepClient) -> None:
    with BridgeProcess(client.address, mode="lockstep") as bridge:
        client.connect(bridge.address)
        for number in range(20):
            client.tick(*make_pair(number), timeout=WAIT)
        bridge.signal(signal.SIGKILL)
        bridge.wait()
        with pytest.raises(LockstepTimeoutError, match=r"frame 20 .* within 1 s; .* it has ended or hangs, restart it"):
            client.tick(*make_pair(20), timeout=1.0)
        with BridgeProcess(client.address, mode="lockstep", output=bridge.address):
            for number in range(20, 40):
                assert client.tick(*make_pair(number), timeout=WAIT).number == number


def test_without_any_bridge_the_time_out_says_what_to_do(client: LockstepClient) -> None:
    client.connect("tcp://127.0.0.1:9")
    with pytest.raises(LockstepTimeoutError, match="nor any status message: start the bridge"):
        client.tick(*make_pair(0), timeout=0.1)


def test_a_bridge_that_drops_the_tick_is_told_apart_from_a_dead_one(client: LockstepClient) -> None:
    translator = FailingTranslator(TranslatorError("no"))
    with running(make_settings(client.address, mode="lockstep"), translator) as bridge:
        client.connect(bridge.bridge.output_address)
        with pytest.raises(LockstepTimeoutError, match=r"the bridge is alive \(.*failed 1"):
            client.tick(*make_pair(0), timeout=1.5)
    assert translator.calls == 1


def test_a_bridge_that_still_loads_is_worth_waiting_for(client: LockstepClient) -> None:
    go = threading.Event()

    def load() -> StampTranslator:
        assert go.wait(WAIT)
        return StampTranslator()

    with running(make_settings(client.address, mode="lockstep"), load, ready=False) as bridge:
        client.connect(bridge.bridge.output_address)
        with pytest.raises(LockstepTimeoutError, match=r"the bridge is alive \(loading, .*: wait longer"):
            client.tick(*make_pair(0), timeout=1.0)
        go.set()
        assert client.tick(*make_pair(0), timeout=WAIT).number == 0


def test_with_keys_every_tick_has_its_frame_and_without_them_none_comes(tmp_path: Path) -> None:
    zmq.auth.create_certificates(tmp_path, "sim-bridge")
    with LockstepClient("tcp://0.0.0.0:*", None, curve_keys=tmp_path) as client:
        settings = make_settings(
            client.address.replace("0.0.0.0", "127.0.0.1"),
            mode="lockstep",
            output="tcp://0.0.0.0:*",
            curve_keys=tmp_path,
        )
        with running(settings, StampTranslator()) as bridge:
            output = bridge.bridge.output_address.replace("0.0.0.0", "127.0.0.1")
            client.connect(output)
            for number in range(50):
                frame = client.tick(*make_pair(number), timeout=WAIT)
                assert frame.number == number
                assert shows_its_tick(frame)
            with Subscriber(output, kinds=("photoreal", "status")) as stranger:
                client.tick(*make_pair(50), timeout=WAIT)
                with pytest.raises(FrameTimeoutError):
                    stranger.next_frame(0.3)
                assert stranger.counts["received"] == 0
    assert bridge.bridge.ledger.snapshot()["camera/rgb"].published == 51


def test_keys_that_are_missing_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="create_certificates"):
        LockstepClient(ANY_PORT, None, curve_keys=tmp_path)


def test_several_cameras_make_one_tick() -> None:
    names = ("front", "rear")
    with (
        LockstepClient(ANY_PORT, None, cameras=names) as client,
        running(make_settings(client.address, topics=names, mode="lockstep"), StampTranslator()) as bridge,
    ):
        client.connect(bridge.bridge.output_address)
        for number in range(20):
            answers = client.tick_all([make_pair(number, camera=name) for name in names], timeout=WAIT)
            assert {(camera, frame.number) for camera, frame in answers.items()} == {(n, number) for n in names}


def test_two_threads_tick_and_each_gets_its_own_frames() -> None:
    cameras = ("left", "right")
    with LockstepClient(ANY_PORT, None, cameras=cameras) as client:
        settings = make_settings(client.address, mode="lockstep", topics=cameras)
        with running(settings, StampTranslator()) as bridge:
            client.connect(bridge.bridge.output_address)

            def drive(camera: str) -> list[tuple[str, int]]:
                frames = [client.tick(*make_pair(number, camera=camera), timeout=WAIT) for number in range(200)]
                return [(frame.camera, frame.number) for frame in frames]

            with ThreadPoolExecutor(2) as pool:
                answers = list(pool.map(drive, cameras))
    assert answers == [[(camera, number) for number in range(200)] for camera in cameras]


def test_a_closed_client_says_so(client: LockstepClient) -> None:
    client.close()
    with pytest.raises(UsageError, match="is closed: make a new one"):
        client.tick(*make_pair(0))


def test_a_pair_sent_again_is_a_duplicate_and_its_result_comes_again_bit_for_bit() -> None:
    with Simulator() as simulator, streaming(simulator, StampTranslator(), mode="lockstep") as (bridge, reader):
        simulator.send(*make_pair(7))
        first = reader.frame()
        sent = list(reader.raw)
        for _ in range(3):
            simulator.send(*make_pair(7))
            again = reader.frame()
            assert reader.raw == sent
            assert again.provenance == first.provenance
    for count in bridge.bridge.ledger.snapshot().values():
        assert count.outcomes == {Outcome.PUBLISHED: 1, Outcome.DUPLICATE: 3}
    outputs = bridge.bridge.outputs.of("camera")
    assert (outputs.published, outputs.repeated) == (1, 3)


def test_a_simulator_that_does_not_wait_is_slowed_down_and_nothing_is_dropped() -> None:
    ticks = 60
    with (
        Simulator() as simulator,
        streaming(simulator, StampTranslator(), mode="lockstep", pair_window=4) as (bridge, reader),
    ):
        for number in range(ticks):
            simulator.send(*make_pair(number))
        assert [reader.frame().number for _ in range(ticks)] == list(range(ticks))
    for count in bridge.bridge.ledger.snapshot().values():
        assert count.outcomes == {Outcome.PUBLISHED: ticks}


def test_pausing_makes_the_simulator_wait_and_loses_nothing(client: LockstepClient) -> None:
    with running(make_settings(client.address, mode="lockstep"), StampTranslator()) as bridge:
        client.connect(bridge.bridge.output_address)
        client.tick(*make_pair(0), timeout=WAIT)
        bridge.bridge.pause()
        with pytest.raises(LockstepTimeoutError, match="the bridge is alive"):
            client.tick(*make_pair(1), timeout=0.5)
        bridge.bridge.resume()
        assert client.tick(*make_pair(1), timeout=WAIT).number == 1
        assert client.tick(*make_pair(2), timeout=WAIT).number == 2
    assert all(Outcome.PAUSED not in count.outcomes for count in bridge.bridge.ledger.snapshot().values())


def test_a_paused_bridge_ends_like_any_other(client: LockstepClient) -> None:
    with running(make_settings(client.address, mode="lockstep"), StampTranslator()) as bridge:
        client.connect(bridge.bridge.output_address)
        client.tick(*make_pair(0), timeout=WAIT)
        bridge.bridge.pause()
        with pytest.raises(LockstepTimeoutError):
            client.tick(*make_pair(1), timeout=0.3)
        assert bridge.end() == 0
    assert bridge.bridge.ledger.snapshot()["camera/rgb"].published == 2


def test_frames_that_are_no_tick_are_refused(client: LockstepClient) -> None:
    client.connect("tcp://127.0.0.1:9")
    rgb = make_frame(Kind.RGB, 1)
    for semantic in (make_frame(Kind.SEMANTIC, 2), make_frame(Kind.SEMANTIC, 1, "t"), make_frame(Kind.RGB, 1)):
        with pytest.raises(UsageError, match="are not the RGB and the semantic frame"):
            client.tick(rgb, semantic)
    with pytest.raises(UsageError, match="rear"):
        client.tick(*make_pair(0, camera="rear"))
    with pytest.raises(UsageError, match="resend_after"):
        LockstepClient(ANY_PORT, None, resend_after=0)


def test_nonsense_from_the_output_does_not_disturb(client: LockstepClient) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.XPUB)
    socket.linger = 0
    socket.bind(ANY_PORT)
    client.connect(socket.getsockopt_string(zmq.LAST_ENDPOINT))
    for _ in range(2):
        socket.recv()  # both subscriptions
    socket.send_multipart([b"camera/photoreal", b"\xc1", b""])
    with pytest.raises(LockstepTimeoutError):
        client.tick(*make_pair(0), timeout=0.2)
    socket.close()
    context.term()


def test_pixels_of_an_answer_cannot_be_changed(client: LockstepClient) -> None:
    with running(make_settings(client.address, mode="lockstep"), StampTranslator()) as bridge:
        client.connect(bridge.bridge.output_address)
        frame = client.tick(*make_pair(0), timeout=WAIT)
        assert not frame.pixels.flags.writeable
        assert frame.pixels.dtype == np.uint8
