import logging

import pytest

from sim_bridge.once import MAX_CAUSES, OncePerCause

logger = logging.getLogger("sim_bridge.test_once")


def test_each_cause_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    once = OncePerCause(logger)
    for number in range(5):
        once.warn("length", f"too short by {number}")
        once.warn("version", "version 2")
    assert [record.getMessage()[:11] for record in caplog.records] == ["too short b", "version 2 ("]


def test_an_unexpected_error_brings_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    error = RuntimeError("somebody's bug")
    OncePerCause(logger).warn("x", "it failed", error=error)
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[1] is error


def test_a_flood_of_causes_ends_with_one_last_line(caplog: pytest.LogCaptureFixture) -> None:
    once = OncePerCause(logger)
    for number in range(3 * MAX_CAUSES):
        once.warn(number, f"cause {number}")
    assert len(caplog.records) == MAX_CAUSES + 1
    assert "more are only counted" in caplog.records[-1].getMessage()
