"""The benchmark fails when a promise of docs/benchmarks.md is missed, and says which."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from unittest import mock

import pytest

pytest.importorskip("cv2")
pytest.importorskip("torch")

from sim_bridge.tools.bench import BenchResult


@pytest.fixture
def run() -> Iterator[ModuleType]:
    """The script as a module; what it does to the environment and the path for its own process is undone."""
    with mock.patch.dict(os.environ), mock.patch.object(sys, "path", list(sys.path)):
        from benchmarks import run

        yield run


def result(frames_per_s: float = 30.0, *, overhead: float = 1.0, around: float = 0.5) -> BenchResult:
    stages = ("network", "end_to_end", "delivered")
    latency = {stage: dict.fromkeys(("p50", "p95", "p99"), 9.0) for stage in stages}
    latency["bridge_overhead"] = {"p50": 0.1, "p95": 0.2, "p99": overhead}
    latency["preprocess"] = latency["postprocess"] = {"p50": around, "p95": 50.0, "p99": 50.0}
    return BenchResult(
        *(frames_per_s, 100, 100, 512, 256, "full", None, "null", "0" * 12, "-", "cpu", "fp32"),
        latency_ms=latency,
        outcomes={"published": 100},
        load_average=(0.0, 0.0),
        cpus=2,
        versions={"torch": "2"},
    )


def missed(run: ModuleType, outcome: BenchResult) -> list[str]:
    sentences: list[str] = run.missed_promises([(case, outcome) for case in run.CASES])
    return sentences


def test_kept_promises_are_silent(run: ModuleType) -> None:
    assert missed(run, result()) == []
    assert missed(run, result(25.0, overhead=3.0, around=1.0)) == []


def test_every_missed_promise_is_named_with_its_command(run: ModuleType) -> None:
    assert missed(run, result(24.9)) == [
        "sim-bridge bench --bundle camvid-lite --size 512x256 --frames 1000: "
        "the rate is 24.90 frames/s, promised is at least 25 frames/s"
    ]
    (small,) = missed(run, result(overhead=7.9))
    assert small.startswith(
        "sim-bridge bench --bundle null --size 512x256 --frames 2000 --rate 25: bridge_overhead p99"
    )
    assert small.endswith("is 7.90 ms, promised is at most 3 ms")
    both = missed(run, result(overhead=8.1))
    assert [("1280x720" in sentence, sentence[-4:]) for sentence in both] == [(False, "3 ms"), (True, "8 ms")]
    around = missed(run, result(around=1.01))
    assert len(around) == 3
    assert all("preprocess and postprocess p50 is 2.02 ms, promised is at most 2 ms" in text for text in around)


@pytest.mark.parametrize(("rate", "code"), [(30.0, 0), (10.0, 1)])
def test_the_exit_code_tells(
    run: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    rate: float,
    code: int,
) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{run.BEGIN}\n{run.END}\n")
    monkeypatch.setattr(sys, "argv", ["run.py", "--page", str(page)])
    monkeypatch.setattr(run.frame_path, "measure_all", list)
    monkeypatch.setattr(run, "run_bench", lambda **_: result(rate))
    assert run.main() == code
    assert ("promise missed: sim-bridge bench --bundle camvid-lite" in capsys.readouterr().err) is bool(code)
    assert f"{rate:.1f}" in page.read_text()


def test_the_page_says_what_is_checked(run: ModuleType) -> None:
    promised = run.PAGE.read_text(encoding="utf-8").partition("## What is promised")[2].partition("## ")[0]
    promised = " ".join(promised.split())
    for words in ("at least 25 frames/s", "p99 at most 3 ms at 512x256 and 8 ms at 1280x720", "at most 2 ms (p50)"):
        assert words in promised
