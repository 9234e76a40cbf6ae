"""Waiting for a tick's images, and pairs that are complete later. No server is needed."""

import threading
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from plugins.carla.rig import ticks
from plugins.carla.rig.sensors import TICKS_KEPT, Arrival, ArrivalQueue
from plugins.carla.rig.ticks import Patience
from sim_bridge.frames import Encoding, Frame, Kind
from sim_bridge.lockstep import OpenPairs

KEYS = (("camera", Kind.RGB), ("camera", Kind.SEMANTIC))
BETWEEN = 0.2


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ticks, "BETWEEN_SECONDS", BETWEEN)


def put(queue: ArrivalQueue, kind: Kind, number: int) -> None:
    image: Any = SimpleNamespace(frame=number)
    queue.put(Arrival("camera", kind, image, time.monotonic()))


def waited(patience: Patience, queue: ArrivalQueue, number: int) -> tuple[list[Kind], float]:
    began = time.monotonic()
    missing = patience.wait(queue, KEYS, number, began, lambda: True)
    return [kind for _, kind in missing], time.monotonic() - began


def test_the_first_image_may_take_the_whole_time_out_and_each_one_some_time_more() -> None:
    queue, patience = ArrivalQueue(16), Patience(60.0)
    for kind, seconds in ((Kind.RGB, 3 * BETWEEN), (Kind.SEMANTIC, 3.5 * BETWEEN)):
        threading.Timer(seconds, put, (queue, kind, 7)).start()
    missing, took = waited(patience, queue, 7)
    assert missing == [] and took > 3 * BETWEEN


def test_an_image_that_does_not_come_is_waited_for_less_and_less_until_it_comes_again() -> None:
    queue, patience = ArrivalQueue(1000), Patience(60.0)
    times = []
    for number in range(12):
        threading.Timer(0.01, put, (queue, Kind.RGB, number)).start()
        missing, took = waited(patience, queue, number)
        assert missing == [Kind.SEMANTIC]
        times.append(took)
    assert times[0] >= BETWEEN and min(times[6:]) < BETWEEN / 4
    put(queue, Kind.RGB, 12)
    put(queue, Kind.SEMANTIC, 12)
    assert waited(patience, queue, 12)[0] == []
    threading.Timer(0.01, put, (queue, Kind.RGB, 13)).start()
    missing, took = waited(patience, queue, 13)
    assert missing == [Kind.SEMANTIC] and took >= BETWEEN


def test_a_stream_that_was_given_up_is_waited_for_again_some_time_later(monkeypatch: pytest.MonkeyPatch) -> None:
    queue, patience = ArrivalQueue(1000), Patience(BETWEEN)
    for number in range(8):
        waited(patience, queue, number)
    monkeypatch.setattr(ticks, "AGAIN_SECONDS", 0.0)
    assert waited(patience, queue, 8)[1] >= BETWEEN


def test_an_end_ends_the_wait() -> None:
    began = time.monotonic()
    assert len(Patience(60.0).wait(ArrivalQueue(16), KEYS, 0, began, lambda: False)) == 2
    assert time.monotonic() - began < 10


def frame(number: int, kind: Kind, camera: str = "camera", session: str = "one") -> Frame:
    rgb = kind is Kind.RGB
    return Frame(
        camera=camera,
        kind=kind,
        number=number,
        time=0.05 * number,
        session=session,
        encoding=Encoding.BGRA8 if rgb else Encoding.MONO8,
        width=4,
        height=2,
        pixels=np.zeros((2, 4, 4) if rgb else (2, 4), np.uint8),
        sent=0,
        labels=None if rgb else "carla-0.9.14",
    )


def numbers(complete: list[list[tuple[Frame, Frame]]]) -> list[list[tuple[str, int]]]:
    assert all((rgb.kind, semantic.kind) == (Kind.RGB, Kind.SEMANTIC) for one in complete for rgb, semantic in one)
    assert all(rgb.id == semantic.id for one in complete for rgb, semantic in one)
    return [[(rgb.camera, rgb.number) for rgb, _ in one] for one in complete]


def test_pairs_of_one_tick_are_together_and_ticks_in_order() -> None:
    pairs = OpenPairs()
    assert pairs.add([frame(5, Kind.RGB), frame(5, Kind.SEMANTIC, "left"), frame(6, Kind.SEMANTIC)]) == []
    came = [frame(6, Kind.RGB), frame(5, Kind.RGB, "left"), frame(5, Kind.SEMANTIC)]
    assert numbers(pairs.add(came)) == [[("left", 5), ("camera", 5)], [("camera", 6)]]


def test_no_pair_comes_twice_or_of_two_sessions() -> None:
    pairs = OpenPairs()
    both = [frame(1, Kind.RGB), frame(1, Kind.SEMANTIC)]
    assert numbers(pairs.add([*both, *both])) == [[("camera", 1)]]
    assert pairs.add([frame(2, Kind.RGB), frame(2, Kind.SEMANTIC, session="two")]) == []


def test_only_so_many_wait() -> None:
    pairs = OpenPairs()
    assert pairs.add([frame(number, Kind.RGB) for number in range(TICKS_KEPT + 2)]) == []
    late = pairs.add([frame(number, Kind.SEMANTIC) for number in range(2, TICKS_KEPT + 2)])
    assert numbers(late) == [[("camera", number)] for number in range(2, TICKS_KEPT + 2)]
    assert pairs.add([frame(0, Kind.SEMANTIC)]) == []
