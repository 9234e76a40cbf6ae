"""The tap: nothing while it is closed, the newest tick of each camera while it is open."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import numpy as np

from sim_bridge.frames import Frame
from sim_bridge.live.tap import Tap
from sim_bridge.live.work import Work
from sim_bridge.translators import Style
from tests.sim_bridge.bridge_helpers import (
    WAIT,
    FailingTranslator,
    Simulator,
    StampTranslator,
    label_stamp,
    make_pair,
    streaming,
)


class Counting:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.ticks: list[str] = []
        self.statuses: list[tuple[str, Mapping[str, object]]] = []
        self.told = threading.Semaphore(0)

    def on_tick(self, tick: Work) -> None:
        self.ticks.append(tick.camera)
        self.told.release()

    def on_status(self, camera: str, body: Mapping[str, object]) -> None:
        self.statuses.append((camera, body))


def test_shows_the_pictures_of_the_pair_that_was_published() -> None:
    with Simulator() as simulator, streaming(simulator, StampTranslator()) as (running, reader):
        tap, watcher = running.bridge.tap, Counting()
        simulator.send(*make_pair(1))
        reader.status(until=lambda s: s.counters["camera/rgb"]["published"] == 1)
        assert tap.latest("camera") is None, "a closed tap keeps nothing"
        tap.open(watcher)
        tap.open(other := Counting())
        running.bridge.set_style("camera", Style(seed=7, ensemble=(1.0, 0.0, 0.0, 0.0, 0.0, 1.0)))
        rgb, semantic = make_pair(2)
        simulator.send(rgb, semantic)
        photoreal: Frame = reader.frame()
        assert watcher.told.acquire(timeout=WAIT)
        tick = tap.latest("camera")
        assert tick is not None and tick.cg is not None and tick.rgb is not None
        assert tick.pair.id == photoreal.id and tick.camera == "camera" and not tick.fallback
        assert np.array_equal(tick.cg, rgb.pixels) and np.array_equal(tick.rgb, photoreal.pixels)
        assert np.array_equal(tick.pair.semantic.pixels, semantic.pixels)
        assert (tick.rgb[..., 2] == label_stamp(photoreal.id)).all()
        assert tick.provenance == photoreal.provenance
        assert photoreal.provenance is not None
        assert photoreal.provenance.seed == 7
        assert photoreal.provenance.style == Style(ensemble=(1.0, 0.0, 0.0, 0.0, 0.0, 1.0))
        tap.close(watcher)
        simulator.send(*make_pair(3))
        assert reader.frame().number == 3
        assert other.told.acquire(timeout=WAIT) and other.told.acquire(timeout=WAIT)
        assert watcher.ticks == ["camera"] and other.ticks == ["camera"] * 2
        tap.close(other)
        assert tap.latest("camera") is None and not tap.is_open, "the last one to go closes it"


def test_passes_the_status_messages_on_as_they_are_sent() -> None:
    with Simulator() as simulator, streaming(simulator, StampTranslator()) as (running, reader):
        watcher = Counting()
        running.bridge.tap.open(watcher)
        simulator.send(*make_pair(1))
        sent = reader.status(until=lambda s: s.counters["camera/rgb"]["published"] == 1)
        reader.status()  # the one before has been reported for sure
        running.bridge.tap.close(watcher)
        bodies = [body for camera, body in watcher.statuses if camera == "camera"]
        assert sent.counters in [body["counters"] for body in bodies]


def test_a_passed_on_frame_has_no_photoreal_picture() -> None:
    with (
        Simulator() as simulator,
        streaming(simulator, FailingTranslator(ValueError("no")), on_error="passthrough") as (running, _),
    ):
        watcher = Counting()
        running.bridge.tap.open(watcher)
        simulator.send(*make_pair(1))
        assert watcher.told.acquire(timeout=WAIT)
        tick = running.bridge.tap.latest("camera")
        assert tick is not None and tick.fallback and tick.rgb is None and tick.edges is None


def test_is_closed_at_first() -> None:
    assert not Tap().is_open
