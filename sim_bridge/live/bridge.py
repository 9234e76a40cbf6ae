"""The bridge: owns the sockets and the stages' threads, and ends in good order.

The life of a bridge: sockets are bound in the constructor, :meth:`Bridge.run` starts the stages and stays until the
end. The first stop request drains (nothing new is taken in, what is in flight is finished), the second one discards.
Either way every message has its outcome when :meth:`Bridge.run` returns.
"""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
from collections.abc import Callable
from enum import Enum, auto
from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol, Self

import zmq

from sim_bridge.frames import Style
from sim_bridge.live.controls import BundleChoice
from sim_bridge.live.latency import LatencyRecorder
from sim_bridge.live.ledger import Ledger, Outcome
from sim_bridge.live.network import NetworkStage
from sim_bridge.live.pairing import JOINED_KINDS
from sim_bridge.live.prepare import PrepareStage
from sim_bridge.live.publish import PublishStage
from sim_bridge.live.receive import ReceiveStage
from sim_bridge.live.shared import BundleLoader, Shared, TranslatorSource
from sim_bridge.live.status import OutputCounts
from sim_bridge.live.tap import Tap
from sim_bridge.pixels.taxonomy import Taxonomies
from sim_bridge.process.ending import EndedFirst
from sim_bridge.process.signals import on_signals
from sim_bridge.translators.load import load_translator
from sim_bridge.wire.transport import EXPECTED_MESSAGE_BYTES, CurveKeys, FrameReceiver, FrameSender

if TYPE_CHECKING:
    from sim_bridge.settings import BridgeSettings

logger = logging.getLogger(__name__)

JOIN_SECONDS: Final = 1.0
"""How long a stage may take to end once it was told to; only a hanging network takes that long."""


class _Request(Enum):
    DRAIN = auto()
    DISCARD = auto()
    FINISHED = auto()


class _StageLoop(Protocol):
    def run(self) -> None: ...


