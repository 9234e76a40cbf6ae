"""What all stages of a bridge see."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from sim_bridge.errors import SimBridgeError, SizeMismatchError
from sim_bridge.frames import Kind, Style
from sim_bridge.live.controls import BundleChoice, Controls
from sim_bridge.live.handoff import Handoff, Policy
from sim_bridge.live.latency import LatencyRecorder
from sim_bridge.live.ledger import Ledger, Outcome
from sim_bridge.live.once import OncePerCause
from sim_bridge.live.pairing import JOINED_KINDS, Pair, Repeat
from sim_bridge.live.status import OutputCounts
from sim_bridge.live.tap import Tap
from sim_bridge.live.work import Engine, Work
from sim_bridge.pixels.taxonomy import Taxonomies
from sim_bridge.translators import Translator

if TYPE_CHECKING:
    from sim_bridge.settings import BridgeSettings

logger = logging.getLogger(__name__)

POLL_SECONDS: Final = 0.1
"""How soon a stage notices that it should stop while nothing comes in."""

TranslatorSource = Translator | Callable[[], Translator]
"""A translator, or what loads one; the network's thread calls it."""
BundleLoader = Callable[[str], Translator]
"""Loads a bundle that was chosen while the bridge runs, in the same thread."""


class Inputs:
    """Which kinds a tick consists of beside RGB and labels: the network's stage asks, the receiving one follows."""

    def __init__(self) -> None:
        self._followed = threading.Event()
        self.wanted: tuple[Kind, ...] = ()
        """What the receiving stage must join."""

    def ask(self, kinds: tuple[Kind, ...], given_up: threading.Event) -> None:
        """Wants these kinds, and returns when they are joined, or when ``given_up`` is set."""
        if kinds == self.wanted:
            return
        self._followed.clear()
        self.wanted = kinds
        while not (self._followed.wait(POLL_SECONDS) or given_up.is_set()):
            pass

    def follow(self) -> None:
        """Says that all ticks handed over from now on have what is wanted."""
        self._followed.set()


@dataclass
class Shared:
    """What all stages see. Every part of it is safe to use from several threads."""

    settings: BridgeSettings
    ledger: Ledger
    latency: LatencyRecorder
    controls: Controls
    once: OncePerCause
    inbox: Handoff[Work]
    """Joined ticks, before they are prepared."""
    ready: Handoff[Work]
    """Prepared ticks, before the network."""
    outbox: Handoff[Work | Repeat]
    """What is to be published."""
    outputs: OutputCounts
    tap: Tap
    bundles: BundleChoice
    taxonomies: Taxonomies
    """Those that a semantic frame may name."""
    inputs: Inputs = field(default_factory=Inputs)
    engine: Engine | None = None
    """What translates what is prepared from now on; the network's stage sets it."""
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
        realtime = settings.mode == "realtime"
        policy = Policy.NEWEST if realtime else Policy.WAIT
        ready: Handoff[Work] = Handoff(cameras, policy)
        return cls(
            settings=settings,
            ledger=Ledger(f"{camera}/{kind}" for camera in cameras for kind in JOINED_KINDS),
            latency=LatencyRecorder(),
            controls=Controls(cameras, Style(seed=settings.style_seed)),
            once=OncePerCause(logger),
            inbox=Handoff(cameras, policy, 1 if realtime else settings.pair_window),
            ready=ready,
            # Frames are dropped before the network has spent its time on them, never after.
            outbox=Handoff(cameras, Policy.WAIT),
            outputs=OutputCounts(cameras),
            tap=Tap(),
            bundles=BundleChoice(settings.bundle, ready.nudge),
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

    def put(self, handoff: Handoff[Work], work: Work) -> None:
        """Hands a tick on, and settles the one that goes no further for it."""
        displaced = handoff.put(work.camera, work)
        if displaced is not None:
            self.settle(Outcome.SHUTDOWN if displaced is work else Outcome.SUPERSEDED, displaced.pair)

    def settle(self, outcome: Outcome, pair: Pair) -> None:
        """Gives all messages of a tick their outcome."""
        self.ledger.settle(outcome, *(frame.topic for frame in pair.frames))

    def failed(self, pair: Pair, error: Exception) -> None:
        """Counts a tick that could not be translated, and logs it once per session and kind of error."""
        outcome = Outcome.MISMATCHED if isinstance(error, SizeMismatchError) else Outcome.FAILED
        self.settle(outcome, pair)
        self.complain(pair, error)

    def complain(self, pair: Pair, error: Exception) -> None:
        """Logs why a tick could not be translated, with a traceback when the error is not one of ours."""
        known = isinstance(error, SimBridgeError)
        sentence = str(error) if known else f"the translator raised {type(error).__name__}: {error}"
        self.once.warn(
            (pair.camera, type(error)),
            f"camera {pair.camera!r}, frame {pair.id.number}: {sentence}",
            scope=pair.id.session,
            error=None if known else error,
        )
