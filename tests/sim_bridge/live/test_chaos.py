"""Peers that stall, die and come back: nothing hangs, nothing grows, no pair crosses sessions."""

import signal
from collections.abc import Iterator

import psutil
import pytest
import zmq

from tests.sim_bridge.bridge_helpers import (
    WAIT,
    BridgeProcess,
    Child,
    Plan,
    Reader,
    Simulator,
    Socket,
    make_pair,
    shows_its_tick,
)

MIB = 1 << 20
LARGE = (512, 256)


@pytest.fixture
def stalled() -> Iterator[Socket]:
    """A subscriber that never reads."""
    context: zmq.Context[Socket] = zmq.Context()
    socket = context.socket(zmq.SUB)
    socket.rcvhwm = 1
    socket.linger = 0
    socket.subscribe("")
    yield socket
    socket.close()
    context.term()


def test_a_subscriber_that_never_reads_costs_no_more_than_its_buffer(stalled: Socket) -> None:
    buffer = 8
    plan = Plan(frames=400, size=LARGE, rate=200)  # 384 KiB each, 150 MiB in all
    with Child("publisher_process.py", **plan.options()) as simulator:
        input = simulator.line()["address"]
        with BridgeProcess(input, send_buffer_mib=buffer, size=LARGE) as bridge, Reader(bridge.address) as reader:
            stalled.connect(bridge.address)
            memory = psutil.Process(bridge.pid).memory_info
            simulator.go()
            for _ in range(20):
                frame = reader.frame()
            before = memory().rss
            while frame.id != plan.last:
                frame = reader.frame()
                assert shows_its_tick(frame)
            grown = memory().rss - before
            bridge.signal(signal.SIGTERM)
            account = bridge.line()["account"]
            assert bridge.wait() == 0  # the stalled one does not hold the end either
    assert grown < (buffer + 16) * MIB
    assert account["camera/rgb"]["published"] > 100


def test_a_simulator_that_is_killed_and_comes_back_is_a_new_session() -> None:
    with Child("publisher_process.py", **Plan(session="first", frames=100_000, rate=200).options()) as first:
        input = first.line()["address"]
        with BridgeProcess(input) as bridge, Reader(bridge.address) as reader:
            first.go()
            ticks = [reader.frame().id for _ in range(50)]
            first.signal(signal.SIGKILL)
            first.wait()
            plan = Plan(
                address=input, session="second", frames=50, rate=50
            )  # slow: realtime may drop what comes faster
            with Child("publisher_process.py", **plan.options()) as second:
                second.line()
                second.go()
                while not ticks or ticks[-1] != plan.last:
                    frame = reader.frame()
                    assert shows_its_tick(frame)
                    ticks.append(frame.id)
            bridge.signal(signal.SIGTERM)
            account = bridge.line()["account"]
            assert bridge.wait() == 0
    sessions = [tick.session for tick in ticks]
    assert sessions == sorted(sessions)
    assert sessions.count("second") > 40
    for counters in account.values():
        assert counters["received"] == sum(counters.values()) - counters["received"]


def test_a_bridge_that_is_killed_and_comes_back_serves_the_same_peers() -> None:
    with Simulator() as simulator:
        bridge = BridgeProcess(simulator.address)
        with bridge, Reader(bridge.address) as reader:
            simulator.wait_for_subscriptions()
            simulator.send(*make_pair(0))
            assert reader.frame().number == 0
            bridge.signal(signal.SIGKILL)
            bridge.wait()
            with BridgeProcess(simulator.address, output=bridge.address) as again:
                simulator.wait_for_subscriptions()
                reader.status()  # connected again
                simulator.send(*make_pair(1))
                assert reader.frame().number == 1
                again.signal(signal.SIGTERM)
                assert again.line()["account"]["camera/rgb"]["published"] == 1


def restart_simulators(count: int) -> None:
    with Simulator() as free:
        input = free.address
    with BridgeProcess(input) as bridge, Reader(bridge.address) as reader:
        process = psutil.Process(bridge.pid)
        sizes = []
        for number in range(count):
            plan = Plan(address=input, session=f"run {number}", frames=100_000)
            with Child("publisher_process.py", **plan.options()) as simulator:
                simulator.line()
                simulator.go()
                frame = reader.frame()
                while frame.session != plan.session:
                    frame = reader.frame()
                simulator.signal(signal.SIGKILL)
                simulator.wait()
            reader.status()
            sizes.append((process.num_fds(), process.num_threads(), process.memory_info().rss))
        bridge.signal(signal.SIGTERM)
        assert bridge.line()["account"]["camera/rgb"]["in_flight"] == 0
    files, threads, memory = zip(*sizes, strict=True)
    assert max(files) <= files[0] + 2  # a connection that is just being made or given up
    assert max(threads) == min(threads)
    assert memory[-1] - memory[0] < 10 * MIB


def test_simulators_that_die_again_and_again_leave_nothing_behind() -> None:
    restart_simulators(3)


@pytest.mark.slow
def test_thirty_simulators_that_die_leave_nothing_behind() -> None:
    restart_simulators(30)


def test_subscribers_that_come_and_go_leave_nothing_behind() -> None:
    with Simulator() as simulator, BridgeProcess(simulator.address) as bridge:
        simulator.wait_for_subscriptions()
        process = psutil.Process(bridge.pid)
        files = []
        for number in range(20):
            with Reader(bridge.address) as reader:
                simulator.send(*make_pair(number))
                assert reader.frame().number == number
            files.append(process.num_fds())
        assert max(files) <= files[0] + 3


def test_a_stopped_bridge_does_not_hold_its_simulator_or_reader() -> None:
    """SIGSTOP and SIGCONT: a machine that hangs for a while. The newest frame is what counts afterwards."""
    with Simulator() as simulator, BridgeProcess(simulator.address) as bridge, Reader(bridge.address) as reader:
        simulator.wait_for_subscriptions()
        simulator.send(*make_pair(0))
        assert reader.frame().number == 0
        bridge.signal(signal.SIGSTOP)
        for number in range(1, 50):
            simulator.send(*make_pair(number))
        bridge.signal(signal.SIGCONT)
        while reader.frame(WAIT).number != 49:
            pass
