"""Measures the bridge as it is used: a simulator in another process, loopback tcp, the real bridge in this one."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from sim_bridge import __version__
from sim_bridge.errors import SimBridgeError, UsageError
from sim_bridge.frames import MAX_PIXELS, Kind
from sim_bridge.live.bridge import Bridge
from sim_bridge.live.latency import NS_PER_MS, PERCENTILES
from sim_bridge.live.ledger import TopicCount
from sim_bridge.settings import BridgeSettings
from sim_bridge.tools.bench_source import CAMERA, Delivery, Plan, simulate
from sim_bridge.translators import GpuTime, TimesGpu, Translator
from sim_bridge.translators.load import load_translator

DEFAULT_RATE: Final = 25.0
WARM_UP_FRAMES: Final = 30
DELIVERED: Final = "delivered"
"""The row that the simulator's side measures: from before it sends a frame until it holds the photoreal one."""

_POLL_SECONDS: Final = 0.1
_SETTLE_SECONDS: Final = 1.0
_JOIN_SECONDS: Final = 5.0
_NOT_KNOWN: Final = "-"


@dataclass(frozen=True, slots=True)
class BenchResult:
    """One measurement.

    Attributes:
        frames_per_s: Photoreal frames that reached the simulator's side, per second, the whole bridge in between.
        frames: Frames sent.
        delivered: Frames that came back.
        width: Pixels.
        height: Pixels.
        mode: ``full`` (as fast as frames come back) or ``paced``.
        rate: Frames per second of the simulator when paced.
        bundle: The translator's name.
        model: Its model id.
        tier: Its size, where it has one.
        device: Where it ran.
        precision: Its arithmetic.
        latency_ms: p50, p95 and p99 by stage, milliseconds; with rows ``gpu_...`` where the translator has these times.
        outcomes: How the measured RGB messages ended, by outcome.
        load_average: The system's one-minute load average before and after; the benchmark's own load is in the second.
        cpus: Processor cores this process may use.
        versions: Of what ran.
    """

    frames_per_s: float
    frames: int
    delivered: int
    width: int
    height: int
    mode: str
    rate: float | None
    bundle: str
    model: str
    tier: str
    device: str
    precision: str
    latency_ms: Mapping[str, Mapping[str, float]]
    outcomes: Mapping[str, int]
    load_average: tuple[float, float]
    cpus: int
    versions: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        table = {name: getattr(self, name) for name in self.__slots__}
        table["latency_ms"] = {stage: dict(row) for stage, row in self.latency_ms.items()}
        return table | {"load_average": list(self.load_average)}

    def to_table(self) -> str:
        """A table for people, as plain text."""
        pace = "as fast as frames come back" if self.rate is None else f"paced at {self.rate:g} frames/s"
        lost = "".join(f", {count} {name}" for name, count in self.outcomes.items() if name != "published")
        before, after = self.load_average
        lines = [
            f"{self.bundle} ({self.model}, tier {self.tier}, {self.precision}) on {self.device}",
            f"{self.width}x{self.height}, {pace}: {self.frames_per_s:.1f} frames/s, "
            f"{self.delivered} of {self.frames} delivered{lost}",
            f"load average {before:.2f} before, {after:.2f} after, {self.cpus} cores; "
            + ", ".join(f"{name} {number}" for name, number in self.versions.items()),
            "",
            f"{'ms':<16}" + "".join(f"{f'p{p}':>9}" for p in PERCENTILES),
        ]
        for stage, row in self.latency_ms.items():
            lines.append(f"{stage:<16}" + "".join(f"{row[f'p{p}']:>9.3f}" for p in PERCENTILES))
        return "\n".join(lines)


def run_bench(
    *,
    size: tuple[int, int],
    frames: int,
    bundle: str = "street-enhance",
    device: str = "auto",
    precision: str = "auto",
    mode: Literal["full", "paced"] = "full",
    rate: float | None = None,
) -> BenchResult:
    """Runs the bridge on drawn frames and measures it.

    Args:
        size: ``(width, height)`` of the frames, and of the network.
        frames: How many are measured; 30 more warm up.
        bundle: As the setting.
        device: As the setting.
        precision: As the setting.
        mode: ``full``: the next frame is sent when one comes back, two on their way. ``paced``: at a fixed rate.
        rate: Frames per second when paced; 25 by default.

    Raises:
        UsageError: A number is out of bounds.
        SimBridgeError: The translator cannot be loaded, or no frame comes back.
    """
    if frames < 1:
        raise UsageError(f"the benchmark was asked for {frames} frames: give at least 1")
    if size[0] * size[1] > MAX_PIXELS:
        raise UsageError(f"the size {size[0]}x{size[1]} has {size[0] * size[1]} pixels: give at most {MAX_PIXELS}")
    if rate is not None and not (mode == "paced" and 0 < rate <= 10_000):
        raise UsageError(
            f"the rate {rate:g} with mode {mode!r} cannot be kept: give mode 'paced' and a rate up to 10000"
        )
    pace = (rate or DEFAULT_RATE) if mode == "paced" else None
    plan = Plan(size[0], size[1], WARM_UP_FRAMES, frames, pace)
    with _simulator(plan) as link:
        settings = BridgeSettings.model_validate(
            {
                "topics": (CAMERA,),
                "input": _hear(link, None),
                "output": "tcp://127.0.0.1:*",
                "bundle": bundle,
                "device": device,
                "precision": precision,
                "size": size,
                "max_pixels": MAX_PIXELS,  # whoever asks for a size by name knows what it costs
            }
        )
        return _measure(settings, plan, link)


