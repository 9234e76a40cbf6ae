"""A stateful translator from outside the package, by entry point: cameras never mix, and a drop is known."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from sim_bridge.errors import UsageError
from sim_bridge.frames import Encoding, Frame, Kind
from sim_bridge.live.ledger import Outcome
from sim_bridge.translators import Shot, Translation
from sim_bridge.translators.load import load_translator, resolve, translator_names
from tests.sim_bridge.bridge_helpers import (
    WAIT,
    BlockingTranslator,
    Reader,
    Simulator,
    StampTranslator,
    make_frame,
    make_pair,
    make_settings,
    running,
    streaming,
)
from tests.sim_bridge.newcomers.ghosting import Ghosting

ENTRY = "[sim_bridge.translators]\nghosting = tests.sim_bridge.newcomers.ghosting:load\n"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installs the newcomer's package: what pip leaves of it is this folder."""
    info = tmp_path / "ghosting-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ghosting\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


def grey(number: int, level: int, camera: str, session: str = "s") -> tuple[Frame, Frame]:
    rgb, semantic = make_pair(number, session, camera=camera)
    return replace(rgb, pixels=np.full((8, 16, 3), level, np.uint8)), semantic


def test_two_cameras_a_drop_and_a_restart(simulator: Simulator, installed: None) -> None:
    names = ("dark", "light")
    settings = make_settings(simulator.address, topics=names, bundle="ghosting", mode="lockstep")
    with ExitStack() as stack:
        bridge = stack.enter_context(running(settings, partial(load_translator, settings))).bridge
        readers = {name: stack.enter_context(Reader(bridge.output_address, name)) for name in names}
        simulator.wait_for_subscriptions(4)

        def level(number: int, value: int, camera: str, session: str = "s") -> int:
            simulator.send(*grey(number, value, camera, session))
            frame = readers[camera].frame()
            assert frame.number == number
            (only,) = np.unique(frame.pixels)
            return int(only)

        assert [level(1, 20, "dark"), level(1, 200, "light")] == [20, 200]
        assert [level(2, 40, "dark"), level(2, 240, "light")] == [30, 220]
        assert [level(4, 40, "dark"), level(3, 240, "light")] == [40, 230], "frame 3 of one camera was dropped"
        assert [level(0, 80, "dark", "again"), level(4, 240, "light")] == [80, 235], "one simulator began again"


def test_a_batch_that_failed_leaves_no_trace() -> None:
    def shot(camera: str, level: int, number: int, width: int = 4) -> Shot:
        rgb = np.full((2, width, 3), level, np.uint8)
        dropped = 0 if number else None
        return Shot(camera, "s", number, 0.0, rgb, rgb[..., 0], dropped=dropped)

    translator = Ghosting()
    translator.translate([shot("dark", 20, 0), shot("light", 200, 0)])
    with pytest.raises(ValueError, match="broadcast"):
        translator.translate([shot("dark", 40, 1), shot("light", 240, 1, width=5)])
    again = [translator.translate([shot(*one, 1)])[0].rgb for one in (("dark", 40), ("light", 240))]
    assert [int(picture[0, 0, 0]) for picture in again] == [30, 220]


def test_what_realtime_passes_over_is_known_to_the_next_shot(simulator: Simulator) -> None:
    seen: list[tuple[int, int | None]] = []

    class Watching(BlockingTranslator):
        def translate(self, shots: list[Shot]) -> list[Translation]:  # type: ignore[override]
            seen.extend((shot.number, shot.dropped) for shot in shots)
            return list(super().translate(shots))

    translator = Watching()
    with streaming(simulator, translator) as (_, reader):
        simulator.send(*make_pair(0))
        assert translator.entered.acquire(timeout=WAIT)
        for number in range(1, 10):
            simulator.send(*make_pair(number))
        reader.status(until=lambda s: s.counters["camera/rgb"]["superseded"] == 8)
        translator.go.release(2)
        assert [reader.frame().number for _ in range(2)] == [0, 9]
    assert seen == [(0, None), (9, 8)]


def test_is_found_by_name_with_and_without_an_argument(installed: None) -> None:
    assert "ghosting" in translator_names()
    assert resolve("ghosting") == ("ghosting", "")
    assert resolve("ghosting:a:b") == ("ghosting", "a:b")
    assert resolve("NET.ONNX") == ("onnx", "NET.ONNX")
    assert resolve("camvid-lite") == ("sflow", "camvid-lite")
    with pytest.raises(UsageError, match=r"camvid-judge holds a network of type .* translators are .*ghosting, .*null"):
        resolve("camvid-judge")


class DepthTranslator(StampTranslator):
    """Wants depth, and shows it in the red channel."""

    @property
    def wants(self) -> tuple[Kind, ...]:
        return (Kind.DEPTH,)

    def translate(self, shots: list[Shot]) -> list[Translation]:  # type: ignore[override]
        return [self._show(shot) for shot in shots]

    def _show(self, shot: Shot) -> Translation:
        out = shot.rgb.copy()
        out[..., 0] = shot.inputs[Kind.DEPTH].astype(np.uint8)
        return Translation(out)


def depth(number: int, metres: float) -> Frame:
    pixels = np.full((8, 16), metres, np.float32)
    frame = replace(make_frame(Kind.RGB, number), kind=Kind.DEPTH, encoding=Encoding.FLOAT1)
    return replace(frame, pixels=pixels)


@pytest.mark.parametrize("mode", ["realtime", "lockstep"])
def test_a_wanted_kind_is_part_of_the_tick(simulator: Simulator, mode: str) -> None:
    with streaming(simulator, DepthTranslator(), mode=mode, pair_window=4) as (running, reader):
        simulator.wait_for_subscriptions(1)
        for number in range(3):
            simulator.send(*make_pair(number), depth(number, 10 + number))
            frame = reader.frame()
            assert (frame.number, frame.pixels[0, 0, 0]) == (number, 10 + number)
        for number in range(3, 8):
            simulator.send(*make_pair(number))
        status = reader.status(until=lambda s: s.counters["camera/rgb"]["unpaired"] == 1)
        assert status.counters["camera/depth"]["published"] == 3
        assert running.end() == 0
    counts = running.bridge.ledger.snapshot()
    assert counts["camera/depth"].outcomes == {Outcome.PUBLISHED: 3}
    assert counts["camera/rgb"].outcomes == {Outcome.PUBLISHED: 3, Outcome.UNPAIRED: 1, Outcome.SHUTDOWN: 4}
