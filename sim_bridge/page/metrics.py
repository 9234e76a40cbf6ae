"""The bridge's counters for Prometheus, in its text format 0.0.4, read at the moment they are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from sim_bridge import __version__
from sim_bridge.errors import MissingExtraError
from sim_bridge.live.bridge import Bridge
from sim_bridge.live.ledger import Outcome

try:
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
    from prometheus_client.registry import Collector
except ImportError as error:
    raise MissingExtraError("prometheus-client", "page", "the live page") from error

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
STATES: Final = ("loading", "running", "paused", "stopping")

Sample = tuple[Mapping[str, str], float]


def render(bridge: Bridge, clients: int) -> str:
    """All metrics of a bridge; ``clients`` is how many pages are open."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_BridgeCollector(bridge, clients))
    return generate_latest(registry).decode()


class _BridgeCollector(Collector):
    def __init__(self, bridge: Bridge, clients: int) -> None:
        self._bridge = bridge
        self._clients = clients

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        bridge = self._bridge
        counts = bridge.ledger.snapshot()
        now = bridge.bundles.state
        info = {"version": __version__, "bundle": now.bundle, "model": now.model, "mode": bridge.settings.mode}
        state = bridge.state
        yield _gauge("sim_bridge_info", "What runs.", [(info, 1)])
        yield _gauge("sim_bridge_state", "1 for the state it is in.", [({"state": s}, s == state) for s in STATES])
        yield _counter(
            *("sim_bridge_received_messages_total", "Input messages taken from the socket."),
            [({"topic": topic}, count.received) for topic, count in counts.items()],
        )
        yield _counter(
            *("sim_bridge_messages_total", "Input messages by outcome; received = their sum + in flight."),
            [
                ({"topic": topic, "outcome": str(outcome)}, count.outcomes.get(outcome, 0))
                for topic, count in counts.items()
                for outcome in Outcome
            ],
        )
        yield _gauge(
            *("sim_bridge_in_flight_messages", "Input messages without an outcome yet."),
            [({"topic": topic}, count.in_flight) for topic, count in counts.items()],
        )
        yield from self._outputs()
        yield _gauge(
            *("sim_bridge_latency_seconds", "Quantiles of the last 4096 frames per stage."),
            [
                ({"stage": stage, "quantile": f"0.{name[1:]}"}, value / 1e3)
                for stage, values in bridge.latency.percentiles_ms().items()
                for name, value in values.items()
            ],
        )
        yield _gauge("sim_bridge_page_clients", "Open pages.", [({}, self._clients)])

    def _outputs(self) -> Iterator[Metric]:
        counts = {camera: self._bridge.outputs.of(camera) for camera in self._bridge.settings.topics}
        for name, text, attribute in (
            ("published_frames", "Photoreal frames sent.", "published"),
            ("fallback_frames", "Of the photoreal frames, CG frames passed on.", "fallback"),
            ("repeated_frames", "Lockstep results sent once more.", "repeated"),
            ("stray_pixels", "Pixels whose class id is outside the taxonomy.", "stray_pixels"),
        ):
            samples = [({"camera": camera}, getattr(count, attribute)) for camera, count in counts.items()]
            yield _counter(f"sim_bridge_{name}_total", text, samples)


def _gauge(name: str, text: str, samples: Iterable[Sample]) -> Metric:
    return _filled(GaugeMetricFamily(name, text), name, samples)


def _counter(name: str, text: str, samples: Iterable[Sample]) -> Metric:
    return _filled(CounterMetricFamily(name, text), name, samples)


def _filled(family: Metric, name: str, samples: Iterable[Sample]) -> Metric:
    for labels, value in samples:
        family.add_sample(name, dict(labels), value)
    return family
