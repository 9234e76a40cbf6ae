"""Long runs: memory stays where it is, queues stay within their bounds."""

import signal

import psutil
import pytest

from sim_bridge.wire import StatusMessage
from tests.sim_bridge.bridge_helpers import BridgeProcess, Child, Plan, Reader

MIB = 1 << 20
WINDOW = 8
STAGES = 4
"""Pairs that can be in flight besides the frames that wait for their partner: inbox, network, outbox, publisher."""


def soak(frames: int, warm: int) -> float:
    """Runs at full rate; returns by how many MiB the bridge grew after ``warm`` published frames."""
    plan = Plan(frames=frames, size=(512, 256), loss=0.01, reorder=2)
    with Child("publisher_process.py", **plan.options()) as simulator:
        input = simulator.line()["address"]
        bridge = BridgeProcess(input, "null", size=(512, 256), pair_window=WINDOW)
        with bridge, Reader(bridge.address) as reader:
            process = psutil.Process(bridge.pid)
            simulator.go()
            published, before, in_flight = 0, 0, list[int]()
            while True:
                message = reader.message()
                if isinstance(message, StatusMessage):
                    in_flight.append(message.counters["camera/rgb"]["in_flight"])
                    continue
                published += 1
                if published == warm:
                    before = process.memory_info().rss
                if message.id == plan.last:
                    break
            grown: float = (process.memory_info().rss - before) / MIB
            bridge.signal(signal.SIGTERM)
            account = bridge.line()["account"]
            assert bridge.wait() == 0
    assert published > warm
    assert max(in_flight) <= WINDOW + STAGES
    for counters in account.values():
        assert counters["in_flight"] == 0
        assert counters["received"] * 2 == sum(counters.values())
    return grown


def test_memory_stays_and_queues_keep_their_bounds() -> None:
    assert soak(frames=1500, warm=100) < 20


@pytest.mark.slow
def test_memory_stays_over_twenty_thousand_frames() -> None:
    assert soak(frames=20_000, warm=100) < 20
