"""Drives a source: its frames go on the wire, in real time or in lockstep with a bridge."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from sim_bridge.client import Publisher
from sim_bridge.errors import FrameTimeoutError, LockstepTimeoutError
from sim_bridge.frames import Frame
from sim_bridge.lockstep import RESEND_SECONDS, LockstepClient, keep_in_step
from sim_bridge.process.gate import Gate
from sim_bridge.sources import Source, Steerable, Ticking, cameras_of, topics_of
from sim_bridge.wire.addresses import SIMULATOR_ADDRESS

ANSWER_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Link:
    """Where a source's frames go.

    Attributes:
        publish: Address to bind.
        photoreal: In lockstep: where the bridge publishes. None in real time.
        wait: Seconds to wait for a subscriber first; None waits for ever.
        timeout: In lockstep: seconds that the answer to one tick may take.
        resend_after: In lockstep: seconds without an answer after which a tick is sent again.
        curve_keys: Folder with CURVE keys, for addresses off this machine.
        insecure: Allow such addresses without keys.
    """

    publish: str = SIMULATOR_ADDRESS
    photoreal: str | None = None
    wait: float | None = 0.0
    timeout: float = ANSWER_SECONDS
    curve_keys: Path | None = None
    insecure: bool = False
    resend_after: float = RESEND_SECONDS

    def to_json(self) -> dict[str, object]:
        """For a child process."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return values | {"curve_keys": None if self.curve_keys is None else str(self.curve_keys)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_json`."""
        keys = values["curve_keys"]
        return cls(**{**values, "curve_keys": None if keys is None else Path(keys)})

    def open_publisher(self, *, lossless: bool = False) -> Publisher:
        """Binds for real time."""
        return Publisher(self.publish, lossless=lossless, curve_keys=self.curve_keys, insecure=self.insecure)

    def open_lockstep(self, cameras: Sequence[str]) -> LockstepClient:
        """Binds, and connects to the bridge's output."""
        return LockstepClient(
            self.publish,
            self.photoreal,
            cameras=cameras,
            resend_after=self.resend_after,
            curve_keys=self.curve_keys,
            insecure=self.insecure,
        )

    def wait_for_subscriber(self, publisher: Publisher, topics: Iterable[str], stop: threading.Event) -> None:
        """Waits up to ``wait`` seconds. Raises FrameTimeoutError: nobody subscribed in time."""
        if self.wait == 0 or publisher.wait_for_subscribers(topics, self.wait, stop) or stop.is_set():
            return
        raise FrameTimeoutError(f"nobody subscribed within {self.wait:g} s: start sim-bridge, or give --wait 0")


class Drive:
    """Publishes an opened source until it ends, is stopped, or ``frames`` ticks went out.

    Args:
        stop: Ends it when set; close the source, too.
        frames: How many ticks to publish; None all.
        wait_again: Called when an answer is late, see :func:`~sim_bridge.lockstep.keep_in_step`.
        copy: False when the source never writes into a frame's pixels again; these then leave without a copy.

    Attributes:
        steering: Pauses and steps it.
        ticks: How many ticks it published.
    """

    def __init__(
        self,
        source: Source,
        link: Link,
        stop: threading.Event,
        frames: int | None = None,
        *,
        wait_again: Callable[[LockstepTimeoutError], bool] | None = None,
        copy: bool = True,
    ) -> None:
        self._source, self._link, self._stop, self._frames = source, link, stop, frames
        self._wait_again, self._copy = wait_again, copy
        self._gate = Gate()
        self.steering: Steerable = source if isinstance(source, Steerable) else self._gate
        self.ticks = 0
        self._newest = ("", -1)

    def run(self, ready: Callable[[str], None] = lambda address: None) -> None:
        """Runs to the end; calls ``ready`` with the bound address first.

        Raises FrameTimeoutError (nobody subscribed) or LockstepTimeoutError (the bridge did not answer) in time.
        """
        source, link = self._source, self._link
        if link.photoreal is None:
            with link.open_publisher() as publisher:
                ready(publisher.address)
                link.wait_for_subscriber(publisher, topics_of(source), self._stop)
                for (frame,) in self._admitted((frame,) for frame in source):
                    publisher.publish(frame, copy=self._copy)
        else:
            with link.open_lockstep(cameras_of(source)) as bridge:
                ready(bridge.address)
                ticks = source.ticks() if isinstance(source, Ticking) else ((frame,) for frame in source)
                keep_in_step(self._admitted(ticks), bridge, link.timeout, self._wait_again)

    def _admitted(self, batches: Iterable[tuple[Frame, ...]]) -> Iterator[tuple[Frame, ...]]:
        """Holds each tick at the gate; ends after the last one asked for."""
        for frames in batches:
            if frames and self._begins_a_tick(frames[0]):
                if self.ticks == self._frames or not self._gate.pass_one(lambda: not self._stop.is_set()):
                    self._source.close()
                    return
                self.ticks += 1
            yield frames

    def _begins_a_tick(self, frame: Frame) -> bool:
        """Whether a frame is newer than all before; cameras may lag behind each other."""
        session, number = self._newest
        if frame.session == session and frame.number <= number:
            return False
        self._newest = (frame.session, frame.number)
        return True


def topic_flags(cameras: Iterable[str]) -> str:
    """The flags of the bridge that takes these cameras."""
    return " ".join(f"--topic {camera}" for camera in cameras)
