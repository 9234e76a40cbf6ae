"""The bridge's stages, each a loop that runs in a thread of its own.

``ReceiveStage`` takes messages from the socket and joins them, :class:`~sim_bridge.live.network.NetworkStage` prepares
and translates pairs, ``PublishStage`` encodes and sends the results and the status messages. Between them are bounded
queues (:mod:`sim_bridge.live.handoff`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from sim_bridge import wire
from sim_bridge.errors import SimBridgeError, SizeMismatchError, WireError
from sim_bridge.frames import Frame, FrameId, FrameStatus, Kind, Provenance
from sim_bridge.live.bundle_choice import BundleChoice
from sim_bridge.live.handoff import Handoff, Policy, Taken
from sim_bridge.live.latency import LatencyRecorder, Stage
from sim_bridge.live.ledger import Ledger, Outcome
from sim_bridge.live.once import OncePerCause
from sim_bridge.live.pairing import Drop, Event, Pair, Pairer, Repeat
from sim_bridge.live.status import OutputCounts, StatusReporter
from sim_bridge.live.tap import Tap, Tick
from sim_bridge.pixels.preprocess import postprocess
from sim_bridge.pixels.taxonomy import Taxonomies
from sim_bridge.translators import ByteArray, Style, Translation, Translator
from sim_bridge.wire.transport import FrameReceiver, FrameSender, Message

if TYPE_CHECKING:
    from sim_bridge.settings import BridgeSettings

logger = logging.getLogger(__name__)

POLL_SECONDS: Final = 0.1
"""How soon the receiver notices that it should stop while nothing comes in."""

LINGER_SECONDS: Final = 1.0
"""How long the last frames may take to leave after a drain; a subscriber that never reads must not hold the bridge."""

TranslatorSource = Translator | Callable[[], Translator]
"""A translator, or what loads one, in the thread of the network stage, which is the only one to call it."""
BundleLoader = Callable[[str], Translator]
"""Loads a bundle that was chosen while the bridge runs, in the same thread."""


@dataclass(frozen=True, slots=True)
class Job:
    """A pair on its way to the network.

    Attributes:
        pair: The pair.
        taken: When its later message was taken from the socket, ``perf_counter_ns``.
        overhead: Nanoseconds that the bridge itself spent on it so far.
    """

    pair: Pair
    taken: int
    overhead: int


@dataclass(frozen=True, slots=True)
class Result:
    """A translated pair on its way out.

    Attributes:
        job: Where it comes from, overhead brought up to date.
        translator: What made it.
        style: The style that was asked for.
        inferred: When the network was done, nanoseconds since the epoch.
        cg: The RGB picture at the network's size, uint8 ``(H, W, 3)``; None to pass the CG frame on.
        translation: What the network made, a batch of one; None to pass the CG frame on.
    """

    job: Job
    translator: Translator
    style: Style
    inferred: int
    cg: ByteArray | None = None
    translation: Translation | None = None

    @property
    def rgb(self) -> ByteArray | None:
        """The photoreal picture, uint8 ``(H, W, 3)``; None to pass the CG frame on."""
        return None if self.translation is None else self.translation.rgb[0]

    def tick(self, provenance: Provenance) -> Tick:
        """All its pictures, for who looks."""
        made = self.translation
        edges = None if made is None or made.edges is None else made.edges[0]
        ensemble = None if made is None else made.ensemble
        return Tick(self.job.pair, self.cg, edges, self.rgb, ensemble, self.translator, provenance)


class Controls:
    """What can be changed while the bridge runs: pause, single steps, style. Safe to use from any thread."""

    def __init__(self, cameras: Sequence[str], style: Style) -> None:
        self._changed = threading.Condition()
        self._paused = False
        self._nudged = False
        self._steps = dict.fromkeys(cameras, 0)
        self._styles = dict.fromkeys(cameras, style)
        self._listeners: list[Callable[[str], None]] = []

    def follow(self, listener: Callable[[str], None]) -> None:
        """Has ``listener`` told ``pause``, ``resume`` or ``step`` whenever that is asked for, in the asker's thread."""
        self._listeners.append(listener)

    def _tell(self, order: str) -> None:
        for listener in self._listeners:
            listener(order)

    @property
    def paused(self) -> bool:
        """Whether pairs are held back."""
        return self._paused

    def pause(self) -> None:
        """Holds pairs back: realtime counts them as ``paused``, lockstep lets the simulator wait."""
        with self._changed:
            self._paused = True
            self._steps = dict.fromkeys(self._steps, 0)
        self._tell("pause")

    def resume(self) -> None:
        """Lets pairs through again."""
        with self._changed:
            self._paused = False
            self._changed.notify_all()
        self._tell("resume")

    def step(self) -> None:
        """While paused: lets one more pair of every camera through."""
        with self._changed:
            self._steps = {camera: steps + 1 for camera, steps in self._steps.items()}
            self._changed.notify_all()
        self._tell("step")

    def nudge(self) -> None:
        """Lets who waits in :meth:`admit` come back once: something else waits for it."""
        with self._changed:
            self._nudged = True
            self._changed.notify_all()

    def admit(self, camera: str, *, wait: bool = False) -> bool:
        """Whether a pair of ``camera`` may go on now, using up a step; with ``wait`` it comes back when it may.

        A :meth:`nudge` also ends the wait, with the answer of that moment.
        """
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: self._nudged or not self._paused or self._steps[camera] > 0)
                self._nudged = False
            if not self._paused:
                return True
            if self._steps[camera] == 0:
                return False
            self._steps[camera] -= 1
            return True

    def style(self, camera: str) -> Style:
        """The style in use for a camera."""
        with self._changed:
            return self._styles[camera]

    def set_style(self, camera: str, style: Style) -> None:
        """Sets a camera's style from the next frame on.

        Raises:
            KeyError: The bridge has no such camera.
        """
        with self._changed:
            if camera not in self._styles:
                raise KeyError(camera)
            self._styles[camera] = style