def _measure(settings: BridgeSettings, plan: Plan, link: Connection) -> BenchResult:
    loaded: list[Translator] = []

    def load() -> Translator:
        loaded.append(load_translator(settings))
        return loaded[0]

    with Bridge(settings, load) as bridge, _running(bridge) as ended:
        while not bridge.wait_until_ready(_POLL_SECONDS):
            _raise_if_ended(ended)
        before = os.getloadavg()[0]
        link.send(bridge.output_address)
        _hear(link, ended)
        start = _settled(bridge)
        bridge.latency.clear()
        link.send("go")
        delivery = _hear(link, ended)
        assert isinstance(delivery, Delivery)
        outcomes = _outcomes(start, _settled(bridge))
        latency = bridge.latency.percentiles_ms()
        after = os.getloadavg()[0]
    link.send("done")
    return _result(plan, delivery, loaded[0], latency, outcomes, (before, after))


def _result(
    plan: Plan,
    delivery: Delivery,
    translator: Translator,
    latency: dict[str, dict[str, float]],
    outcomes: dict[str, int],
    load_average: tuple[float, float],
) -> BenchResult:
    if isinstance(translator, TimesGpu):
        times = translator.gpu_times
        latency |= _gpu_rows(times[len(times) - min(len(times), outcomes.get("published", 0)) :])
    if delivery.delivered:
        latency[DELIVERED] = _percentiles(np.asarray(delivery.latencies) / NS_PER_MS)
    facts = translator.facts
    return BenchResult(
        # One frame less than came back: the clock starts when the first one is here.
        frames_per_s=(delivery.delivered - 1) / delivery.seconds if delivery.seconds else 0.0,
        frames=delivery.sent,
        delivered=delivery.delivered,
        width=plan.width,
        height=plan.height,
        mode="full" if plan.rate is None else "paced",
        rate=plan.rate,
        bundle=translator.name,
        model=translator.model_id,
        tier=facts.get("tier", _NOT_KNOWN),
        device=facts.get("device", f"cpu ({platform.machine()})"),
        precision=facts.get("precision", _NOT_KNOWN),
        latency_ms=latency,
        outcomes=outcomes,
        load_average=load_average,
        cpus=len(os.sched_getaffinity(0)),
        versions=_versions(),
    )


def _gpu_rows(times: Sequence[GpuTime]) -> dict[str, dict[str, float]]:
    """Copies and kernels of the measured batches; nothing without any."""
    if not times:
        return {}
    columns = np.asarray(times, np.float64).T
    return {f"gpu_{part}": _percentiles(ms) for part, ms in zip(GpuTime._fields, columns, strict=True)}


def _percentiles(milliseconds: npt.NDArray[np.float64]) -> dict[str, float]:
    values = np.percentile(milliseconds, PERCENTILES)
    return {f"p{p}": float(v) for p, v in zip(PERCENTILES, values, strict=True)}


@contextlib.contextmanager
def _simulator(plan: Plan) -> Iterator[Connection]:
    """The simulator's process; it is gone when the block ends, however it ends."""
    # Spawned, not forked: a fork would copy torch's and ZeroMQ's threads' state in the middle of whatever they do.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=simulate, args=(theirs, plan), name="sim-bridge-bench-simulator", daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
        process.join(_JOIN_SECONDS)
    finally:
        ours.close()
        if process.is_alive():
            process.kill()
        process.join()


@contextlib.contextmanager
def _running(bridge: Bridge) -> Iterator[Future[int]]:
    """Runs the bridge beside this thread and stops it when the block ends."""
    with ThreadPoolExecutor(1, thread_name_prefix="sim-bridge-bench") as pool:
        ended = pool.submit(bridge.run)
        try:
            yield ended
        finally:
            bridge.stop()


def _hear(link: Connection, ended: Future[int] | None) -> Any:
    """What the simulator's side says next.

    Raises SimBridgeError when it ended, or it reports a failure, or the bridge ended.
    """
    while not link.poll(_POLL_SECONDS):
        _raise_if_ended(ended)
    try:
        said = link.recv()
    except EOFError as error:
        raise SimBridgeError("the benchmark's simulator process ended early: its traceback above says why") from error
    if isinstance(said, SimBridgeError):
        raise said
    return said


def _raise_if_ended(ended: Future[int] | None) -> None:
    if ended is not None and ended.done():
        code = ended.result()
        raise SimBridgeError(
            f"the bridge ended with code {code} in the middle of the benchmark: its log above says why"
        )


def _settled(bridge: Bridge) -> TopicCount:
    """The account of the RGB messages, once the bridge has written down the frame that is already here."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    while True:
        count = bridge.ledger.snapshot()[f"{CAMERA}/{Kind.RGB}"]
        if not count.in_flight or time.monotonic() > deadline:
            return count
        time.sleep(0.001)


def _outcomes(start: TopicCount, end: TopicCount) -> dict[str, int]:
    """What was added between two snapshots."""
    added = {str(name): count - start.outcomes.get(name, 0) for name, count in end.outcomes.items()}
    return {name: count for name, count in added.items() if count}


def _versions() -> dict[str, str]:
    found = {"sim-bridge": __version__, "python": platform.python_version()}
    for package in ("torch", "pyzmq"):
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
