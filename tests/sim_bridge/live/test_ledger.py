import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim_bridge.live.ledger import Ledger, Outcome


def test_every_message_has_one_outcome_or_is_in_flight() -> None:
    ledger = Ledger(["a/rgb", "a/semantic"])
    for topic in ("a/rgb", "a/semantic", "a/rgb"):
        ledger.receive(topic)
    ledger.settle(Outcome.PUBLISHED, "a/rgb", "a/semantic")

    rgb, semantic = ledger.snapshot()["a/rgb"], ledger.snapshot()["a/semantic"]

    assert (rgb.received, rgb.published, rgb.dropped, rgb.in_flight) == (2, 1, 0, 1)
    assert (semantic.received, semantic.published, semantic.dropped, semantic.in_flight) == (1, 1, 0, 0)


def test_counters_name_every_outcome_even_those_that_never_happened() -> None:
    ledger = Ledger(["a/rgb"])
    ledger.receive("a/rgb")
    ledger.settle(Outcome.LATE, "a/rgb")

    counters = ledger.snapshot()["a/rgb"].as_counters()

    assert set(counters) == {"received", "in_flight", *map(str, Outcome)}
    assert counters["late"] == 1
    assert counters["published"] == 0


def test_settling_one_message_twice_is_refused() -> None:
    ledger = Ledger(["a/rgb"])
    ledger.receive("a/rgb")
    ledger.settle(Outcome.FAILED, "a/rgb")

    with pytest.raises(ValueError, match="no message of 'a/rgb' is in flight"):
        ledger.settle(Outcome.PUBLISHED, "a/rgb")


def test_a_topic_from_outside_cannot_make_it_grow() -> None:
    ledger = Ledger(["a/rgb"])
    with pytest.raises(KeyError):
        ledger.receive("a/rgbx")
    assert ledger.topics == ("a/rgb",)


def test_closing_settles_what_is_in_flight_and_ignores_what_comes_after() -> None:
    ledger = Ledger(["a/rgb"])
    for _ in range(3):
        ledger.receive("a/rgb")
    ledger.settle(Outcome.PUBLISHED, "a/rgb")

    assert ledger.close() == 2
    ledger.settle(Outcome.PUBLISHED, "a/rgb")  # a stage that hung and came back
    ledger.receive("a/rgb")  # the receiver took one more before it heard of the end
    assert ledger.close() == 0

    count = ledger.snapshot()["a/rgb"]
    assert (count.received, count.in_flight) == (4, 0)
    assert count.outcomes == {Outcome.PUBLISHED: 1, Outcome.SHUTDOWN: 3}


@given(st.lists(st.sampled_from([None, *Outcome]), max_size=60))
def test_the_sum_holds_after_every_step(steps: list[Outcome | None]) -> None:
    ledger = Ledger(["t"])
    for step in steps:
        if step is None or ledger.snapshot()["t"].in_flight == 0:
            ledger.receive("t")
        else:
            ledger.settle(step, "t")
        count = ledger.snapshot()["t"]
        assert count.received == count.published + count.dropped + count.in_flight
        assert count.in_flight >= 0


def test_threads_do_not_lose_counts() -> None:
    ledger = Ledger(["t"])
    rounds = 2000

    def work(outcome: Outcome) -> None:
        for _ in range(rounds):
            ledger.receive("t")
            ledger.settle(outcome, "t")

    threads = [threading.Thread(target=work, args=(outcome,)) for outcome in list(Outcome)[:4]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    count = ledger.snapshot()["t"]
    assert count.received == 4 * rounds
    assert count.in_flight == 0
    assert all(n == rounds for n in count.outcomes.values())