@dataclass(frozen=True)
class Shared:
    """What all stages see. Every part of it is safe to use from several threads."""

    settings: BridgeSettings
    ledger: Ledger
    latency: LatencyRecorder
    controls: Controls
    once: OncePerCause
    inbox: Handoff[Job]
    outbox: Handoff[Result | Repeat]
    outputs: OutputCounts
    tap: Tap
    bundles: BundleChoice
    taxonomies: Taxonomies
    loaded: threading.Event = field(default_factory=threading.Event)
    """Set when the translator is ready."""
    stopping: threading.Event = field(default_factory=threading.Event)
    """Set when no further message is to be taken in."""
    discarding: threading.Event = field(default_factory=threading.Event)
    """Set when what is in flight is not to be finished either."""

    @classmethod
    def build(cls, settings: BridgeSettings) -> Shared:
        """Makes everything for the cameras and the mode of ``settings``."""
        cameras = settings.topics
        policy, bound = (Policy.NEWEST, 1) if settings.mode == "realtime" else (Policy.WAIT, settings.pair_window)
        controls = Controls(cameras, Style(seed=settings.style_seed))
        inbox: Handoff[Job] = Handoff(cameras, policy, bound)

        def wake_network() -> None:
            inbox.nudge()
            controls.nudge()

        return cls(
            settings=settings,
            ledger=Ledger(f"{camera}/{kind}" for camera in cameras for kind in (Kind.RGB, Kind.SEMANTIC)),
            latency=LatencyRecorder(),
            controls=controls,
            once=OncePerCause(logger),
            inbox=inbox,
            # What is dropped is dropped before the network has spent its time on it, never after.
            outbox=Handoff(cameras, Policy.WAIT),
            outputs=OutputCounts(cameras),
            tap=Tap(),
            bundles=BundleChoice(settings.bundle, wake_network),
            taxonomies=Taxonomies.read(settings.taxonomies),
        )

    @property
    def state(self) -> str:
        """``loading``, ``running``, ``paused`` or ``stopping``."""
        if self.stopping.is_set():
            return "stopping"
        if not self.loaded.is_set():
            return "loading"
        return "paused" if self.controls.paused else "running"

    def settle(self, outcome: Outcome, pair: Pair) -> None:
        """Gives both messages of a pair their outcome."""
        self.ledger.settle(outcome, pair.rgb.topic, pair.semantic.topic)

    def failed(self, pair: Pair, error: Exception) -> None:
        """Counts a pair that could not be translated, and says so once per session and kind of error."""
        outcome = Outcome.MISMATCHED if isinstance(error, SizeMismatchError) else Outcome.FAILED
        self.settle(outcome, pair)
        self.complain(pair, error)

    def complain(self, pair: Pair, error: Exception) -> None:
        """Logs why a pair could not be translated; with a traceback where it was no error of a kind that we know."""
        known = isinstance(error, SimBridgeError)
        sentence = str(error) if known else f"the translator raised {type(error).__name__}: {error}"
        self.once.warn(
            (pair.camera, type(error)),
            f"camera {pair.camera!r}, frame {pair.id.number}: {sentence}",
            scope=pair.id.session,
            error=None if known else error,
        )


