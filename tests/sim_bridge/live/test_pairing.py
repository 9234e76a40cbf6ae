from collections import Counter

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sim_bridge.frames import Encoding, Frame, FrameId, Kind
from sim_bridge.live.ledger import Outcome
from sim_bridge.live.pairing import DONE_MEMORY, SESSION_MEMORY, Drop, Event, Mode, Pair, Pairer, Repeat

RGB, SEMANTIC = Kind.RGB, Kind.SEMANTIC


def frame(kind: Kind, number: int, session: str = "s", size: tuple[int, int] = (4, 2)) -> Frame:
    width, height = size
    shape = (height, width, 3) if kind is RGB else (height, width)
    encoding = Encoding.RGB8 if kind is RGB else Encoding.MONO8
    return Frame("camera", kind, number, 0.0, session, encoding, width, height, np.zeros(shape, np.uint8), 0)


def outcomes(events: list[Event]) -> list[Outcome]:
    return [event.outcome for event in events if isinstance(event, Drop)]


def pairs(events: list[Event]) -> list[FrameId]:
    return [event.id for event in events if isinstance(event, Pair)]


@pytest.mark.parametrize("kinds", [(RGB, SEMANTIC), (SEMANTIC, RGB)])
def test_two_frames_of_one_tick_meet_whichever_comes_first(kinds: tuple[Kind, Kind]) -> None:
    pairer = Pairer()
    first, second = (frame(kind, 7) for kind in kinds)
    assert pairer.offer(first) == []
    (pair,) = pairer.offer(second)
    assert isinstance(pair, Pair)
    assert {id(pair.rgb), id(pair.semantic)} == {id(first), id(second)}
    assert (pair.rgb.kind, pair.semantic.kind) == (RGB, SEMANTIC)
    assert pairer.waiting == 0


def test_neighbouring_ticks_never_meet() -> None:
    pairer = Pairer()
    assert pairer.offer(frame(RGB, 1)) == []
    assert pairer.offer(frame(SEMANTIC, 2)) == []
    assert pairer.waiting == 2


def test_no_pair_across_sessions() -> None:
    pairer = Pairer()
    pairer.offer(frame(RGB, 5, "old"))

    events = pairer.offer(frame(SEMANTIC, 5, "new"))

    assert pairs(events) == []
    assert outcomes(events) == [Outcome.UNPAIRED]
    assert outcomes(pairer.offer(frame(SEMANTIC, 5, "old"))) == [Outcome.LATE]
    assert pairs(pairer.offer(frame(RGB, 5, "new"))) == [FrameId("new", 5)]


def test_a_new_session_may_begin_again_at_zero() -> None:
    pairer = Pairer()
    for number in (100, 101):
        pairer.offer(frame(RGB, number, "old"))
        pairer.offer(frame(SEMANTIC, number, "old"))
    pairer.offer(frame(RGB, 0, "new"))
    assert pairs(pairer.offer(frame(SEMANTIC, 0, "new"))) == [FrameId("new", 0)]


def test_realtime_drops_a_pair_that_is_older_than_one_before() -> None:
    pairer = Pairer("realtime")
    pairer.offer(frame(RGB, 1))
    pairer.offer(frame(RGB, 2))
    assert pairs(pairer.offer(frame(SEMANTIC, 2))) == [FrameId("s", 2)]
    events = pairer.offer(frame(SEMANTIC, 1))
    assert outcomes(events) == [Outcome.LATE, Outcome.LATE]
    assert outcomes(pairer.offer(frame(RGB, 1))) == [Outcome.DUPLICATE]


def test_lockstep_lets_it_through_because_somebody_waits() -> None:
    pairer = Pairer("lockstep")
    pairer.offer(frame(RGB, 1))
    pairer.offer(frame(RGB, 2))
    pairer.offer(frame(SEMANTIC, 2))
    assert pairs(pairer.offer(frame(SEMANTIC, 1))) == [FrameId("s", 1)]


