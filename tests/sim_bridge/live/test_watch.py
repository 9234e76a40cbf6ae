"""Labels that may be wrong are said once a session, and good ones never."""

from __future__ import annotations

import numpy as np
import pytest

from sim_bridge.frames import Kind
from sim_bridge.live.pairing import Pair
from sim_bridge.live.watch import EVERY, LONG_SECONDS, LOOK, LabelWatch
from sim_bridge.pixels.preprocess import Prepared
from tests.sim_bridge.bridge_helpers import make_frame
from tests.sim_bridge.pixels.test_alignment import Bytes, drive, late, moved

CLASSES = tuple(f"class {number}" for number in range(34))


def pair(number: int, session: str = "s") -> Pair:
    return Pair(make_frame(Kind.RGB, number, session=session), make_frame(Kind.SEMANTIC, number, session=session))


def prepared(rgb: Bytes, labels: Bytes) -> Prepared:
    return Prepared(rgb, labels, 0, rgb.shape[1], rgb.shape[0])


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_one_class_alone_for_long() -> None:
    clock = Clock()
    watch = LabelWatch(clock)
    rgb = np.zeros((32, 48, 3), np.uint8)
    road, sky = (prepared(rgb, np.full((32, 48), number, np.uint8)) for number in (7, 23))

    def causes(number: int, shown: Prepared, session: str = "s") -> list[str]:
        return [one.sentence for one in watch.look(pair(number, session), shown, CLASSES)]

    assert causes(0, road) == []
    clock.now = LONG_SECONDS - 0.1
    assert causes(1, road) == []
    assert causes(2, sky) == []
    clock.now += LONG_SECONDS + 1
    assert causes(3, sky) == [
        "for 6 s all labels have been 'class 23' alone: check the semantic camera and the taxonomy that it names"
    ]
    clock.now += 100
    assert causes(4, sky) == []
    assert causes(5, sky, "next") == []
    clock.now += 100
    assert len(causes(6, sky, "next")) == 1
    assert watch.look(pair(7, "none"), sky, ()) == []


@pytest.mark.parametrize(
    ("ticks", "shift", "sentence"),
    [(0, (0, 0), None), (1, (0, 0), "picture of 1 frame before"), (0, (40, 0), "about 40 pixels left")],
)
def test_labels_that_do_not_lie_on_their_pictures(ticks: int, shift: tuple[int, int], sentence: str | None) -> None:
    watch, said = LabelWatch(), []
    shown = moved(late(drive(LOOK + 1), ticks), *shift)
    for number in range(3 * EVERY):
        said += watch.look(pair(number), prepared(*shown[number % EVERY % len(shown)]), CLASSES)
    if sentence is None:
        assert said == []
        return
    ((cause, text),) = said
    assert cause == "place" and sentence in text
