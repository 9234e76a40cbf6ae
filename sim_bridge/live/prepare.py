"""Second stage: decodes, resizes and maps a tick's pictures while the network is busy with another tick."""

from __future__ import annotations

import time

from sim_bridge.errors import SizeMismatchError, TranslatorError
from sim_bridge.live.handoff import Taken
from sim_bridge.live.latency import Stage
from sim_bridge.live.shared import POLL_SECONDS, Shared
from sim_bridge.live.watch import LabelWatch
from sim_bridge.live.work import Engine, Work
from sim_bridge.pixels.inputs import fit_input


class PrepareStage:
    """Prepares one tick at a time, cameras in turn. In lockstep it is where a paused bridge holds them."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._watch = LabelWatch()

    def run(self) -> None:
        """Loops until no more ticks can come."""
        shared = self._shared
        # Only then: what it has in hand is not replaced by what is newer.
        while not shared.loaded.wait(POLL_SECONDS):
            if shared.discarding.is_set():
                return
        while not shared.inbox.finished:
            taken = shared.inbox.take()
            if taken is not None:
                self._process(taken)
        shared.ready.close()

    def _process(self, taken: Taken[Work]) -> None:
        shared, work = self._shared, taken.item
        if shared.settings.mode == "lockstep":
            shared.controls.admit(work.camera, wait=True)
        work.waited += taken.waited
        work.overhead += taken.overhead
        engine = work.engine = shared.engine
        assert engine is not None
        start = time.perf_counter_ns()
        try:
            self._prepare(work, engine)
        except Exception as error:  # noqa: BLE001 - pictures come from outside: a broken one costs its tick, not the bridge
            if shared.settings.on_error == "drop" or isinstance(error, SizeMismatchError):
                shared.failed(work.pair, error)
                return
            work.error = error
        shared.latency.record(Stage.PREPROCESS, time.perf_counter_ns() - start)
        shared.put(shared.ready, work)

    def _prepare(self, work: Work, engine: Engine) -> None:
        pair = work.pair
        prepared = work.prepared = engine.preprocessor.prepare(pair.rgb, pair.semantic)
        if prepared.stray:
            self._shared.outputs.add(pair.camera, stray_pixels=prepared.stray)
        for cause, sentence in self._watch.look(pair, prepared, engine.translator.classes):
            self._shared.outputs.add(pair.camera, suspicions=1)
            where = f"camera {pair.camera!r}, frame {pair.id.number}"
            self._shared.once.warn((pair.camera, cause), f"{where}: {sentence}", scope=pair.id.session)
        lacking = [kind for kind in engine.wants if kind not in pair.more]
        if lacking:
            raise TranslatorError(
                f"the tick has no {lacking[0]} frame, which {engine.translator.name} wants: it came while the network"
                " was changed, send it again"
            )
        size = (prepared.width, prepared.height)
        work.inputs = {kind: fit_input(pair.more[kind], size) for kind in engine.wants}
