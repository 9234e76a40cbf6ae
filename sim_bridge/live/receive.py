"""First stage: takes messages from the socket, joins them, hands ticks over. In realtime it never waits."""

from __future__ import annotations

import logging
import time

from sim_bridge import wire
from sim_bridge.errors import WireError
from sim_bridge.frames import Frame, Kind
from sim_bridge.live.latency import Stage
from sim_bridge.live.ledger import Outcome
from sim_bridge.live.pairing import Drop, Event, Pair, Pairer, Repeat
from sim_bridge.live.shared import POLL_SECONDS, Shared
from sim_bridge.live.work import Work
from sim_bridge.wire.transport import FrameReceiver, Message

logger = logging.getLogger(__name__)


class ReceiveStage:
    """The only user of the input socket."""

    def __init__(self, shared: Shared, receiver: FrameReceiver) -> None:
        settings = shared.settings
        self._shared = shared
        self._receiver = receiver
        self._limits = wire.Limits(pixels=settings.max_pixels)
        self._more: tuple[Kind, ...] = ()
        self._pairers = {camera: Pairer(settings.mode, settings.pair_window) for camera in settings.topics}
        self._spent = dict.fromkeys(settings.topics, 0)

    def run(self) -> None:
        """Loops until the bridge stops; whatever still waits for its tick then is ``shutdown``."""
        shared = self._shared
        while not shared.stopping.is_set():
            message = self._receiver.receive(POLL_SECONDS)
            if shared.inputs.wanted != self._more:
                self._change_kinds(shared.inputs.wanted)
            if message is not None:
                self._take(message)
        for pairer in self._pairers.values():
            for event in pairer.flush(Outcome.SHUTDOWN):
                self._drop(event)
        self._receiver.close()
        shared.inbox.close()

    def _change_kinds(self, more: tuple[Kind, ...]) -> None:
        """Joins other kinds from now on; ticks in the inbox that lack one wait for it again."""
        shared = self._shared
        before, self._more = self._more, more
        for camera, pairer in self._pairers.items():
            new = [f"{camera}/{kind}" for kind in more if kind not in before]
            shared.ledger.add(new)
            self._receiver.subscribe(new, [f"{camera}/{kind}" for kind in before if kind not in more])
            lacking = []
            for work in shared.inbox.take_back(camera):
                if all(kind in work.pair.more for kind in more):
                    shared.put(shared.inbox, work)
                elif work.pair.id.session == pairer.session:
                    lacking.append(work.pair)
                else:
                    shared.settle(Outcome.UNPAIRED, work.pair)
            now = time.perf_counter_ns()
            for event in pairer.want(more, lacking):
                self._follow(event, now, now)
        shared.inputs.follow()

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
        shared.put(shared.inbox, Work(pair, taken, received + joined))
