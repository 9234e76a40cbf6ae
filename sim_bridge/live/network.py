"""Third stage: the network, in a thread of its own."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import numpy as np

from sim_bridge.errors import SimBridgeError, SizeMismatchError, TranslatorError
from sim_bridge.frames import Style
from sim_bridge.live.handoff import Taken, TickGatherer
from sim_bridge.live.latency import Stage
from sim_bridge.live.ledger import Outcome
from sim_bridge.live.shared import BundleLoader, Shared, TranslatorSource
from sim_bridge.live.work import Engine, Work
from sim_bridge.settings import flag_of
from sim_bridge.translators import Shot, Translation, Translator
from sim_bridge.translators.styles import read_style

logger = logging.getLogger(__name__)


class NetworkStage:
    """Loads the translator, then translates prepared ticks: one at a time, cameras in turn, or a tick's together.

    It also loads another bundle that is chosen meanwhile; the one before goes on when that fails.

    Args:
        shared: What all stages see.
        source: The translator to begin with.
        load: Loads another bundle.
    """

    def __init__(self, shared: Shared, source: TranslatorSource, load: BundleLoader) -> None:
        self._shared = shared
        self._source = source
        self._load = load
        wait = shared.settings.batch_wait
        cameras = shared.settings.topics
        self._gather = TickGatherer(shared.ready, _tick_of, cameras, wait)
        self._largest_batch = 1 if wait is None else len(cameras)

    def run(self) -> None:
        """Loops until no more ticks can come.

        Raises SimBridgeError when the translator cannot be loaded, or has no such style as the settings ask for.
        """
        shared = self._shared
        translator = self._source if isinstance(self._source, Translator) else self._source()
        shared.controls.add_style(read_style(translator.styles, shared.settings.style))
        engine = self._make_engine(translator)
        if shared.settings.size is not None:
            engine.warm_up(shared.settings.size)
        self._use(engine, shared.settings.bundle)
        shared.loaded.set()
        logger.info("translator %s (%s) is ready", translator.name, translator.model_id)
        while not shared.ready.finished:
            self._change_bundle()
            self._process(self._gather.take())
        shared.outbox.close()

    def _make_engine(self, translator: Translator) -> Engine:
        shared = self._shared
        return Engine(translator, shared.settings.size, self._largest_batch, shared.taxonomies)

    def _use(self, engine: Engine, bundle: str) -> None:
        """Translates with ``engine`` what is prepared from now on."""
        shared = self._shared
        shared.inputs.ask(engine.wants, shared.stopping)
        shared.engine = engine
        translator = engine.translator
        shared.bundles.loaded(bundle, translator.model_id, translator.styles)

    def _change_bundle(self) -> None:
        """Loads the bundle that was asked for, if one was; both networks are in memory until the new one is warm."""
        shared = self._shared
        wished = shared.bundles.take()
        if wished is None or shared.stopping.is_set() or shared.engine is None:
            return
        try:
            engine = self._make_engine(self._load(wished))
            for size in sorted(shared.engine.warm):
                engine.warm_up(size)
        except Exception as error:  # whatever is wrong with the new bundle, the old one works
            known = isinstance(error, SimBridgeError)
            sentence = str(error) if known else f"loading {wished} raised {type(error).__name__}: {error}"
            shared.bundles.failed(sentence)
            logger.warning("the bundle stays as it is: %s", sentence, exc_info=None if known else error)
            return
        self._use(engine, wished)
        logger.info("translator %s (%s) takes over", engine.translator.name, engine.translator.model_id)

    def _process(self, batch: Sequence[Taken[Work]]) -> None:
        """Takes ticks of several cameras, or one, or none, to the next stage or a counted failure."""
        shared, able = self._shared, []
        for taken in batch:
            work = taken.item
            work.overhead += taken.overhead
            shared.latency.record(Stage.QUEUE, work.waited + taken.waited)
            work.style = shared.controls.style(work.camera)
            if work.error is None:
                able.append(work)
            else:
                self._fail(work, work.error)
        for group in _alike(able):
            self._translate(group)

    def _translate(self, group: Sequence[Work]) -> None:
        """Runs the network once on ticks of one size and style; when it fails on several, on each of them alone."""
        try:
            self._warm_up(group[0])
            self._run(group)
        except Exception as error:  # noqa: BLE001 - a translator may be anyone's code: it may cost its frame, not the bridge
            if len(group) == 1:
                self._fail(group[0], error)
                return
            first = group[0].pair
            self._shared.once.warn(
                ("batch", type(error)),
                f"a batch of {len(group)} pairs of frame {first.id.number} failed ({error}): they go one by one; leave"
                f" {flag_of('batch_wait')} away if this stays so",
                scope=first.id.session,
            )
            for work in group:
                self._translate([work])
            return
        for work in group:
            self._hand_on(work)

    def _warm_up(self, work: Work) -> None:
        """Slow first-call work for a new size: with ``--size`` unset only the stream tells it."""
        assert work.engine is not None and work.prepared is not None
        work.engine.warm_up((work.prepared.width, work.prepared.height))

    def _run(self, group: Sequence[Work]) -> None:
        engine = group[0].engine
        assert engine is not None
        shots = [_shot(engine, work) for work in group]
        start = time.perf_counter_ns()
        translations = engine.translator.translate(shots)
        spent, inferred = time.perf_counter_ns() - start, time.time_ns()
        _check_answers(engine.translator, len(group), translations)
        for work, shot, translation in zip(group, shots, translations, strict=True):
            self._shared.latency.record(Stage.NETWORK, spent)
            engine.history.translated(shot)
            work.shot, work.translation, work.inferred = shot, translation, inferred

    def _fail(self, work: Work, error: Exception) -> None:
        """Counts a tick that could not be translated, or lets its CG frame through."""
        shared = self._shared
        if shared.settings.on_error == "drop" or isinstance(error, SizeMismatchError):
            shared.failed(work.pair, error)
            return
        shared.complain(work.pair, error)
        work.translation, work.inferred = None, time.time_ns()
        self._hand_on(work)

    def _hand_on(self, work: Work) -> None:
        if self._shared.outbox.put(work.camera, work) is not None:
            self._shared.settle(Outcome.SHUTDOWN, work.pair)


def _shot(engine: Engine, work: Work) -> Shot:
    prepared = work.prepared
    assert prepared is not None
    return engine.history.shot(work.pair.rgb, prepared.rgb, prepared.labels, work.style, work.inputs)


def _check_answers(translator: Translator, asked: int, answers: Sequence[Translation]) -> None:
    if len(answers) != asked:
        raise TranslatorError(
            f"{translator.name} answered {asked} pairs with {len(answers)} pictures: it must give one for each"
        )
    for rgb in (answer.rgb for answer in answers):
        # Floats that are cast here would turn what is no number into black.
        if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
            raise TranslatorError(
                f"{translator.name} answered with {rgb.dtype} {rgb.shape}: a picture is uint8 (H, W, 3)"
            )


def _alike(works: Sequence[Work]) -> list[list[Work]]:
    """In groups of one network, size and style, which go through it at once."""
    groups: dict[tuple[int, int, int, Style], list[Work]] = {}
    for work in works:
        assert work.prepared is not None
        key = (id(work.engine), work.prepared.width, work.prepared.height, work.style)
        groups.setdefault(key, []).append(work)
    return list(groups.values())


def _tick_of(work: Work) -> int:
    # Not the session: cameras of one simulator may have sessions of their own, and what is batched need not be related.
    return work.pair.id.number
