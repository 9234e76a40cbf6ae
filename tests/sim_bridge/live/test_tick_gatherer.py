import time
from collections import Counter
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from sim_bridge.live.handoff import Handoff, Policy, TickGatherer

CAMERAS = ("front", "left", "right")
Item = tuple[int, str]


def gatherer(wait: float | None, *arrived: Item) -> tuple[TickGatherer[Item], Handoff[Item]]:
    """A gatherer and its inbox, in which items of a tick and a camera have arrived."""
    inbox: Handoff[Item] = Handoff(CAMERAS, Policy.WAIT, bound=100)
    arrive(inbox, *arrived)
    return TickGatherer(inbox, lambda item: item[0], CAMERAS, wait), inbox


def arrive(inbox: Handoff[Item], *items: Item) -> None:
    for item in items:
        inbox.put(item[1], item)


def items_of(taken: Sequence[object]) -> list[Item]:
    return sorted(each.item for each in taken)  # type: ignore[attr-defined]


def test_a_whole_tick_is_one_batch() -> None:
    gathering, _ = gatherer(0.0, (1, "front"), (1, "left"), (2, "front"), (1, "right"))
    assert items_of(gathering.take()) == [(1, "front"), (1, "left"), (1, "right")]
    assert items_of(gathering.take()) == [(2, "front")]


def test_without_a_wait_each_goes_by_itself() -> None:
    gathering, _ = gatherer(None, (1, "front"), (1, "left"))
    assert [items_of(gathering.take()) for _ in range(2)] == [[(1, "front")], [(1, "left")]]


def test_nothing_comes_of_a_closed_inbox() -> None:
    gathering, inbox = gatherer(0.0)
    inbox.close()
    assert gathering.take() == []


def test_a_camera_that_is_away_costs_one_wait_until_it_is_back() -> None:
    gathering, inbox = gatherer(0.2)

    def seconds_of(*items: Item) -> float:
        arrive(inbox, *items)
        start = time.monotonic()
        assert items_of(gathering.take()) == sorted(items)
        return time.monotonic() - start

    assert seconds_of((1, "front"), (1, "left")) >= 0.2
    gathering._wait = 30.0  # whoever waits again is found out
    seconds_of((2, "front"), (2, "left"))
    seconds_of((2, "right"))  # late, and nobody waits for those who were there
    assert gathering._present == set(CAMERAS)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from(CAMERAS)), unique=True, max_size=18).map(
        lambda items: sorted(items, key=lambda item: item[0])
    ),
    st.lists(st.integers(1, 18), min_size=1, max_size=18),
)
def test_everything_comes_once_in_batches_of_one_tick(items: list[Item], bursts: list[int]) -> None:
    """However the messages of ticks fall between the network's turns."""
    gathering, inbox = gatherer(0.0)
    came: list[Item] = []
    for burst in bursts:
        arriving, items = items[:burst], items[burst:]
        arrive(inbox, *arriving)
        while len(inbox):
            batch = items_of(gathering.take())
            assert len({tick for tick, _ in batch}) == 1 and len({camera for _, camera in batch}) == len(batch)
            came += batch
        assert Counter(came) == Counter(dict.fromkeys(came, 1))
    arrive(inbox, *items)
    inbox.close()
    while not inbox.finished:
        came += items_of(gathering.take())
    for camera in CAMERAS:
        ticks = [tick for tick, of in came if of == camera]
        assert ticks == sorted(ticks)
