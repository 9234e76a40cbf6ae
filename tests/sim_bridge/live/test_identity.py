"""Whatever happens on the way, a photoreal frame is made of one RGB and one semantic frame of its own tick."""

import signal
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from sim_bridge.frames import Frame, FrameId, Kind
from sim_bridge.live.pairing import JOINED_KINDS
from tests.sim_bridge.bridge_helpers import BridgeProcess, Child, Plan, Reader, shows_its_tick


def run_plan(plan: Plan) -> tuple[list[Frame], Any]:
    """Runs the plan up to a restart of the simulator, and the rest in a new session with numbers from 0."""
    second = replace(plan, session="second", seed=plan.seed + 1)
    with Child("publisher_process.py", **plan.options()) as first_simulator:
        address = first_simulator.line()["address"]
        # A generous buffer: what ZeroMQ drops for a slow reader is not what this is about.
        with BridgeProcess(address, send_buffer_mib=2048) as bridge, Reader(bridge.address) as reader:
            first_simulator.go()
            frames = read_until(reader, plan.last)
            assert first_simulator.line()["sent"] == len(plan.messages())
            assert first_simulator.wait() == 0
            with Child("publisher_process.py", **replace(second, address=address).options()) as second_simulator:
                second_simulator.line()
                second_simulator.go()
                frames += read_until(reader, second.last)
                assert second_simulator.line()["sent"] == len(second.messages())
            bridge.signal(signal.SIGTERM)
            account = bridge.line()["account"]
            assert bridge.wait() == 0
    return frames, account


def read_until(reader: Reader, last: FrameId) -> list[Frame]:
    frames = [reader.frame()]
    while frames[-1].id != last:
        frames.append(reader.frame())
    return frames


def check(plan: Plan) -> Counter[str]:
    """Runs a plan and checks all that must hold; returns the outcomes, both topics together."""
    second = replace(plan, session="second", seed=plan.seed + 1)
    sent = {
        kind: Counter(FrameId(p.session, number) for p in (plan, second) for k, number in p.messages() if k is kind)
        for kind in JOINED_KINDS
    }

    frames, account = run_plan(plan)

    ticks = [frame.id for frame in frames]
    assert len(set(ticks)) == len(ticks), "published twice"
    for session in (plan.session, second.session):
        numbers = [tick.number for tick in ticks if tick.session == session]
        assert numbers == sorted(numbers), "out of order"
    assert [tick.session for tick in ticks] == sorted(
        (tick.session for tick in ticks), key=(plan.session, second.session).index
    )
    for frame in frames:
        assert all(frame.id in sent[kind] for kind in JOINED_KINDS), f"{frame.id} was not sent whole"
        assert shows_its_tick(frame), f"{frame.id} is made of other ticks' images"
    outcomes: Counter[str] = Counter()
    for kind in JOINED_KINDS:
        counters = Counter(account[f"camera/{kind}"])
        received, in_flight = counters.pop("received"), counters.pop("in_flight")
        assert received == sent[kind].total()
        assert in_flight == 0
        assert sum(counters.values()) == received
        assert counters["published"] == len(frames)
        assert counters["malformed"] == counters["mismatched"] == counters["failed"] == 0
        outcomes += counters
    return outcomes


PLAN = Plan(session="first", loss=0.10, duplicates=0.05, reorder=3, seed=7, rate=400)


def test_identity_under_loss_duplicates_reordering_and_a_restart() -> None:
    outcomes = check(replace(PLAN, frames=300))
    for outcome in ("published", "unpaired", "late", "duplicate"):
        assert outcomes[outcome] > 0, f"the test does not reach {outcome}"


def test_identity_at_full_rate() -> None:
    check(replace(PLAN, frames=300, rate=0, seed=8))


@pytest.mark.slow
def test_identity_over_five_thousand_frames() -> None:
    outcomes = check(replace(PLAN, frames=2500))
    assert outcomes["published"] > 2 * 2500


def test_plans_do_what_they_say() -> None:
    plan = replace(PLAN, frames=5000)
    messages = plan.messages()
    rgb = [number for kind, number in messages if kind is Kind.RGB]
    assert 1 - len(set(rgb)) / 5000 == pytest.approx(0.10, abs=0.02)
    assert len(rgb) / len(set(rgb)) - 1 == pytest.approx(0.05, abs=0.02)
    late = [max(before) - number for before, number in zip(_prefixes(rgb), rgb, strict=True) if before]
    assert 1 < max(late) <= 3
    assert [number for _, number in messages[-2:]] == [5000, 5000]


def _prefixes(numbers: list[int]) -> list[list[int]]:
    return [numbers[max(0, index - 20) : index] for index in range(len(numbers))]