class ReceiveStage:
    """Takes messages from the socket, joins them, hands pairs over. In realtime it never waits for the next stage."""

    def __init__(self, shared: Shared, receiver: FrameReceiver) -> None:
        settings = shared.settings
        self._shared = shared
        self._receiver = receiver
        self._limits = wire.Limits(pixels=settings.max_pixels)
        self._pairers = {camera: Pairer(settings.mode, settings.pair_window) for camera in settings.topics}
        self._spent = dict.fromkeys(settings.topics, 0)

    def run(self) -> None:
        """Loops until the bridge stops; whatever still waits for its partner then is ``shutdown``."""
        shared = self._shared
        while not shared.stopping.is_set():
            message = self._receiver.receive(POLL_SECONDS)
            if message is not None:
                self._take(message)
        for pairer in self._pairers.values():
            for event in pairer.flush(Outcome.SHUTDOWN):
                self._drop(event)
        self._receiver.close()
        shared.inbox.close()

    def _take(self, message: Message) -> None:
        topic = self._topic_of(message)
        self._shared.ledger.receive(topic)
        frame = self._decode(message, topic)
        if frame is None:
            return
        decoded = time.perf_counter_ns()
        pairer = self._pairers[frame.camera]
        before = pairer.session
        events = pairer.offer(frame)
        if pairer.session != before:
            logger.info("camera %r: session %s begins with frame %d", frame.camera, frame.session, frame.number)
        for event in events:
            self._follow(event, message.taken, decoded)
        if not any(isinstance(event, Pair) for event in events):
            self._spent[frame.camera] += time.perf_counter_ns() - message.taken

    def _topic_of(self, message: Message) -> str:
        """The subscribed topic that let the message in: ZeroMQ compares beginnings only, the ledger must not grow."""
        raw = bytes(message.parts[0].buffer[:256]).decode("ascii", errors="replace")
        topics = self._shared.ledger.topics
        if raw in topics:
            return raw
        return max((topic for topic in topics if raw.startswith(topic)), key=len, default=topics[0])

    def _decode(self, message: Message, topic: str) -> Frame | None:
        try:
            parts = [part.buffer for part in message.parts]
            frame = wire.decode(parts, received=message.received, limits=self._limits)
            if not isinstance(frame, Frame) or frame.topic != topic:
                raise WireError(f"a message under topic {topic!r} is not of that topic", cause="topic")
        except WireError as error:
            self._shared.ledger.settle(Outcome.MALFORMED, topic)
            self._shared.once.warn((topic, error.cause), f"malformed message on {topic}: {error}")
            return None
        return frame

    def _follow(self, event: Event, taken: int, decoded: int) -> None:
        if isinstance(event, Pair):
            self._hand_over(event, taken, decoded)
        elif isinstance(event, Repeat):
            self._shared.outbox.put(event.camera, event)
        else:
            self._drop(event)

    def _drop(self, event: Event) -> None:
        if isinstance(event, Drop):
            self._shared.ledger.settle(event.outcome, event.frame.topic)
            if event.detail:
                cause = (event.frame.camera, event.outcome, event.cause)
                self._shared.once.warn(cause, event.detail, scope=event.frame.session)

    def _hand_over(self, pair: Pair, taken: int, decoded: int) -> None:
        shared, camera = self._shared, pair.camera
        received, self._spent[camera] = self._spent[camera] + decoded - taken, 0
        if shared.settings.mode == "realtime" and not shared.controls.admit(camera):
            shared.settle(Outcome.PAUSED, pair)
            return
        joined = time.perf_counter_ns() - decoded
        shared.latency.record(Stage.RECEIVE, received)
        shared.latency.record(Stage.PAIR, joined)
        displaced = shared.inbox.put(camera, Job(pair, taken, received + joined))
        if displaced is not None:
            outcome = Outcome.SHUTDOWN if displaced.pair is pair else Outcome.SUPERSEDED
            shared.settle(outcome, displaced.pair)


