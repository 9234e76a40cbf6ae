"""The simulator's side of lockstep: send the frames of tick N, wait for its photoreal frames, go on with tick N+1.

A message may get lost, above all while sockets are still connecting: the tick is then sent again. Identity makes that
harmless: the bridge counts the second one as ``duplicate`` and answers with the same result.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import zmq

from sim_bridge import wire
from sim_bridge.errors import LockstepTimeoutError, UsageError, WireError
from sim_bridge.frames import Frame, FrameId, Kind
from sim_bridge.live.ledger import Outcome
from sim_bridge.live.pairing import JOINED_KINDS, Pair, Pairer
from sim_bridge.wire.addresses import BRIDGE_ADDRESS, SIMULATOR_ADDRESS
from sim_bridge.wire.transport import CurveKeys, FrameReceiver, FrameSender

RESEND_SECONDS: Final = 0.25
_LEAST_WAIT = 0.001

_Tick = tuple[str, FrameId]
_Messages = list[list[bytes | memoryview]]


class LockstepClient:
    """Publishes ticks and waits for what the bridge makes of them. Several threads may use it, one at a time.

    Example:
        >>> with LockstepClient() as bridge:  # doctest: +SKIP
        ...     photoreal = bridge.tick(rgb, semantic, timeout=5.0)

    Args:
        publish: Address to bind and publish on, the bridge's ``input``; port ``*`` lets the operating system choose.
        photoreal: Address of the bridge's ``output``; None to :meth:`connect` later.
        cameras: The cameras that will be sent.
        resend_after: Seconds without an answer after which a tick is sent again; more than a tick takes.
        curve_keys: Folder with the CURVE keys of the setup; for addresses off this machine.
        insecure: Allow addresses off this machine without keys.

    Raises:
        UsageError: An address or the keys cannot be used.
    """

    def __init__(
        self,
        publish: str = SIMULATOR_ADDRESS,
        photoreal: str | None = BRIDGE_ADDRESS,
        *,
        cameras: Sequence[str] = ("camera",),
        resend_after: float = RESEND_SECONDS,
        curve_keys: Path | None = None,
        insecure: bool = False,
    ) -> None:
        if resend_after <= 0:
            raise UsageError(f"resend_after is {resend_after} s: give a time above 0, longer than a tick takes")
        self._cameras = tuple(cameras)
        self._resend_after = resend_after
        self._keys = None if curve_keys is None else CurveKeys.load(curve_keys)
        self._insecure = insecure
        self._heard: dict[str, float] = {}  # when the last message of a camera came, a frame or a status
        self._status: dict[str, wire.StatusMessage] = {}
        self._receiver: FrameReceiver | None = None
        self._sender: FrameSender | None = None
        self.resent = 0
        """How many times a tick was sent again."""
        self._using = threading.Lock()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            self._sender = FrameSender(self._context, publish, keys=self._keys, insecure=insecure)
            self.address: str = self._sender.address
            """Where it publishes, the port resolved."""
            if photoreal is not None:
                self.connect(photoreal)
        except BaseException:
            self.close()
            raise

    def connect(self, photoreal: str) -> None:
        """Connects to the bridge's output, in place of the one before.

        Raises UsageError when the address cannot be used.
        """
        topics = [f"{camera}/{kind}" for camera in self._cameras for kind in (Kind.PHOTOREAL, Kind.STATUS)]
        with self._using:
            if self._receiver is not None:
                self._receiver.close()
            self._receiver = FrameReceiver(self._context, photoreal, topics, keys=self._keys, insecure=self._insecure)
            self._photoreal = photoreal
            self._heard.clear()
            self._status.clear()

    def tick(self, rgb: Frame, semantic: Frame, *, timeout: float = 5.0) -> Frame:
        """Sends one camera's tick and returns its photoreal frame; its pixels are a read-only view of the message.

        Raises:
            LockstepTimeoutError: It did not arrive within ``timeout`` seconds.
            UsageError: See :meth:`tick_all`.
        """
        return self.tick_all([(rgb, semantic)], timeout=timeout)[rgb.camera]

    def tick_all(self, pairs: Sequence[tuple[Frame, Frame]], *, timeout: float = 5.0) -> Mapping[str, Frame]:
        """Sends ``(rgb, semantic)`` of each camera's tick; returns the photoreal frames by camera.

        Raises:
            LockstepTimeoutError: Not all arrived in time; it says which, and whether the bridge shows signs of life.
            UsageError: Two frames of a pair belong to different ticks or cameras, or :meth:`connect` was not called.
        """
        missing = {(rgb.camera, rgb.id): _encode(rgb, semantic) for rgb, semantic in pairs}
        with self._using:
            if self._context.closed:
                raise UsageError("this lockstep client is closed: make a new one")
            return self._tick_all(missing, timeout)

    def _tick_all(self, missing: dict[_Tick, _Messages], timeout: float) -> Mapping[str, Frame]:
        unknown = {camera for camera, _ in missing}.difference(self._cameras)
        if self._receiver is None or self._sender is None or unknown:
            raise UsageError(f"cameras {sorted(unknown)} are not among {self._cameras}, or connect() was not called")
        answers: dict[str, Frame] = {}
        while self._read(self._receiver, 0, missing, answers):
            pass  # what came before this tick says nothing about whether the bridge is alive now
        start = time.monotonic()
        send_at = start
        while missing:
            now = time.monotonic()
            if now >= start + timeout:
                raise LockstepTimeoutError(self._no_answer(missing, timeout, start))
            if now >= send_at:
                self._send(self._sender, missing)
                self.resent += send_at > start
                send_at = now + self._resend_after
            self._read(self._receiver, max(min(send_at, start + timeout) - now, _LEAST_WAIT), missing, answers)
        return answers

    def close(self) -> None:
        """Frees the sockets, after the tick that another thread waits for; a second call does nothing."""
        with self._using:
            for socket in (self._sender, self._receiver):
                if socket is not None:
                    socket.close()
            self._context.term()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @staticmethod
    def _send(sender: FrameSender, missing: Mapping[_Tick, _Messages]) -> None:
        for messages in missing.values():
            for message in messages:
                sender.send(message)

    def _read(
        self, receiver: FrameReceiver, timeout: float, missing: dict[_Tick, _Messages], answers: dict[str, Frame]
    ) -> bool:
        """Takes one message; False when there was none."""
        message = receiver.receive(timeout)
        if message is None:
            return False
        try:
            answer = wire.decode([part.buffer for part in message.parts], received=message.received)
        except WireError:
            return True  # not of this tick, whatever it is; the tick is sent again if need be
        self._heard[answer.camera] = time.monotonic()
        if isinstance(answer, wire.StatusMessage):
            self._status[answer.camera] = answer
        elif missing.pop((answer.camera, answer.id), None) is not None:
            answers[answer.camera] = answer
        return True

    def _no_answer(self, missing: Mapping[_Tick, _Messages], timeout: float, start: float) -> str:
        ticks = ", ".join(
            f"camera {camera!r} frame {tick.number} of session {tick.session}" for camera, tick in missing
        )
        camera = next(iter(missing))[0]
        heard, status = self._heard.get(camera), self._status.get(camera)
        sentence = f"no photoreal frame of {ticks} came from {self._photoreal} within {timeout:g} s"
        if heard is None:
            return f"{sentence}, nor any status message: start the bridge, or check the address"
        if heard < start:
            ago = time.monotonic() - heard
            return f"{sentence}; the bridge's last message came {ago:.1f} s ago: it has ended or hangs, restart it"
        if status is None:
            return f"{sentence}, but the bridge is alive (no status message yet): see its log, or wait longer"
        counters = status.counters.get(f"{camera}/{Kind.RGB}", {})
        drops = [
            f"{outcome} {counters[outcome]}" for outcome in Outcome if outcome != "published" and counters.get(outcome)
        ]
        found = ", ".join(drops) or "nothing dropped"
        advice = "wait longer" if status.state == "loading" else "see its log, check --mode lockstep, or wait longer"
        return f"{sentence}, but the bridge is alive ({status.state or 'state unknown'}, {found}): {advice}"


class OpenPairs:
    """Joins RGB and semantic frames; ``kept`` frames of each camera may wait for their other half."""

    def __init__(self, kept: int = 8) -> None:
        self._kept = kept
        self._pairers: dict[str, Pairer] = {}

    def add(self, frames: Iterable[Frame]) -> list[list[tuple[Frame, Frame]]]:
        """Takes frames; returns ``(rgb, semantic)`` of all pairs now complete, grouped by tick, the oldest first."""
        complete: dict[int, list[tuple[Frame, Frame]]] = {}
        for frame in frames:
            if frame.kind not in JOINED_KINDS:
                continue
            pairer = self._pairers.setdefault(frame.camera, Pairer("lockstep", self._kept))
            for event in pairer.offer(frame):
                if isinstance(event, Pair):
                    complete.setdefault(frame.number, []).append((event.rgb, event.semantic))
        return [complete[number] for number in sorted(complete)]


def keep_in_step(
    ticks: Iterable[Iterable[Frame]],
    bridge: LockstepClient,
    timeout: float,
    wait_again: Callable[[LockstepTimeoutError], bool] | None = None,
) -> None:
    """Sends tick after tick and asks for the next one when the photoreal frames of the last are there.

    Args:
        ticks: The frames of each tick.
        bridge: The connection.
        timeout: Seconds that the answer to one tick may take.
        wait_again: Called when it takes longer. True waits as long again, False ends the loop; None raises.

    Raises:
        LockstepTimeoutError: An answer did not come in time.
    """
    open_pairs = OpenPairs()
    for frames in ticks:
        for pairs in open_pairs.add(frames):
            while True:
                try:
                    bridge.tick_all(pairs, timeout=timeout)
                    break
                except LockstepTimeoutError as error:
                    if wait_again is None:
                        raise
                    if not wait_again(error):
                        return


def _encode(rgb: Frame, semantic: Frame) -> _Messages:
    if (rgb.camera, rgb.id, rgb.kind, semantic.kind) != (semantic.camera, semantic.id, Kind.RGB, Kind.SEMANTIC):
        raise UsageError(
            f"{rgb.topic} frame {rgb.number} and {semantic.topic} frame {semantic.number} are not the RGB and the "
            "semantic frame of one camera's tick: give both the same camera, session and number"
        )
    return [wire.encode(rgb), wire.encode(semantic)]