def test_the_frame_that_waited_longest_leaves_a_full_window() -> None:
    pairer = Pairer(window=2)
    pairer.offer(frame(RGB, 9))
    pairer.offer(frame(RGB, 1))
    events = pairer.offer(frame(RGB, 2))
    assert [event.frame.number for event in events if isinstance(event, Drop)] == [9]
    assert outcomes(events) == [Outcome.UNPAIRED]
    assert pairer.waiting == 2


def test_wildly_wrong_numbers_do_not_block_the_window() -> None:
    pairer = Pairer(window=2)
    for number in (2**63, 2**63 + 1):
        pairer.offer(frame(RGB, number))
    for number in range(10):
        pairer.offer(frame(RGB, number))
        assert pairs(pairer.offer(frame(SEMANTIC, number))) == [FrameId("s", number)]


def test_duplicates_are_told_before_and_after_the_meeting() -> None:
    pairer = Pairer()
    first = frame(RGB, 1)
    pairer.offer(first)
    assert outcomes(pairer.offer(frame(RGB, 1))) == [Outcome.DUPLICATE]
    (pair,) = pairer.offer(frame(SEMANTIC, 1))
    assert isinstance(pair, Pair)
    assert pair.rgb is first
    assert outcomes(pairer.offer(frame(SEMANTIC, 1))) == [Outcome.DUPLICATE]
    assert outcomes(pairer.offer(frame(RGB, 1))) == [Outcome.DUPLICATE]


def test_different_sizes_are_mismatched_and_the_sentence_names_both() -> None:
    pairer = Pairer()
    pairer.offer(frame(RGB, 3, size=(800, 600)))
    events = pairer.offer(frame(SEMANTIC, 3, size=(400, 300)))
    assert outcomes(events) == [Outcome.MISMATCHED, Outcome.MISMATCHED]
    details = {event.detail for event in events if isinstance(event, Drop)}
    assert all("800x600" in detail and "400x300" in detail and "frame 3" in detail for detail in details)


def test_lockstep_repeats_only_when_both_frames_came_again() -> None:
    pairer = Pairer("lockstep")
    pairer.offer(frame(RGB, 1))
    pairer.offer(frame(SEMANTIC, 1))
    assert pairer.offer(frame(RGB, 1))[1:] == []
    assert pairer.offer(frame(RGB, 1))[1:] == []
    assert pairer.offer(frame(SEMANTIC, 1))[1:] == [Repeat("camera", FrameId("s", 1))]
    assert pairer.offer(frame(SEMANTIC, 1))[1:] == []
    assert pairer.offer(frame(RGB, 1))[1:] == [Repeat("camera", FrameId("s", 1))]


def test_an_older_tick_is_not_repeated() -> None:
    pairer = Pairer("lockstep")
    for number in (1, 2):
        pairer.offer(frame(RGB, number))
        pairer.offer(frame(SEMANTIC, number))
    events = pairer.offer(frame(RGB, 1)) + pairer.offer(frame(SEMANTIC, 1))
    assert outcomes(events) == [Outcome.DUPLICATE, Outcome.DUPLICATE]
    assert len(events) == 2


def details(events: list[Event]) -> list[str]:
    return [event.detail for event in events if isinstance(event, Drop)]


def test_an_unpaired_frame_says_what_did_not_come() -> None:
    pairer = Pairer(window=2)
    (detail,) = details([event for number in range(3) for event in pairer.offer(frame(RGB, number))])
    assert "rgb frame 0 of session 's'" in detail
    assert "no semantic frame at all: publish 'camera/semantic' with the same session" in detail
    pairer.offer(frame(SEMANTIC, 40))
    events = pairer.offer(frame(RGB, 3))
    (detail,) = details(events)
    assert "last one on 'camera/semantic' was frame 40" in detail
    assert "--pair-window" in detail


def test_streams_of_one_run_under_two_sessions_are_explained() -> None:
    pairer = Pairer()
    pairer.offer(frame(RGB, 1, "a"))
    events = pairer.offer(frame(SEMANTIC, 1, "b")) + pairer.offer(frame(RGB, 2, "a"))
    assert outcomes(events) == [Outcome.UNPAIRED, Outcome.LATE]
    for detail in details(events):
        assert "'a'" in detail
        assert "'b'" in detail
        assert "same session id" in detail


