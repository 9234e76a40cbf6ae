"""What a training says while it runs."""

import io
import json
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
    progress.report(120, "phase1", {"pixel": 0.25, "loss_d": 0.5, "loss_g": 2.25})  # 2 steps a second, 880 left
    begin = "[##..................] step 120 of 1000 (phase1), 2.00 steps/s, 7 min left"
    assert stream.getvalue() == f"{begin}, loss d 0.5, loss g 2.25\n"
    row = json.loads((tmp_path / "stats.jsonl").read_text())
    assert row["pixel"] == 0.25 and row["images_per_s"] == 8
    for step in range(130, 231, 10):  # and then 0.5 a second, for longer than is remembered
        now[0] += 20
        progress.report(step, "phase1", {})
    assert stream.getvalue().splitlines()[-1].endswith("0.50 steps/s, 26 min left")
