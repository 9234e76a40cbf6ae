import threading

import numpy as np
import pytest

from sim_bridge.live.latency import LatencyRecorder, Stage


def test_percentiles_are_those_of_the_samples_in_milliseconds() -> None:
    recorder = LatencyRecorder()
    for milliseconds in range(1, 102):
        recorder.record(Stage.NETWORK, milliseconds * 1_000_000)

    table = recorder.percentiles_ms()

    assert table == {"network": {"p50": 51.0, "p95": 96.0, "p99": 100.0}}


def test_old_samples_leave_the_window() -> None:
    recorder = LatencyRecorder(window=10)
    for _ in range(100):
        recorder.record(Stage.PAIR, 1_000_000_000)
    for _ in range(10):
        recorder.record(Stage.PAIR, 1_000_000)

    assert recorder.samples(Stage.PAIR).size == 10
    assert recorder.percentiles_ms()["pair"]["p99"] == 1.0


def test_stages_without_samples_are_missing_and_clearing_forgets() -> None:
    recorder = LatencyRecorder()
    assert recorder.percentiles_ms() == {}
    recorder.record(Stage.AGE, 5)
    recorder.clear()
    assert recorder.percentiles_ms() == {}
    assert recorder.samples(Stage.AGE).size == 0


def test_a_sample_beyond_64_bits_is_clipped_and_harms_no_percentile() -> None:
    recorder = LatencyRecorder()
    for _ in range(9):
        recorder.record(Stage.AGE, 2_000_000)
    for nanoseconds in (2**80, -(2**80)):
        recorder.record(Stage.AGE, nanoseconds)
    assert recorder.samples(Stage.AGE).size == 11
    table = recorder.percentiles_ms()["age"]
    assert table["p50"] == 2.0
    assert 2.0 < table["p95"] < table["p99"] < 2**63 / 1e6


def test_a_window_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="0 samples"):
        LatencyRecorder(window=0)


def test_recording_from_threads_keeps_every_sample() -> None:
    recorder = LatencyRecorder(window=4000)

    def work(value: int) -> None:
        for _ in range(1000):
            recorder.record(Stage.QUEUE, value)

    threads = [threading.Thread(target=work, args=(value,)) for value in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    values, counts = np.unique(recorder.samples(Stage.QUEUE), return_counts=True)
    assert values.tolist() == [1, 2, 3, 4]
    assert counts.tolist() == [1000] * 4
