"""Another network while the bridge runs: it takes over between two frames, or the old one stays and it is said why."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pytest

from sim_bridge.errors import UsageError
from sim_bridge.frames import Frame, Kind
from sim_bridge.live.bridge import Bridge
from sim_bridge.live.controls import BundleChoice, BundleState
from sim_bridge.live.shared import BundleLoader
from sim_bridge.translators import Shot, Translation, Translator
from tests.sim_bridge.bridge_helpers import (
    WAIT,
    BlockingTranslator,
    Reader,
    Simulator,
    StampTranslator,
    make_pair,
    make_settings,
    running,
)
from tests.sim_bridge.newcomers.test_translator import DepthTranslator, depth


class Bridged(NamedTuple):
    simulator: Simulator
    bridge: Bridge
    reader: Reader


class Inverted(StampTranslator):
    """Another network: its pictures and its model id differ."""

    @property
    def model_id(self) -> str:
        return "b" * 12

    def translate(self, shots: Sequence[Shot]) -> Sequence[Translation]:
        return [Translation(255 - shot.rgb) for shot in shots]


def model_of(frame: Frame) -> str:
    assert frame.provenance is not None
    return frame.provenance.model


def until(bridge: Bridge, fits: Callable[[BundleState], bool]) -> BundleState:
    """Waits for a state of the bundle choice; the loader of these tests sets an event, so this is short."""
    waiter = threading.Event()
    for _ in range(round(WAIT / 0.005)):
        if fits(bridge.bundles.state):
            return bridge.bundles.state
        waiter.wait(0.005)
    raise AssertionError(bridge.bundles.state)


@contextlib.contextmanager
def bridged(translator: Translator, loader: BundleLoader | None = None, **more: str) -> Iterator[Bridged]:
    """A running bridge with a loader, a simulator it is connected to, and a reader."""
    with Simulator() as simulator:
        settings = make_settings(simulator.address, **more)
        with (
            running(settings, translator, load=loader or load) as started,
            Reader(started.bridge.output_address) as reader,
        ):
            simulator.wait_for_subscriptions()
            yield Bridged(simulator, started.bridge, reader)


def load(name: str) -> Translator:
    if name != "inverted":
        raise UsageError(f"there is no bundle {name}: choose another")
    return Inverted()


def test_the_newest_wish_wins_and_is_taken_once() -> None:
    woken: list[str] = []
    choice = BundleChoice("a", lambda: woken.append("woken"))
    choice.wish("b")
    choice.wish("c")
    assert choice.state == BundleState("a", loading="c")
    assert choice.take() == "c" and choice.take() is None
    choice.wish("d")
    choice.failed("no")
    assert choice.state == BundleState("a", loading="d", error="no")
    choice.take()
    choice.loaded("d", "0" * 12)
    assert choice.state == BundleState("d", "0" * 12)
    assert len(woken) == 3


def test_another_bundle_takes_over_and_a_wrong_one_does_not() -> None:
    with bridged(StampTranslator()) as (simulator, bridge, reader):
        assert bridge.bundles.state.bundle == "null"
        simulator.send(*make_pair(1))
        assert model_of(reader.frame()) == "0" * 12
        bridge.bundles.wish("inverted")
        assert until(bridge, lambda state: state.loading is None).model == "b" * 12
        pair = make_pair(2)
        simulator.send(*pair)
        frame = reader.frame()
        assert model_of(frame) == "b" * 12
        assert np.array_equal(frame.pixels, 255 - pair[0].pixels.view(np.uint8))
        bridge.bundles.wish("nothing")
        state = until(bridge, lambda state: state.error is not None)
        assert (state.bundle, state.loading) == ("inverted", None)
        assert state.error == "there is no bundle nothing: choose another"
        simulator.send(*make_pair(3))
        assert model_of(reader.frame()) == "b" * 12


def test_receiving_goes_on_while_a_bundle_loads() -> None:
    entered, go = threading.Event(), threading.Event()

    def slow(name: str) -> Translator:
        entered.set()
        assert go.wait(WAIT)
        return load(name)

    with bridged(StampTranslator(), slow) as (simulator, bridge, reader):
        bridge.bundles.wish("inverted")
        assert entered.wait(WAIT)
        for number in range(1, 21):
            simulator.send(*make_pair(number))
        reader.status(until=lambda s: s.counters[f"camera/{Kind.RGB}"]["superseded"] == 19)
        go.set()
        assert reader.frame().number == 20


@pytest.mark.parametrize("mode", ["realtime", "lockstep"])
def test_a_bundle_that_wants_depth_gets_it_from_its_first_frame_on(mode: str) -> None:
    wants_depth = DepthTranslator()
    with bridged(StampTranslator(), lambda name: wants_depth, mode=mode) as (simulator, bridge, reader):
        simulator.send(*make_pair(1))
        assert reader.frame().number == 1, "nothing else is waited for"
        bridge.bundles.wish("depth")
        until(bridge, lambda state: state.loading is None)
        simulator.wait_for_subscriptions(1)
        simulator.send(*make_pair(2), depth(2, 70))
        frame = reader.frame()
        assert (frame.number, frame.pixels[0, 0, 0]) == (2, 70)


@pytest.mark.parametrize("mode", ["realtime", "lockstep"])
def test_a_translator_that_wants_nothing_takes_over_from_one_that_does(mode: str) -> None:
    with bridged(DepthTranslator(), mode=mode) as (simulator, bridge, reader):
        simulator.wait_for_subscriptions(1)
        simulator.send(*make_pair(1), depth(1, 70))
        assert reader.frame().pixels[0, 0, 0] == 70
        bridge.bundles.wish("inverted")
        until(bridge, lambda state: state.model == "b" * 12)
        simulator.send(*make_pair(2))
        frame = reader.frame()
        assert (frame.number, model_of(frame)) == (2, "b" * 12)


@pytest.mark.parametrize("mode", ["realtime", "lockstep"])
def test_a_bundle_is_loaded_also_while_paused(mode: str) -> None:
    with bridged(StampTranslator(), mode=mode) as (simulator, bridge, _):
        bridge.pause()
        simulator.send(*make_pair(1))
        bridge.bundles.wish("inverted")
        assert until(bridge, lambda state: state.model == "b" * 12).error is None


def test_a_wish_waits_for_the_frame_in_the_network() -> None:
    hanging = BlockingTranslator()
    with bridged(hanging) as (simulator, bridge, reader):
        simulator.send(*make_pair(1))
        assert hanging.entered.acquire(timeout=WAIT)
        bridge.bundles.wish("inverted")
        assert bridge.bundles.state.loading == "inverted"
        hanging.go.release()
        assert model_of(reader.frame()) == "0" * 12
        until(bridge, lambda state: state.model == "b" * 12)
