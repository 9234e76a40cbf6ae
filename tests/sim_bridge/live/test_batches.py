"""Several cameras' pairs of a tick as one batch through the whole bridge."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import pytest

from sim_bridge.errors import TranslatorError
from sim_bridge.frames import Frame
from sim_bridge.live.ledger import Outcome
from sim_bridge.translators import Shot, Style, Translation
from tests.sim_bridge.bridge_helpers import (
    Reader,
    Running,
    Simulator,
    StampTranslator,
    make_pair,
    make_settings,
    running,
    shows_its_tick,
)

CAMERAS = ("front", "left", "right")


class Recording(StampTranslator):
    """Keeps the batches that it was given, and the largest that it was warmed up for."""

    def __init__(self, most: int = 9, answers: int | None = None) -> None:
        self.batches: list[tuple[int, ...]] = []
        self.warm = 0
        self._most = most
        self._answers = answers

    def warm_up(self, sizes: Sequence[tuple[int, int]], batch: int = 1) -> None:
        self.warm = max(self.warm, batch)

    def translate(self, shots: Sequence[Shot]) -> Sequence[Translation]:
        self.batches.append((len(shots), *shots[0].labels.shape))
        if len(shots) > self._most:
            raise TranslatorError(f"no memory for {len(shots)}")
        return super().translate(shots)[: self._answers]


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


class Rig:
    """A bridge of three cameras that is being read."""

    def __init__(self, stack: ExitStack, simulator: Simulator, translator: Recording, **settings: object) -> None:
        settings = {"topics": CAMERAS, "mode": "lockstep", "batch_wait": 1.0} | settings
        self._simulator = simulator
        self.running: Running = stack.enter_context(running(make_settings(simulator.address, **settings), translator))
        address = self.running.bridge.output_address
        self._readers = {camera: stack.enter_context(Reader(address, camera)) for camera in CAMERAS}
        simulator.wait_for_subscriptions(2 * len(CAMERAS))

    def tick(self, number: int, cameras: Sequence[str] = CAMERAS, **sizes: tuple[int, int]) -> list[Frame]:
        """Sends a tick and waits for what becomes of it."""
        for camera in cameras:
            self._simulator.send(*make_pair(number, camera=camera, size=sizes.get(camera, (16, 8))))
        frames = [self._readers[camera].frame() for camera in cameras]
        assert [frame.camera for frame in frames] == list(cameras)
        assert all(frame.number == number and shows_its_tick(frame) for frame in frames)
        return frames

    def outcomes(self) -> list[dict[Outcome, int]]:
        """What became of each camera's pictures, when all is over."""
        self.running.end()
        counts = self.running.bridge.ledger.snapshot()
        return [dict(counts[f"{camera}/rgb"].outcomes) for camera in CAMERAS]


def test_a_tick_is_one_batch(simulator: Simulator) -> None:
    translator = Recording()
    with ExitStack() as stack:
        rig = Rig(stack, simulator, translator)
        for number in range(5):
            rig.tick(number)
        assert rig.outcomes() == [{Outcome.PUBLISHED: 5}] * 3
    assert translator.batches == [(3, 8, 16)] * 5
    assert translator.warm == 3


def test_without_the_setting_each_pair_goes_alone(simulator: Simulator) -> None:
    translator = Recording()
    with ExitStack() as stack:
        Rig(stack, simulator, translator, batch_wait=None).tick(0)
    assert translator.batches == [(1, 8, 16)] * 3
    assert translator.warm == 1


def test_a_tick_without_one_of_the_cameras_is_a_smaller_batch(simulator: Simulator) -> None:
    translator = Recording()
    with ExitStack() as stack:
        rig = Rig(stack, simulator, translator, batch_wait=0.2)
        rig.tick(0)
        rig.tick(1, ("front", "right"))
        rig.tick(2, ("front", "right"))
        rig.tick(3, ("left",))
    assert translator.batches == [(3, 8, 16), (2, 8, 16), (2, 8, 16), (1, 8, 16)]


def test_sizes_and_styles_apart_are_batches_apart(simulator: Simulator) -> None:
    translator = Recording()
    with ExitStack() as stack:
        rig = Rig(stack, simulator, translator)
        rig.tick(0, left=(32, 16))
        rig.running.bridge.set_style("right", Style(seed=7))
        frames = rig.tick(1)
        assert [frame.provenance.seed for frame in frames if frame.provenance is not None] == [0, 0, 7]
    assert sorted(translator.batches) == [(1, 8, 16), (1, 16, 32), (2, 8, 16), (2, 8, 16)]


def test_a_batch_that_fails_goes_one_by_one(simulator: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    translator = Recording(most=1)
    with ExitStack() as stack:
        rig = Rig(stack, simulator, translator)
        rig.tick(0)
        rig.tick(1)
        assert rig.outcomes() == [{Outcome.PUBLISHED: 2}] * 3
    assert [batch[0] for batch in translator.batches] == [3, 1, 1, 1] * 2
    (record,) = caplog.records
    assert record.getMessage().startswith(
        "a batch of 3 pairs of frame 0 failed (no memory for 3): they go one by one; leave --batch-wait away if this"
        " stays so"
    )


def test_the_shots_of_a_batch_that_failed_come_again_unchanged(simulator: Simulator) -> None:
    seen: list[tuple[int, str, int, int | None]] = []

    class Watching(Recording):
        def translate(self, shots: Sequence[Shot]) -> Sequence[Translation]:
            seen.extend((len(shots), shot.camera, shot.number, shot.dropped) for shot in shots)
            return super().translate(shots)

    with ExitStack() as stack:
        rig = Rig(stack, simulator, Watching(most=1))
        for number in (0, 1, 4):
            rig.tick(number)
    together, alone = ({shot[1:] for shot in seen if shot[0] == count} for count in (3, 1))
    assert together == alone == {(c, n, d) for c in CAMERAS for n, d in ((0, None), (1, 0), (4, 2))}
    assert len(seen) == 2 * len(together)


def test_pictures_that_are_missing_in_an_answer_are_never_another_cameras(simulator: Simulator) -> None:
    """A translator that looks at the first picture only: told, and then asked for each alone."""
    translator = Recording(answers=1)
    with ExitStack() as stack:
        rig = Rig(stack, simulator, translator)
        rig.tick(0)
        assert rig.outcomes() == [{Outcome.PUBLISHED: 1}] * 3


def test_in_realtime_what_is_there_when_the_network_is_free_goes_together(simulator: Simulator) -> None:
    translator = Recording()
    with ExitStack() as stack:
        rig = Rig(stack, simulator, translator, mode="realtime")
        for number in range(5):
            rig.tick(number)
    assert translator.batches == [(3, 8, 16)] * 5
