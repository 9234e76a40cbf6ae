"""A look at what the bridge is doing: the newest tick of every camera, and the status messages as they are sent.

The tap never makes a stage wait. Closed, it costs a comparison a frame; open, it keeps one tick per camera, the newest,
by reference: nothing is copied or encoded in the bridge's threads.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from sim_bridge.frames import FrameStatus, Provenance
from sim_bridge.live.pairing import Pair
from sim_bridge.translators import ByteArray, Ensemble, Translator


@dataclass(frozen=True, slots=True)
class Tick:
    """All pictures of one published tick.

    Attributes:
        pair: The RGB and the semantic frame, as they came.
        cg: The RGB picture as the network saw it, uint8 ``(H, W, 3)``; None when it was not reached.
        edges: The edge map that the generator saw, uint8 ``(H, W)``; None where a translator has none.
        rgb: The photoreal picture, uint8 ``(H, W, 3)``; None when the CG frame was passed on.
        ensemble: The ensemble weights it was made with; None where a translator has none.
        translator: What made it.
        provenance: What the published frame says of itself.
    """

    pair: Pair
    cg: ByteArray | None
    edges: ByteArray | None
    rgb: ByteArray | None
    ensemble: Ensemble | None
    translator: Translator
    provenance: Provenance

    @property
    def camera(self) -> str:
        """The camera."""
        return self.pair.camera

    @property
    def fallback(self) -> bool:
        """Whether the CG frame was passed on."""
        return self.provenance.status is FrameStatus.FALLBACK


class Watcher(Protocol):
    """Who looks. Both methods are called in the bridge's threads, under the tap's lock, and must return at once.

    A lock that they take must not be held by anybody who calls the tap: each would wait for the other.
    """

    def on_tick(self, tick: Tick) -> None:
        """A tick was published; until the next one :meth:`Tap.latest` has it, too."""

    def on_status(self, camera: str, body: Mapping[str, object]) -> None:
        """A status message of ``camera`` was sent; ``body`` is its header without the stamps."""


class Tap:
    """Holds the newest tick of each camera for its watchers; safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watchers: tuple[Watcher, ...] = ()
        self._ticks: dict[str, Tick] = {}

    def open(self, watcher: Watcher) -> None:
        """Lets ``watcher`` look from now on."""
        with self._lock:
            self._watchers += (watcher,)

    def close(self, watcher: Watcher) -> None:
        """Ends its looking; it is not called any more when this returns. The last one to go closes the tap."""
        with self._lock:
            self._watchers = tuple(other for other in self._watchers if other is not watcher)
            if not self._watchers:
                self._ticks.clear()

    @property
    def is_open(self) -> bool:
        """Whether anybody looks."""
        return bool(self._watchers)

    def offer(self, tick: Tick) -> None:
        """Puts a tick where the watchers find it; the one before is forgotten."""
        with self._lock:
            if self._watchers:
                self._ticks[tick.camera] = tick
            for watcher in self._watchers:
                watcher.on_tick(tick)

    def report(self, camera: str, body: Mapping[str, object]) -> None:
        """Passes a status message on."""
        with self._lock:
            for watcher in self._watchers:
                watcher.on_status(camera, body)

    def latest(self, camera: str) -> Tick | None:
        """The newest tick of a camera, if there was one since the tap was opened."""
        with self._lock:
            return self._ticks.get(camera)
