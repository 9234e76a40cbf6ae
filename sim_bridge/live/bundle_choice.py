"""Which network runs, and which one was asked for while it runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class BundleState:
    """What is known of the network at one moment.

    Attributes:
        bundle: What the running network was loaded as: a bundle's name or path.
        model: Its model id; empty until the first one is loaded.
        loading: What is being loaded or waits to be; None when nothing is.
        error: Why the last choice could not be loaded; None when it could.
    """

    bundle: str
    model: str = ""
    loading: str | None = None
    error: str | None = None


class BundleChoice:
    """Hands the wish for another network to the thread that loads it; the newest wish wins. Safe from any thread.

    Args:
        bundle: What the bridge starts with.
        wake: Called after a wish, so that the loading thread looks; set by who owns that thread.
    """

    def __init__(self, bundle: str, wake: Callable[[], None] = lambda: None) -> None:
        self._lock = threading.Lock()
        self._wake = wake
        self._state = BundleState(bundle)
        self._wished: str | None = None

    @property
    def state(self) -> BundleState:
        """What runs and what is on its way."""
        with self._lock:
            return self._state

    @property
    def wished(self) -> bool:
        """Whether a wish waits to be taken."""
        return self._wished is not None

    def wish(self, bundle: str) -> None:
        """Asks for another network; the running one goes on until it is there."""
        with self._lock:
            self._wished = bundle
            self._state = replace(self._state, loading=bundle, error=None)
        self._wake()

    def take(self) -> str | None:
        """The wish, if there is one; it is then this caller's to fulfil."""
        with self._lock:
            wished, self._wished = self._wished, None
            return wished

    def loaded(self, bundle: str, model: str) -> None:
        """Notes what runs now."""
        with self._lock:
            self._state = BundleState(bundle, model, loading=self._wished)

    def failed(self, error: str) -> None:
        """Notes why the wish could not be fulfilled; what ran before still does."""
        with self._lock:
            self._state = replace(self._state, loading=self._wished, error=error)