def test_one_wild_number_and_a_restart_under_the_old_session_are_explained() -> None:
    pairer = Pairer("realtime")
    for number in (5, 2**40):
        pairer.offer(frame(RGB, number))
        pairer.offer(frame(SEMANTIC, number))
    pairer.offer(frame(RGB, 6))
    late = pairer.offer(frame(SEMANTIC, 6))
    assert outcomes(late) == [Outcome.LATE] * 2
    assert all(f"frame 6 is older than frame {2**40}" in detail for detail in details(late))
    (again,) = details(pairer.offer(frame(RGB, 5)))
    assert "rgb frame 5 of session 's' came before" in again
    assert str(2**40) in again
    assert all("a new session id" in detail for detail in (*details(late), again))


def test_what_lockstep_sends_again_is_nobodys_mistake() -> None:
    pairer = Pairer("lockstep")
    pairer.offer(frame(RGB, 1))
    assert details(pairer.offer(frame(RGB, 1))) == [""]
    pairer.offer(frame(SEMANTIC, 1))
    assert details(pairer.offer(frame(RGB, 1)) + pairer.offer(frame(SEMANTIC, 1))) == ["", ""]
    pairer.offer(frame(RGB, 2))
    pairer.offer(frame(SEMANTIC, 2))
    (detail,) = details(pairer.offer(frame(RGB, 1)))
    assert "came before" in detail


def test_flushing_drops_what_waits() -> None:
    pairer = Pairer()
    pairer.offer(frame(RGB, 1))
    pairer.offer(frame(SEMANTIC, 2))
    assert outcomes(pairer.flush(Outcome.SHUTDOWN)) == [Outcome.SHUTDOWN] * 2
    assert pairer.waiting == 0


@pytest.mark.parametrize("mode", ["realtime", "lockstep"])
def test_a_tick_older_than_the_memory_is_late_and_never_published_twice(mode: Mode) -> None:
    pairer = Pairer(mode)
    for number in range(DONE_MEMORY + 10):
        pairer.offer(frame(RGB, number))
        pairer.offer(frame(SEMANTIC, number))
    assert outcomes(pairer.offer(frame(RGB, 3))) == [Outcome.LATE]
    assert outcomes(pairer.offer(frame(SEMANTIC, 3))) == [Outcome.LATE]
    assert outcomes(pairer.offer(frame(RGB, 100))) == [Outcome.DUPLICATE]


def test_a_flood_of_sessions_leaves_nothing_behind() -> None:
    pairer = Pairer()
    for number in range(SESSION_MEMORY * 10):
        events = pairer.offer(frame(RGB, 0, f"session {number}"))
        assert outcomes(events) == ([Outcome.UNPAIRED] if number else [])
        assert pairer.waiting == 1
    assert outcomes(pairer.offer(frame(SEMANTIC, 0, f"session {SESSION_MEMORY * 10 - 2}"))) == [Outcome.LATE]


def test_a_window_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="window of 0"):
        Pairer(window=0)


