import os
import sys

import pytest

from sim_bridge.recordings.progress import EVERY, ProgressLines, show_progress
from sim_bridge.recordings.translate import Report


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_line_every_30_seconds() -> None:
    clock, said = Clock(), list[str]()
    lines = ProgressLines(said.append, clock)
    for done in range(121):
        lines(Report(1000, already=100, translated=done))
        clock.now += 1.0
    assert EVERY == 30.0
    assert said == [
        "130 of 1000 frames, 1 a second, 14 min left",
        "160 of 1000 frames, 1 a second, 14 min left",
        "190 of 1000 frames, 1 a second, 14 min left",
        "220 of 1000 frames, 1 a second, 13 min left",
    ]


@pytest.mark.parametrize(
    ("total", "translated", "rest"), [(100000, 30, "27.8 h left"), (40, 30, "10 s left"), (40, 0, "0 of 40 frames")]
)
def test_how_long_it_still_takes(total: int, translated: int, rest: str) -> None:
    clock, said = Clock(), list[str]()
    lines = ProgressLines(said.append, clock)
    clock.now += 30.0
    lines(Report(total, translated=translated))
    assert said[0].endswith(rest)


def test_lines_where_stderr_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    with os.fdopen(write, "w") as end, os.fdopen(read):
        monkeypatch.setattr(sys, "stderr", end)
        with show_progress("x", print) as progress:
            assert isinstance(progress, ProgressLines)
