"""What a training says while it runs."""

import io
from pathlib import Path

import pytest

from trainers.loop import report
from trainers.loop.report import Progress


def test_rates_and_the_time_left_are_those_of_the_last_ten_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(report.time, "perf_counter", lambda: now[0])
    stream = io.StringIO()
    progress = Progress(tmp_path, steps=1000, start=100, images=4, stream=stream)
    now[0] += 10
    progress.report(120, "phase1", {"pixel": 0.25})  # 2 steps a second, 880 left
    assert stream.getvalue().startswith("[##..................] 120/1000 phase1 2.00 steps/s, 8.0 images/s, 7 min left")
    for step in range(130, 231, 10):  # and then 0.5 a second, for longer than is remembered
        now[0] += 20
        progress.report(step, "phase1", {})
    assert stream.getvalue().splitlines()[-1].split("phase1 ")[1].startswith("0.50 steps/s, 2.0 images/s, 26 min left")