class PairingMachine(RuleBasedStateMachine):
    """Any order of any frames: every one ends exactly once, and what is published is right."""

    mode: Mode = "realtime"
    window = 3

    def __init__(self) -> None:
        super().__init__()
        self.pairer = Pairer(self.mode, self.window)
        self.offered = 0
        self.ended: Counter[int] = Counter()
        self.keep: list[Frame] = []
        self.published: list[FrameId] = []

    def note(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Pair):
                assert event.rgb.id == event.semantic.id
                assert (event.rgb.kind, event.semantic.kind) == (RGB, SEMANTIC)
                assert (event.rgb.width, event.rgb.height) == (event.semantic.width, event.semantic.height)
                self.published.append(event.id)
                self.ended.update((id(event.rgb), id(event.semantic)))
            elif isinstance(event, Drop):
                self.ended[id(event.frame)] += 1

    @rule(
        kind=st.sampled_from([RGB, SEMANTIC]),
        number=st.one_of(st.integers(0, 8), st.sampled_from([2**64 - 1])),
        session=st.sampled_from(["a", "b", "c"]),
        size=st.sampled_from([(4, 2)] * 5 + [(2, 2)]),
    )
    def offer(self, kind: Kind, number: int, session: str, size: tuple[int, int]) -> None:
        offered = frame(kind, number, session, size)
        self.keep.append(offered)  # so that ids stay unique
        self.offered += 1
        self.note(self.pairer.offer(offered))

    @rule(number=st.integers(0, 8), session=st.sampled_from(["a", "b"]))
    def offer_both(self, number: int, session: str) -> None:
        for kind in (RGB, SEMANTIC):
            self.offer(kind, number, session, (4, 2))

    @invariant()
    def every_frame_ended_once_or_waits(self) -> None:
        assert all(count == 1 for count in self.ended.values())
        assert len(self.ended) + self.pairer.waiting == self.offered

    @invariant()
    def the_window_holds(self) -> None:
        assert self.pairer.waiting <= self.window

    @invariant()
    def nothing_is_published_twice_or_out_of_order(self) -> None:
        assert len(set(self.published)) == len(self.published)
        if self.mode == "realtime":
            for session in {tick.session for tick in self.published}:
                numbers = [tick.number for tick in self.published if tick.session == session]
                assert numbers == sorted(numbers)

    @invariant()
    def sessions_do_not_come_back(self) -> None:
        sessions = [tick.session for tick in self.published]
        changes = [now for before, now in zip([None, *sessions], sessions, strict=False) if now != before]
        assert len(set(changes)) == len(changes)

    def teardown(self) -> None:
        self.note(self.pairer.flush(Outcome.SHUTDOWN))
        assert len(self.ended) == self.offered


class LockstepPairingMachine(PairingMachine):
    mode: Mode = "lockstep"


TestRealtimePairing = PairingMachine.TestCase
TestLockstepPairing = LockstepPairingMachine.TestCase
TestRealtimePairing.settings = TestLockstepPairing.settings = settings(max_examples=60, stateful_step_count=40)


class DepthPairingMachine(PairingMachine):
    """Ticks of three kinds, which may change to two and back at any moment."""

    def __init__(self) -> None:
        super().__init__()
        self.pairer = Pairer(self.mode, self.window, (Kind.DEPTH,))

    @rule(number=st.integers(0, 8), session=st.sampled_from(["a", "b"]))
    def offer_depth(self, number: int, session: str) -> None:
        self.offer(Kind.DEPTH, number, session, (4, 2))

    @rule(number=st.integers(0, 8), session=st.sampled_from(["a", "b"]))
    def offer_all(self, number: int, session: str) -> None:
        for kind in (RGB, SEMANTIC, Kind.DEPTH):
            self.offer(kind, number, session, (4, 2))

    @rule(more=st.sampled_from([(), (Kind.DEPTH,)]))
    def want(self, more: tuple[Kind, ...]) -> None:
        self.note(self.pairer.want(more))

    def note(self, events: list[Event]) -> None:
        super().note(events)
        for event in events:
            if isinstance(event, Pair):
                assert all(frame.id == event.id for frame in event.frames)
                self.ended.update(id(frame) for frame in event.more.values())

    @invariant()
    def the_window_holds(self) -> None:
        assert self.pairer.waiting <= 2 * self.window


TestDepthPairing = DepthPairingMachine.TestCase
TestDepthPairing.settings = settings(max_examples=60, stateful_step_count=40)


def test_ticks_that_were_joined_wait_again_for_a_kind_that_is_wanted_now() -> None:
    pairer = Pairer("lockstep")
    pairer.offer(frame(RGB, 1))
    (pair,) = pairer.offer(frame(SEMANTIC, 1))
    assert isinstance(pair, Pair)
    assert pairer.want((Kind.DEPTH,), [pair]) == []
    assert pairer.waiting == 2
    (whole,) = pairer.offer(frame(Kind.DEPTH, 1))
    assert isinstance(whole, Pair) and [each.kind for each in whole.frames] == [RGB, SEMANTIC, Kind.DEPTH]
