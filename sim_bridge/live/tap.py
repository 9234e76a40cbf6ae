"""A look at what the bridge is doing: the newest tick of every camera, and the status messages as they are sent.

The tap never makes a stage wait. Closed, it costs a comparison a frame; open, it keeps one tick per camera, the newest,
by reference: nothing is copied or encoded in the bridge's threads.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Protocol

from sim_bridge.live.work import Work


class Watcher(Protocol):
    """Looks at published ticks. The bridge's threads call it under the tap's lock: it must return at once.

    Nobody who calls the tap may hold a lock that it takes: each would wait for the other.
    """

    def on_tick(self, tick: Work) -> None:
        """A tick was published, and changes no more; :meth:`Tap.latest` has it until the next one."""

    def on_status(self, camera: str, body: Mapping[str, object]) -> None:
        """A status message of ``camera`` was sent; ``body`` is its header without the stamps."""


class Tap:
    """Holds the newest tick of each camera for its watchers; safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watchers: tuple[Watcher, ...] = ()
        self._ticks: dict[str, Work] = {}

    def open(self, watcher: Watcher) -> None:
        """Calls ``watcher`` from now on."""
        with self._lock:
            self._watchers += (watcher,)

    def close(self, watcher: Watcher) -> None:
        """Ends its calls before this returns. The last watcher to go closes the tap."""
        with self._lock:
            self._watchers = tuple(other for other in self._watchers if other is not watcher)
            if not self._watchers:
                self._ticks.clear()

    @property
    def is_open(self) -> bool:
        """Whether anybody looks."""
        return bool(self._watchers)

    def offer(self, tick: Work) -> None:
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

    def latest(self, camera: str) -> Work | None:
        """The newest tick of a camera, if there was one since the tap was opened."""
        with self._lock:
            return self._ticks.get(camera)
