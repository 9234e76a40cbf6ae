"""The benchmark of training measures a real step in a process of its own, and says what is above its limit."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType
from unittest import mock

import pytest

pytest.importorskip("cv2")
pytest.importorskip("torch")


@pytest.fixture
def training() -> Iterator[ModuleType]:
    """The script as a module; what it does to the path for its own process is undone."""
    with mock.patch.object(sys, "path", list(sys.path)):
        from benchmarks import training

        yield training


def test_a_case_is_measured(training: ModuleType) -> None:
    figures = training.measure_apart(training.Case.parse("lite:128x64:1"), steps=2, threads=1)
    assert figures["case"] == "lite:128x64:1" and figures["steps"] == 2
    assert figures["images_per_s"] > 0 and figures["step_ms"]["p95"] >= figures["step_ms"]["p50"] > 0
    assert 0 < figures["wait_share"] < 1
    assert 0.1 < figures["memory_gb"] < 8
    if figures["device"] == "cpu":
        assert figures["threads"] == 1
    assert "lite:128x64:1" in training.as_row(figures) and training.broken_limits([figures]) == []


def test_too_much_memory_and_waiting_are_named(training: ModuleType) -> None:
    fine = {"case": "lite:512x256:4", "memory_gb": 8.0, "wait_share": 0.05}
    assert training.broken_limits([fine, {"case": "x", "memory_gb": 99.0, "wait_share": 0.9}]) == []
    assert training.broken_limits([fine | {"memory_gb": 8.01}]) == [
        "training lite:512x256:4 took 8.01 GB, promised is at most 8 GB"
    ]
    assert training.broken_limits([fine | {"wait_share": 0.061}]) == [
        "training lite:512x256:4 waited 6.1 % of the time for its samples, promised is at most 5 %"
    ]


def test_the_cases_that_are_promised_are_measured(training: ModuleType) -> None:
    assert set(training.MEMORY_GB) <= {str(case) for case in training.CASES}
