"""Last stage: encodes and sends results and status messages."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from sim_bridge import wire
from sim_bridge.frames import Frame, FrameId, FrameStatus, Kind, Provenance
from sim_bridge.live.handoff import Taken
from sim_bridge.live.latency import Stage
from sim_bridge.live.ledger import Outcome
from sim_bridge.live.pairing import Repeat
from sim_bridge.live.shared import Shared
from sim_bridge.live.status import StatusReporter
from sim_bridge.live.work import Work
from sim_bridge.pixels.preprocess import postprocess
from sim_bridge.wire.transport import FrameSender

LINGER_SECONDS: Final = 1.0
"""How long the last frames may take to leave after a drain; a subscriber that never reads must not hold the bridge."""


class PublishStage:
    """The only user of the output socket."""

    def __init__(self, shared: Shared, sender: FrameSender) -> None:
        self._shared = shared
        self._sender = sender
        self._reporter = StatusReporter(shared.settings.topics, shared.ledger, shared.outputs, shared.latency)
        self._last: dict[str, tuple[FrameId, Sequence[bytes | memoryview]]] = {}

    def run(self) -> None:
        """Loops until no more results can come, closes the ledger, and says goodbye with a last status message."""
        shared = self._shared
        due = time.monotonic()
        while not shared.outbox.finished:
            if time.monotonic() >= due:
                self._send_status()
                due = time.monotonic() + shared.settings.status_interval
            taken = shared.outbox.take(max(0.0, due - time.monotonic()))
            if taken is not None:
                self._handle(taken)
        shared.ledger.close(Outcome.SHUTDOWN)
        self._send_status()
        self._sender.close(0.0 if shared.discarding.is_set() else LINGER_SECONDS)

    def _handle(self, taken: Taken[Work | Repeat]) -> None:
        shared, work = self._shared, taken.item
        if isinstance(work, Repeat):
            self._repeat(work)
            return
        pair = work.pair
        try:
            frame = self._finish(work)
            start = time.perf_counter_ns()
            parts = wire.encode(frame)
        except Exception as error:  # noqa: BLE001 - as in the network stage: a wrong result costs its frame, not the bridge
            shared.failed(pair, error)
            return
        self._sender.send(parts)
        end = time.perf_counter_ns()
        shared.settle(Outcome.PUBLISHED, pair)
        shared.outputs.add(pair.camera, published=1, fallback=int(work.rgb is None))
        if shared.settings.mode == "lockstep":
            self._last[pair.camera] = (pair.id, parts)
        shared.latency.record(Stage.PUBLISH, end - start)
        shared.latency.record(Stage.BRIDGE_OVERHEAD, work.overhead + taken.overhead + end - start)
        shared.latency.record(Stage.END_TO_END, end - work.taken)
        shared.latency.record(Stage.AGE, time.time_ns() - pair.rgb.sent)
        if shared.tap.is_open:
            shared.tap.offer(work)

    def _finish(self, work: Work) -> Frame:
        """The photoreal frame of a result: the CG frame with other pixels, and where they come from."""
        cg, semantic = work.pair.rgb, work.pair.semantic
        pixels, height, width = cg.pixels, cg.height, cg.width
        if work.rgb is not None:
            start = time.perf_counter_ns()
            pixels = postprocess(work.rgb, cg)
            height, width = work.rgb.shape[:2]
            self._shared.latency.record(Stage.POSTPROCESS, time.perf_counter_ns() - start)
        assert work.translator is not None
        work.provenance = Provenance(
            received=max(cg.received, semantic.received),
            inferred=work.inferred,
            published=time.time_ns(),
            model=work.translator.model_id,
            seed=work.style.seed,
            style=work.style.without("seed"),
            status=FrameStatus.FALLBACK if work.rgb is None else FrameStatus.FRESH,
        )
        return replace(cg, kind=Kind.PHOTOREAL, pixels=pixels, height=height, width=width, provenance=work.provenance)

    def _repeat(self, repeat: Repeat) -> None:
        """Sends a finished tick's result again, the same bytes; one still in the works comes by itself."""
        last = self._last.get(repeat.camera)
        if last is not None and last[0] == repeat.id:
            self._sender.send(last[1])
            self._shared.outputs.add(repeat.camera, repeated=1)

    def _send_status(self) -> None:
        shared, settings = self._shared, self._shared.settings
        for camera, body in self._reporter.bodies():
            seed = shared.controls.style(camera).seed
            body |= {"state": shared.state, "mode": settings.mode, "seed": seed}
            self._sender.send(wire.encode_status(camera, time.time_ns(), body))
            shared.tap.report(camera, body)
