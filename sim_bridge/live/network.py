"""The bridge's second stage: the network, in a thread of its own."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from sim_bridge.errors import SimBridgeError, SizeMismatchError, TranslatorError
from sim_bridge.frames import ByteArray
from sim_bridge.live.handoff import Taken
from sim_bridge.live.latency import Stage
from sim_bridge.live.ledger import Outcome
from sim_bridge.live.stages import BundleLoader, Job, Result, Shared, TranslatorSource
from sim_bridge.live.tick_gatherer import TickGatherer
from sim_bridge.pixels.preprocess import Prepared, Preprocessor
from sim_bridge.pixels.taxonomy import Taxonomies
from sim_bridge.settings import flag_of
from sim_bridge.translators import Style, Translator

logger = logging.getLogger(__name__)

MAX_WARM_SIZES: Final = 16
"""Sizes come from the stream; warm-ups cost memory and must not go on for ever."""


class _Engine:
    """A translator with what belongs to it: the label tables and the sizes it is warm for. One thread uses it."""

    def __init__(
        self, translator: Translator, size: tuple[int, int] | None, batch: int, taxonomies: Taxonomies
    ) -> None:
        self.translator = translator
        self._batch = batch
        self.preprocessor = Preprocessor(translator.classes, size, taxonomies)
        self.warm: set[tuple[int, int]] = set()
        if size is not None:
            self.warm_up(size)

    def warm_up(self, size: tuple[int, int]) -> None:
        """Slow first-call work for a size that is new; with ``--size`` unset only the stream tells it."""
        if size not in self.warm and len(self.warm) < MAX_WARM_SIZES:
            self.translator.warm_up([size], self._batch)
            self.warm.add(size)


@dataclass(frozen=True, slots=True)
class _Ready:
    """A pair as the network wants it, with the style it is to have."""

    job: Job
    prepared: Prepared
    style: Style


class NetworkStage:
    """Loads the translator, then prepares and translates pairs: one at a time, cameras in turn, or a tick's together.

    Another bundle that is chosen meanwhile is loaded here too, between two pairs; the one before goes on working when
    it cannot be loaded.

    Args:
        shared: What all stages see.
        source: The translator to begin with.
        load: Loads another bundle.
    """

    _engine: _Engine

    def __init__(self, shared: Shared, source: TranslatorSource, load: BundleLoader) -> None:
        self._shared = shared
        self._source = source
        self._load = load
        self._sessions: dict[str, str] = {}
        wait = shared.settings.batch_wait
        cameras = shared.settings.topics
        self._gather = TickGatherer(shared.inbox, _tick_of, cameras, wait)
        self._largest_batch = 1 if wait is None else len(cameras)

    def run(self) -> None:
        """Loops until no more pairs can come.

        Raises:
            SimBridgeError: The translator cannot be loaded.
        """
        shared = self._shared
        translator = self._source if isinstance(self._source, Translator) else self._source()
        self._engine = self._make_engine(translator)
        shared.bundles.loaded(shared.settings.bundle, translator.model_id)
        shared.loaded.set()
        logger.info("translator %s (%s) is ready", translator.name, translator.model_id)
        while not shared.inbox.finished:
            self._change_bundle()
            self._process(self._gather.take())
        shared.outbox.close()

    def _make_engine(self, translator: Translator) -> _Engine:
        shared = self._shared
        return _Engine(translator, shared.settings.size, self._largest_batch, shared.taxonomies)

    def _change_bundle(self) -> None:
        """Loads the bundle that was asked for, if one was; both networks are in memory until the new one is warm."""
        shared = self._shared
        wished = shared.bundles.take()
        if wished is None or shared.stopping.is_set():
            return
        try:
            engine = self._make_engine(self._load(wished))
            for size in sorted(self._engine.warm):
                engine.warm_up(size)
        except Exception as error:  # whatever is wrong with the new bundle, the old one works
            known = isinstance(error, SimBridgeError)
            sentence = str(error) if known else f"loading {wished} raised {type(error).__name__}: {error}"
            shared.bundles.failed(sentence)
            logger.warning("the bundle stays as it is: %s", sentence, exc_info=None if known else error)
            return
        self._engine, self._sessions = engine, {}
        shared.bundles.loaded(wished, engine.translator.model_id)
        logger.info("translator %s (%s) takes over", engine.translator.name, engine.translator.model_id)

    def _process(self, batch: Sequence[Taken[Job]]) -> None:
        """Takes pairs of one tick, or one pair, or none, as far as the next stage or a counted failure."""
        shared, ready = self._shared, []
        if shared.settings.mode == "lockstep":
            for taken in batch:
                while not shared.controls.admit(taken.camera, wait=True):
                    self._change_bundle()
        for taken in batch:
            shared.latency.record(Stage.QUEUE, taken.waited)
            job = replace(taken.item, overhead=taken.item.overhead + taken.overhead)
            try:
                ready.append(self._prepare(job))
            except Exception as error:  # noqa: BLE001 - as in _translate
                self._fail(job, error)
        for group in _alike(ready):
            self._translate(group)

    def _prepare(self, job: Job) -> _Ready:
        pair, latency = job.pair, self._shared.latency
        if self._sessions.get(pair.camera, pair.id.session) != pair.id.session:
            self._engine.translator.reset(pair.camera)
        self._sessions[pair.camera] = pair.id.session
        start = time.perf_counter_ns()
        prepared = self._engine.preprocessor.prepare(pair.rgb, pair.semantic)
        latency.record(Stage.PREPROCESS, time.perf_counter_ns() - start)
        if prepared.stray:
            self._shared.outputs.add(pair.camera, stray_pixels=prepared.stray)
        self._engine.warm_up((prepared.width, prepared.height))
        return _Ready(job, prepared, self._shared.controls.style(pair.camera))

    def _translate(self, group: Sequence[_Ready]) -> None:
        """Runs the network once on pairs of one size and style; when it fails on several, on each of them alone."""
        try:
            results = self._run(group)
        except Exception as error:  # noqa: BLE001 - a translator may be anyone's code: it may cost its frame, not the bridge
            if len(group) == 1:
                self._fail(group[0].job, error)
                return
            first = group[0].job.pair
            self._shared.once.warn(
                ("batch", type(error)),
                f"a batch of {len(group)} pairs of frame {first.id.number} failed ({error}): they go one by one; leave"
                f" {flag_of('batch_wait')} away if this stays so",
                scope=first.id.session,
            )
            for ready in group:
                self._translate([ready])
            return
        for result in results:
            self._hand_on(result)

    def _run(self, group: Sequence[_Ready]) -> list[Result]:
        translator, style = self._engine.translator, group[0].style
        rgb = _stack([ready.prepared.rgb for ready in group])
        labels = _stack([ready.prepared.labels for ready in group])
        start = time.perf_counter_ns()
        translation = translator.translate(rgb, labels, style)
        spent, inferred = time.perf_counter_ns() - start, time.time_ns()
        if len(translation.rgb) != len(group):
            raise TranslatorError(
                f"{translator.name} answered {len(group)} pairs with {len(translation.rgb)} pictures: it must give one"
                " for each"
            )
        results = []
        for i, ready in enumerate(group):
            self._shared.latency.record(Stage.NETWORK, spent)
            made = translation.of(i)
            results.append(Result(ready.job, translator, style, inferred, ready.prepared.rgb, made))
        return results

    def _fail(self, job: Job, error: Exception) -> None:
        """Counts a pair that could not be translated, or lets its CG frame through."""
        shared = self._shared
        if shared.settings.on_error == "drop" or isinstance(error, SizeMismatchError):
            shared.failed(job.pair, error)
            return
        shared.complain(job.pair, error)
        style = shared.controls.style(job.pair.camera)
        self._hand_on(Result(job, self._engine.translator, style, time.time_ns()))

    def _hand_on(self, result: Result) -> None:
        if self._shared.outbox.put(result.job.pair.camera, result) is not None:
            self._shared.settle(Outcome.SHUTDOWN, result.job.pair)


def _alike(ready: Sequence[_Ready]) -> list[list[_Ready]]:
    """In groups of one size and style, which a network takes at once."""
    groups: dict[tuple[tuple[int, ...], Style], list[_Ready]] = {}
    for each in ready:
        groups.setdefault((each.prepared.rgb.shape, each.style), []).append(each)
    return list(groups.values())


def _tick_of(job: Job) -> int:
    # Not the session: cameras of one simulator may have sessions of their own, and what is batched need not be related.
    return job.pair.id.number


def _stack(arrays: Sequence[ByteArray]) -> ByteArray:
    """A batch; of one without a copy."""
    return arrays[0][None] if len(arrays) == 1 else np.stack(arrays)
