import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim_bridge.live.handoff import Handoff, Policy


def test_newest_wins_and_the_displaced_item_comes_back() -> None:
    handoff: Handoff[int] = Handoff(["a"], Policy.NEWEST)
    assert handoff.put("a", 1) is None
    assert handoff.put("a", 2) == 1
    assert len(handoff) == 1

    taken = handoff.take(0)

    assert taken is not None
    assert taken.item == 2
    assert handoff.take(0) is None


def test_a_fast_camera_does_not_starve_a_slow_one() -> None:
    handoff: Handoff[str] = Handoff(["fast", "slow"], Policy.NEWEST)
    handoff.put("slow", "slow")
    order = []
    for turn in range(3):
        handoff.put("fast", f"fast {turn}")
        taken = handoff.take(0)
        assert taken is not None
        order.append(taken.item)
    assert "slow" in order[:2]


def test_waiting_put_comes_back_when_there_is_room() -> None:
    handoff: Handoff[int] = Handoff(["a"], Policy.WAIT, bound=2)
    with ThreadPoolExecutor(1) as pool:
        putting = pool.submit(lambda: [handoff.put("a", item) for item in range(50)])
        items: list[int] = []
        while len(items) < 50:
            assert len(handoff) <= 2
            taken = handoff.take(5)
            assert taken is not None
            items.append(taken.item)
        assert putting.result(5) == [None] * 50
    assert items == list(range(50))


def test_closing_wakes_a_waiting_put_which_gets_its_item_back() -> None:
    handoff: Handoff[int] = Handoff(["a"], Policy.WAIT)
    handoff.put("a", 1)
    with ThreadPoolExecutor(1) as pool:
        putting = pool.submit(handoff.put, "a", 2)
        handoff.close()
        assert putting.result(5) == 2
    taken = handoff.take(0)
    assert taken is not None
    assert taken.item == 1
    assert handoff.finished


def test_closing_wakes_a_waiting_take() -> None:
    handoff: Handoff[int] = Handoff(["a"], Policy.NEWEST)
    with ThreadPoolExecutor(1) as pool:
        taking = pool.submit(handoff.take)
        handoff.close()
        assert taking.result(5) is None


def test_closing_with_discard_empties_it() -> None:
    handoff: Handoff[int] = Handoff(["a"], Policy.NEWEST)
    handoff.put("a", 1)
    handoff.close(discard=True)
    assert handoff.finished
    assert handoff.take(0) is None
    assert handoff.put("a", 2) == 2


def test_overhead_is_the_waking_up_and_not_the_waiting_for_a_busy_taker() -> None:
    handoff: Handoff[int] = Handoff(["a"], Policy.NEWEST)
    handoff.put("a", 1)
    threading.Event().wait(0.05)  # the taker is busy elsewhere

    taken = handoff.take(0)

    assert taken is not None
    assert taken.waited >= 50_000_000
    assert taken.overhead < taken.waited / 2


@given(st.integers(1, 5), st.lists(st.booleans(), max_size=80))
def test_every_item_comes_out_once_in_order_and_the_bound_holds(bound: int, puts: list[bool]) -> None:
    handoff: Handoff[int] = Handoff(["a"], Policy.NEWEST, bound)
    out: list[int] = []
    for item, put in enumerate(puts):
        if put:
            displaced = handoff.put("a", item)
            if displaced is not None:
                out.append(displaced)
        else:
            taken = handoff.take(0)
            if taken is not None:
                out.append(taken.item)
        assert len(handoff) <= bound
    handoff.close()
    while not handoff.finished:
        taken = handoff.take(0)
        assert taken is not None
        out.append(taken.item)
    assert out == [item for item, put in enumerate(puts) if put]


def test_a_queue_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="0 items"):
        Handoff(["a"], Policy.NEWEST, 0)


def test_a_nudge_brings_the_taker_back_once_and_takes_nothing() -> None:
    handoff: Handoff[int] = Handoff(["camera"], Policy.WAIT)
    handoff.nudge()
    assert handoff.take() is None
    handoff.put("camera", 1)
    handoff.nudge()
    taken = handoff.take()
    assert taken is not None and taken.item == 1
    assert handoff.take(0.01) is None


def test_what_fits_is_taken_from_every_camera_and_the_rest_stays() -> None:
    handoff: Handoff[int] = Handoff(["a", "b", "c", "d"], Policy.WAIT, bound=2)
    for camera, items in {"a": (7, 8), "b": (8, 7), "c": (7,)}.items():
        for item in items:
            handoff.put(camera, item)
    assert [(taken.camera, taken.item) for taken in handoff.take_fitting(lambda item: item == 7)] == [
        ("a", 7),
        ("c", 7),
    ]
    assert len(handoff) == 3


def test_waiting_for_cameras_ends_when_each_has_an_item() -> None:
    handoff: Handoff[int] = Handoff(["a", "b", "c"], Policy.WAIT)
    with ThreadPoolExecutor(1) as pool:
        taking = pool.submit(handoff.take_fitting, lambda item: item == 1, ("a", "b"), 30.0)
        handoff.put("c", 1)
        handoff.put("a", 1)
        assert not taking.done()
        handoff.put("b", 2)  # not what is waited for, but b will not send it any more
        assert [taken.camera for taken in taking.result(5)] == ["a", "c"]
    assert len(handoff) == 1


@pytest.mark.parametrize("end", [Handoff.nudge, Handoff.close])
def test_waiting_for_cameras_ends_with_a_nudge_and_when_closed(end: Callable[[Handoff[int]], None]) -> None:
    handoff: Handoff[int] = Handoff(["a", "b"], Policy.WAIT)
    handoff.put("a", 1)
    with ThreadPoolExecutor(1) as pool:
        taking = pool.submit(handoff.take_fitting, lambda item: True, ("a", "b"), 30.0)
        end(handoff)
        assert [taken.item for taken in taking.result(5)] == [1]
