"""Stage latencies: the last few thousand samples of each stage, reported as percentiles."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from enum import StrEnum
from typing import Final

import numpy as np
import numpy.typing as npt

NS_PER_MS: Final = 1e6
PERCENTILES: Final = (50, 95, 99)
_LONGEST = int(np.iinfo(np.int64).max)


class Stage(StrEnum):
    """What is timed for every published pair."""

    RECEIVE = "receive"
    """Taking the messages of the pair from the socket and checking them; waiting for the partner is not in it."""
    PAIR = "pair"
    """Joining and handing over to the network stage."""
    QUEUE = "queue"
    """From the hand-over until the network stage took the pair, the time that stage was busy included."""
    PREPROCESS = "preprocess"
    NETWORK = "network"
    POSTPROCESS = "postprocess"
    PUBLISH = "publish"
    """Encoding the message and giving it to ZeroMQ."""
    BRIDGE_OVERHEAD = "bridge_overhead"
    """The bridge's own cost: receive, pair, both hand-overs, publish; not the waiting for a partner or a busy stage."""
    END_TO_END = "end_to_end"
    """From taking the later message of the pair to the published frame."""
    AGE = "age"
    """From the simulator's ``sent`` stamp of the RGB frame to the published frame, if both clocks agree."""


class LatencyRecorder:
    """Keeps the latest samples of each stage in rings of fixed size; safe to use from several threads."""

    def __init__(self, stages: Iterable[Stage] = Stage, window: int = 4096) -> None:
        if window < 1:
            raise ValueError(f"a latency window of {window} samples holds nothing: give at least 1")
        self._lock = threading.Lock()
        self._window = window
        self._rings: dict[Stage, npt.NDArray[np.int64]] = {stage: np.zeros(window, np.int64) for stage in stages}
        self._counts = dict.fromkeys(self._rings, 0)

    def record(self, stage: Stage, nanoseconds: int) -> None:
        """Adds one sample, in nanoseconds, clipped to what 64 bits hold; the oldest one leaves when the ring is full.

        Clipped, because a sample may be the distance to a stamp from outside, and measuring must never end a stage.
        """
        clipped = max(-_LONGEST, min(nanoseconds, _LONGEST))
        with self._lock:
            count = self._counts[stage]
            self._rings[stage][count % self._window] = clipped
            self._counts[stage] = count + 1

    def samples(self, stage: Stage) -> npt.NDArray[np.int64]:
        """A copy of the samples kept for a stage, ``(n,)`` int64 nanoseconds in no particular order."""
        with self._lock:
            return self._rings[stage][: min(self._counts[stage], self._window)].copy()

    def percentiles_ms(self) -> dict[str, dict[str, float]]:
        """``{stage: {"p50": ms, "p95": ms, "p99": ms}}`` over the kept samples; stages without a sample are missing."""
        table: dict[str, dict[str, float]] = {}
        for stage in self._rings:
            samples = self.samples(stage)
            if samples.size:
                # As floats: between two samples far apart the difference of integers would overflow.
                values = np.percentile(samples.astype(np.float64), PERCENTILES) / NS_PER_MS
                table[str(stage)] = {f"p{p}": float(v) for p, v in zip(PERCENTILES, values, strict=True)}
        return table

    def clear(self) -> None:
        """Forgets all samples (a benchmark does so after its warm-up)."""
        with self._lock:
            self._counts = dict.fromkeys(self._rings, 0)
