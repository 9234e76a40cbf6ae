"""The bridge's counters for Prometheus, in its text format 0.0.4, read at the moment they are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from sim_bridge import __version__
from sim_bridge.live.bridge import Bridge
from sim_bridge.live.ledger import Outcome

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
STATES: Final = ("loading", "running", "paused", "stopping")

Sample = tuple[dict[str, str], float]


def render(bridge: Bridge, clients: int) -> str:
    """All metrics of a bridge; ``clients`` is how many pages are open."""
    return "".join(_family(*family) for family in _families(bridge, clients))


def _families(bridge: Bridge, clients: int) -> Iterator[tuple[str, str, str, Iterable[Sample]]]:
    """Name, type, help and samples of every metric."""
    counts = bridge.ledger.snapshot()
    now = bridge.bundles.state
    info = {"version": __version__, "bundle": now.bundle, "model": now.model, "mode": bridge.settings.mode}
    state = bridge.state
    yield "sim_bridge_info", "gauge", "What runs.", [(info, 1)]
    yield "sim_bridge_state", "gauge", "1 for the state it is in.", [({"state": s}, float(s == state)) for s in STATES]
    yield (
        *("sim_bridge_received_messages_total", "counter", "Input messages taken from the socket."),
        [({"topic": topic}, count.received) for topic, count in counts.items()],
    )
    yield (
        *("sim_bridge_messages_total", "counter", "Input messages by outcome; received = their sum + in flight."),
        [
            ({"topic": topic, "outcome": str(outcome)}, count.outcomes.get(outcome, 0))
            for topic, count in counts.items()
            for outcome in Outcome
        ],
    )
    yield (
        *("sim_bridge_in_flight_messages", "gauge", "Input messages without an outcome yet."),
        [({"topic": topic}, count.in_flight) for topic, count in counts.items()],
    )
    yield from _outputs(bridge)
    yield (
        *("sim_bridge_latency_seconds", "gauge", "Quantiles of the last 4096 frames per stage."),
        [
            ({"stage": stage, "quantile": f"0.{name[1:]}"}, value / 1e3)
            for stage, values in bridge.latency.percentiles_ms().items()
            for name, value in values.items()
        ],
    )
    yield "sim_bridge_page_clients", "gauge", "Open pages.", [({}, clients)]


def _outputs(bridge: Bridge) -> Iterator[tuple[str, str, str, Iterable[Sample]]]:
    counts = {camera: bridge.outputs.of(camera) for camera in bridge.settings.topics}
    for name, text in (
        ("published", "Photoreal frames sent."),
        ("fallback", "Of the photoreal frames, CG frames passed on."),
        ("repeated", "Lockstep results sent once more."),
    ):
        samples = [({"camera": camera}, getattr(count, name)) for camera, count in counts.items()]
        yield f"sim_bridge_{name}_frames_total", "counter", text, samples
    strays = [({"camera": camera}, count.stray_pixels) for camera, count in counts.items()]
    yield "sim_bridge_stray_pixels_total", "counter", "Pixels whose class id is outside the taxonomy.", strays


def _family(name: str, kind: str, text: str, samples: Iterable[Sample]) -> str:
    lines = [f"# HELP {name} {text}\n# TYPE {name} {kind}\n"]
    for labels, value in samples:
        inside = ",".join(f'{key}="{_escape(label)}"' for key, label in labels.items())
        lines.append(f"{name}{{{inside}}} {value!r}\n" if inside else f"{name} {value!r}\n")
    return "".join(lines)


def _escape(label: str) -> str:
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
