"""What a bridge says about each camera once a second: counters, rates, latencies."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from sim_bridge.frames import Kind
from sim_bridge.live.latency import LatencyRecorder
from sim_bridge.live.ledger import Ledger


@dataclass(frozen=True, slots=True)
class OutputCount:
    """What left for one camera.

    Attributes:
        published: Photoreal frames sent, each counted once.
        fallback: Those of them that are CG frames passed on.
        repeated: Lockstep results sent once more.
        stray_pixels: Pixels whose class id was outside the taxonomy and became ``unlabeled``.
        suspicions: Warnings about labels that may be wrong; each cause once a session.
    """

    published: int = 0
    fallback: int = 0
    repeated: int = 0
    stray_pixels: int = 0
    suspicions: int = 0


class OutputCounts:
    """The output side's counters per camera; safe to use from several threads."""

    def __init__(self, cameras: Sequence[str]) -> None:
        self._lock = threading.Lock()
        self._counts = {camera: OutputCount() for camera in cameras}

    def add(
        self,
        camera: str,
        *,
        published: int = 0,
        fallback: int = 0,
        repeated: int = 0,
        stray_pixels: int = 0,
        suspicions: int = 0,
    ) -> None:
        """Adds to a camera's counters."""
        with self._lock:
            old = self._counts[camera]
            self._counts[camera] = replace(
                old,
                published=old.published + published,
                fallback=old.fallback + fallback,
                repeated=old.repeated + repeated,
                stray_pixels=old.stray_pixels + stray_pixels,
                suspicions=old.suspicions + suspicions,
            )

    def of(self, camera: str) -> OutputCount:
        """A camera's counters at this moment."""
        with self._lock:
            return self._counts[camera]


class StatusReporter:
    """Builds the body of status messages. One thread uses it."""

    def __init__(self, cameras: Sequence[str], ledger: Ledger, outputs: OutputCounts, latency: LatencyRecorder) -> None:
        self._ledger = ledger
        self._outputs = outputs
        self._latency = latency
        self._before = dict.fromkeys(cameras, (time.perf_counter_ns(), dict[str, int]()))

    def bodies(self) -> Iterator[tuple[str, dict[str, object]]]:
        """Per camera: counters, rates since its last status in 1/s, latency percentiles in ms; see ``docs/wire.md``."""
        latency = self._latency.percentiles_ms()  # all cameras share the stages
        for camera in self._before:
            yield camera, self._body(camera) | {"latency_ms": latency}

    def _body(self, camera: str) -> dict[str, object]:
        ledger = self._ledger.snapshot()
        topics = [topic for topic in ledger if topic.rpartition("/")[0] == camera]
        output = self._outputs.of(camera)
        photoreal = f"{camera}/{Kind.PHOTOREAL}"
        counters = {topic: ledger[topic].as_counters() for topic in topics}
        counters[photoreal] = {
            "published": output.published,
            "fallback": output.fallback,
            "repeated": output.repeated,
            "stray_pixels": output.stray_pixels,
            "suspicions": output.suspicions,
        }
        totals = {topic: ledger[topic].received for topic in topics} | {photoreal: output.published}
        return {"counters": counters, "rates": self._rates(camera, totals)}

    def _rates(self, camera: str, totals: dict[str, int]) -> dict[str, float]:
        now = time.perf_counter_ns()
        then, before = self._before[camera]
        self._before[camera] = (now, totals)
        seconds = max(now - then, 1) / 1e9
        return {topic: (total - before.get(topic, 0)) / seconds for topic, total in totals.items()}