class Bridge:
    """Joins a simulator's RGB and semantic streams, translates them, publishes photoreal frames.

    Args:
        settings: What to do.
        translator: A translator, or a function that loads one. The function is called in the network stage's thread,
            after the sockets are bound and while status messages already go out.
        load: Loads a bundle that is chosen while the bridge runs; by default as the settings' own bundle is loaded.

    Raises:
        UsageError: An address or key cannot be used.
    """

    def __init__(
        self, settings: BridgeSettings, translator: TranslatorSource, *, load: BundleLoader | None = None
    ) -> None:
        self._settings = settings
        self._load = load or (lambda bundle: load_translator(settings.model_copy(update={"bundle": bundle})))
        self._shared = Shared.build(settings)
        self._simulator_ended = False
        # SimpleQueue, because its put may be called from a signal handler at any point of the code.
        self._requests: queue.SimpleQueue[_Request | Exception] = queue.SimpleQueue()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._sender: FrameSender | None = None
        self._ended_first: EndedFirst | None = None
        try:
            self._open(translator)
        except BaseException:
            self.close()
            raise

    def _open(self, translator: TranslatorSource) -> None:
        settings, shared = self._settings, self._shared
        keys = None if settings.curve_keys is None else CurveKeys.load(settings.curve_keys)
        self._sender = FrameSender(
            self._context,
            settings.output,
            buffer_bytes=settings.send_buffer_mib << 20,
            message_bytes=EXPECTED_MESSAGE_BYTES if settings.size is None else 4 * math.prod(settings.size),
            keys=keys,
            insecure=settings.insecure,
        )
        topics = [f"{camera}/{kind}" for camera in settings.topics for kind in JOINED_KINDS]
        self._receiver = FrameReceiver(
            self._context,
            settings.input,
            topics,
            hwm=settings.receive_hwm,
            keys=keys,
            insecure=settings.insecure,
        )
        self.output_address: str = self._sender.address
        """Where it publishes, the port resolved."""
        self._threads = {
            name: threading.Thread(target=self._guard, args=(stage,), name=f"sim-bridge-{name}", daemon=True)
            for name, stage in (
                ("publish", PublishStage(shared, self._sender)),
                ("network", NetworkStage(shared, translator, self._load)),
                ("prepare", PrepareStage(shared)),
                ("receive", ReceiveStage(shared, self._receiver)),
            )
        }

    @property
    def settings(self) -> BridgeSettings:
        """Its settings."""
        return self._settings

    @property
    def state(self) -> str:
        """``loading``, ``running``, ``paused`` or ``stopping``."""
        return self._shared.state

    @property
    def tap(self) -> Tap:
        """Where the newest tick of every camera can be looked at."""
        return self._shared.tap

    @property
    def bundles(self) -> BundleChoice:
        """Which network runs; another one can be asked for there."""
        return self._shared.bundles

    @property
    def taxonomies(self) -> Taxonomies:
        """Those that a semantic frame may name."""
        return self._shared.taxonomies

    @property
    def ledger(self) -> Ledger:
        """The account of every input message."""
        return self._shared.ledger

    @property
    def latency(self) -> LatencyRecorder:
        """The stages' latencies."""
        return self._shared.latency

    @property
    def outputs(self) -> OutputCounts:
        """What left, per camera."""
        return self._shared.outputs

    def wait_until_ready(self, timeout: float | None = None) -> bool:
        """Waits until the translator is ready; False when that took longer than ``timeout`` seconds."""
        return self._shared.loaded.wait(timeout)

    def run(self) -> int:
        """Runs until stopped; one thread calls it, once.

        Returns:
            The exit code: 0 after an orderly end, 1 when frames in flight had to be discarded.

        Raises:
            SimBridgeError: The translator cannot be loaded, or a stage failed.
        """
        logger.info("%s -> %s, cameras %s", self._settings.input, self.output_address, ", ".join(self._settings.topics))
        self._ended_first = EndedFirst(lambda: self.stop(drain=False), self._threads.values())
        for thread in self._threads.values():
            thread.start()
        try:
            return self._supervise()
        finally:
            self._discard()
            self.close()

    def stop(self, *, drain: bool = True) -> None:
        """Asks :meth:`run` to end; returns at once. May be called from any thread and from signal handlers.

        Args:
            drain: Finish what is in flight, within the setting ``drain_timeout``; otherwise discard it.
        """
        self._requests.put(_Request.DRAIN if drain else _Request.DISCARD)

    def pause(self) -> None:
        """Holds pairs back: realtime counts them as ``paused``, lockstep lets the simulator wait."""
        self._shared.controls.pause()

    def resume(self) -> None:
        """Lets pairs through again."""
        self._shared.controls.resume()

    def step(self) -> None:
        """While paused: lets one more pair of every camera through."""
        self._shared.controls.step()

    def style(self, camera: str) -> Style:
        """The style in use for a camera. Raises KeyError when the bridge has no such camera."""
        return self._shared.controls.style(camera)

    def follow(self, listener: Callable[[str], None]) -> None:
        """Calls ``listener`` with ``pause``, ``resume`` or ``step`` at each of them, in the asker's thread.

        So a simulator that belongs to the bridge can pause with it.
        """
        self._shared.controls.follow(listener)

    @property
    def simulator_ended(self) -> bool:
        """Whether the simulator's process has ended; see :meth:`report_simulator`."""
        return self._simulator_ended

    def report_simulator(self, *, ended: bool) -> None:
        """Notes that the simulator's process has ended, or is there again: sooner known than by its silence."""
        self._simulator_ended = ended

    def set_style(self, camera: str, style: Style) -> None:
        """Sets a camera's style from the next frame on. Raises KeyError when the bridge has no such camera."""
        self._shared.controls.set_style(camera, style)

    def close(self) -> None:
        """Ends the threads that can be ended and frees the sockets; :meth:`run` does so by itself."""
        threads = [thread for thread in getattr(self, "_threads", {}).values() if thread.is_alive()]
        deadline = time.monotonic() + JOIN_SECONDS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._shared.ledger.close(Outcome.SHUTDOWN)
        hanging = [thread.name for thread in threads if thread.is_alive()]
        if hanging:
            logger.warning("%s did not end within %.0f s and is left behind", ", ".join(hanging), JOIN_SECONDS)
        elif self._ended_first is not None:
            self._ended_first.forget()
        if any(name != "sim-bridge-network" for name in hanging):
            return  # a socket may still be in use there: closing it under that thread would be worse than leaving it
        for socket in (self._sender, getattr(self, "_receiver", None)):
            if socket is not None:
                socket.close()
        self._context.term()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _guard(self, stage: _StageLoop) -> None:
        """A thread's body; reports its exception to :meth:`run`."""
        try:
            stage.run()
        except Exception as error:  # noqa: BLE001 - handed to run(), which raises it
            self._requests.put(error)
            return
        if isinstance(stage, PublishStage):
            self._requests.put(_Request.FINISHED)

    def _supervise(self) -> int:
        deadline: float | None = None
        while True:
            request = self._next_request(deadline)
            if isinstance(request, Exception):
                raise request
            if request is _Request.FINISHED:
                return 0
            if request is _Request.DRAIN:
                if deadline is None:
                    logger.info("stopping: finishing what is in flight, %g s at most", self._settings.drain_timeout)
                    deadline = time.monotonic() + self._settings.drain_timeout
                    self._shared.stopping.set()
                    self._shared.controls.stop()
                continue
            logger.warning("stopping now: what is in flight is discarded")
            return 1

    def _next_request(self, deadline: float | None) -> _Request | Exception:
        try:
            return self._requests.get(timeout=None if deadline is None else max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            return _Request.DISCARD

    def _discard(self) -> None:
        """Makes every stage end now; after an orderly end there is nothing left to discard."""
        shared = self._shared
        shared.discarding.set()
        shared.stopping.set()
        shared.controls.stop()
        shared.inbox.close(discard=True)
        shared.ready.close(discard=True)
        shared.outbox.close(discard=True)


def run_until_signalled(bridge: Bridge) -> int:
    """Runs a bridge in the main thread; the first SIGINT or SIGTERM drains, the second one discards.

    The handlers that were there before are back when it returns.

    Returns:
        The exit code of :meth:`Bridge.run`.
    """
    asked = 0

    def ask() -> None:
        nonlocal asked
        asked += 1
        bridge.stop(drain=asked == 1)

    with on_signals(ask):
        return bridge.run()
