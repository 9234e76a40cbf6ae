import logging

import pytest

from sim_bridge.live.once import MAX_LINES, MAX_SCOPES, PERIOD_SECONDS, OncePerCause

logger = logging.getLogger("sim_bridge.test_once")


def test_each_cause_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    once = OncePerCause(logger)
    for number in range(5):
        once.warn("length", f"too short by {number}")
        once.warn("version", "version 2")
    assert [record.getMessage()[:11] for record in caplog.records] == ["too short b", "version 2 ("]


def test_a_cause_is_logged_again_in_another_scope(caplog: pytest.LogCaptureFixture) -> None:
    once = OncePerCause(logger)
    for scope in ("a", "a", "b", "a", "b"):
        once.warn("late", f"late in {scope}", scope=scope)
    assert [record.getMessage().split(" (")[0] for record in caplog.records] == ["late in a", "late in b"]


def test_an_unexpected_error_brings_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    error = RuntimeError("somebody's bug")
    OncePerCause(logger).warn("x", "it failed", error=error)
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[1] is error


def test_a_flood_of_scopes_is_bounded_and_takes_no_line_from_another_cause(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    once = OncePerCause(logger, lambda: now)
    for number in range(1000):
        once.warn("unpaired", f"session {number}", scope=number)
    assert len(caplog.records) == MAX_LINES
    once.warn("out of memory", "the network failed", scope=999)
    assert "the network failed" in caplog.records[-1].getMessage()
    now = PERIOD_SECONDS
    once.warn("unpaired", "still going on", scope=999)
    assert "still going on" in caplog.records[-1].getMessage()


def test_what_is_remembered_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    once = OncePerCause(logger, lambda: now)
    for number in range(10 * MAX_SCOPES):
        now += PERIOD_SECONDS
        once.warn("late", f"session {number}", scope=number)
    assert len(caplog.records) == 10 * MAX_SCOPES
    (complaint,) = once._complaints.values()
    assert len(complaint.scopes) == MAX_SCOPES
    assert len(complaint.times) == MAX_LINES