class PublishStage:
    """Encodes and sends results and status messages; the only one to touch the output socket."""

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

    def _handle(self, taken: Taken[Result | Repeat]) -> None:
        shared, item = self._shared, taken.item
        if isinstance(item, Repeat):
            self._repeat(item)
            return
        pair = item.job.pair
        try:
            frame = self._finish(item)
            start = time.perf_counter_ns()
            parts = wire.encode(frame)
        except Exception as error:  # noqa: BLE001 - as in the network stage: a wrong result costs its frame, not the bridge
            shared.failed(pair, error)
            return
        self._sender.send(parts)
        end = time.perf_counter_ns()
        shared.settle(Outcome.PUBLISHED, pair)
        shared.outputs.add(pair.camera, published=1, fallback=int(item.rgb is None))
        if shared.settings.mode == "lockstep":
            self._last[pair.camera] = (pair.id, parts)
        shared.latency.record(Stage.PUBLISH, end - start)
        shared.latency.record(Stage.BRIDGE_OVERHEAD, item.job.overhead + taken.overhead + end - start)
        shared.latency.record(Stage.END_TO_END, end - item.job.taken)
        shared.latency.record(Stage.AGE, time.time_ns() - pair.rgb.sent)
        if shared.tap.is_open and frame.provenance is not None:
            shared.tap.offer(item.tick(frame.provenance))

    def _finish(self, result: Result) -> Frame:
        """The photoreal frame of a result: the CG frame with other pixels, and where they come from."""
        cg, semantic = result.job.pair.rgb, result.job.pair.semantic
        pixels, height, width = cg.pixels, cg.height, cg.width
        if result.rgb is not None:
            start = time.perf_counter_ns()
            pixels = postprocess(result.rgb, cg)
            height, width = result.rgb.shape[:2]
            self._shared.latency.record(Stage.POSTPROCESS, time.perf_counter_ns() - start)
        provenance = Provenance(
            received=max(cg.received, semantic.received),
            inferred=result.inferred,
            published=time.time_ns(),
            model=result.translator.model_id,
            seed=result.style.seed,
            ensemble=result.style.ensemble,
            status=FrameStatus.FALLBACK if result.rgb is None else FrameStatus.FRESH,
        )
        return replace(cg, kind=Kind.PHOTOREAL, pixels=pixels, height=height, width=width, provenance=provenance)

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
