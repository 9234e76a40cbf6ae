"""Long runs: memory stays where it is, queues stay within their bounds."""

import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from sim_bridge.frames import Frame
from sim_bridge.lockstep import LockstepClient
from sim_bridge.wire import StatusMessage
from tests.sim_bridge.bridge_helpers import (
    ANY_PORT,
    CLASSES,
    STAMPS,
    WAIT,
    BridgeProcess,
    Child,
    Plan,
    Reader,
    make_pair,
)

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


def write_bundle(folder: Path) -> None:
    """A network of the shipped tier with weights nobody trained."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    from models.bundles.files import Card, save_bundle
    from models.edges import EdgeSettings
    from models.nets.sflow import SFlowNetwork

    torch.manual_seed(0)
    network = SFlowNetwork("lite", len(CLASSES), EdgeSettings()).eval()
    card = Card(
        arch="sflow",
        args=network.args,
        classes=list(CLASSES),
        size=[64, 64],
        data="none",
        command="none",
        steps=0,
        licence_weights="Apache-2.0",
        licence_data="none",
        edge=EdgeSettings().as_dict(),
    )
    save_bundle(folder, network, card)


def noisy_pair(number: int, noise: np.random.Generator) -> tuple[Frame, Frame]:
    """Edges everywhere and every class: nothing that a network could skip."""
    rgb, semantic = make_pair(number, size=(64, 64))
    pixels = noise.integers(0, 256, (64, 64, 3), np.uint8)
    return replace(rgb, pixels=pixels), replace(semantic, pixels=noise.integers(0, STAMPS, (64, 64), np.uint8))


def soak_network(folder: Path, frames: int, warm: int) -> float:
    """Takes a real network through that many ticks; returns by how many MiB the bridge grew after ``warm`` of them."""
    write_bundle(folder)
    noise = np.random.default_rng(3)
    with LockstepClient(ANY_PORT, None, resend_after=5.0) as client:
        settings = {"bundle": str(folder), "mode": "lockstep", "device": "cpu", "precision": "fp32"}
        with BridgeProcess(client.address, "bundle", **settings) as bridge:
            process = psutil.Process(bridge.pid)
            client.connect(bridge.address)
            before, seen = 0, set[bytes]()
            for number in range(frames):
                photoreal = client.tick(*noisy_pair(number, noise), timeout=2 * WAIT)
                assert photoreal.number == number
                seen.add(photoreal.pixels.tobytes())
                if number == warm:
                    before = process.memory_info().rss
                    threads = process.num_threads()
            grown: float = (process.memory_info().rss - before) / MIB
            assert process.num_threads() <= threads
            bridge.signal(signal.SIGTERM)
            assert bridge.line()["account"]["camera/rgb"]["published"] == frames
            assert bridge.wait() == 0
    assert len(seen) == frames  # it did work
    return grown


def test_a_real_network_does_not_grow(tmp_path: Path) -> None:
    assert soak_network(tmp_path, frames=300, warm=100) < 10


@pytest.mark.slow
def test_a_real_network_does_not_grow_over_some_thousand_frames(tmp_path: Path) -> None:
    assert soak_network(tmp_path, frames=5000, warm=100) < 10
