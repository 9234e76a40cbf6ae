"""What can be changed while the bridge runs: pause and single steps, styles, the network. Safe from any thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sim_bridge.frames import Style
from sim_bridge.process.gate import Gate
from sim_bridge.translators import Control


class Controls:
    """Pause, single steps and the cameras' styles."""

    def __init__(self, cameras: Sequence[str], style: Style) -> None:
        self._lock = threading.Lock()
        self._gate = Gate(cameras)
        self._styles = dict.fromkeys(cameras, style)
        self._listeners: list[Callable[[str], None]] = []
        self._stopped = False

    def follow(self, listener: Callable[[str], None]) -> None:
        """Calls ``listener`` with ``pause``, ``resume`` or ``step`` at each of them, in the asker's thread."""
        self._listeners.append(listener)

    def _tell(self, order: str) -> None:
        for listener in self._listeners:
            listener(order)

    @property
    def paused(self) -> bool:
        """Whether pairs are held back."""
        return self._gate.paused

    def pause(self) -> None:
        """Holds pairs back: realtime counts them as ``paused``, lockstep lets the simulator wait."""
        with self._lock:
            if self._stopped:
                return
            self._gate.pause()
        self._tell("pause")

    def resume(self) -> None:
        """Lets pairs through again."""
        self._gate.resume()
        self._tell("resume")

    def stop(self) -> None:
        """Lets everything through from now on: a bridge that drains cannot be paused."""
        with self._lock:
            self._stopped = True
        self.resume()

    def step(self) -> None:
        """While paused: lets one more pair of every camera through."""
        self._gate.step()
        self._tell("step")

    def admit(self, camera: str, *, wait: bool = False) -> bool:
        """Whether a pair of ``camera`` may go on now, using up a step; with ``wait`` it returns when it may."""
        return self._gate.admit(camera, wait=wait)

    def style(self, camera: str) -> Style:
        """The style in use for a camera."""
        with self._lock:
            return self._styles[camera]

    def set_style(self, camera: str, style: Style) -> None:
        """Sets a camera's style from the next frame on. Raises KeyError when the bridge has no such camera."""
        with self._lock:
            if camera not in self._styles:
                raise KeyError(camera)
            self._styles[camera] = style

    def add_style(self, values: Style) -> None:
        """Sets these values for every camera and keeps the others."""
        with self._lock:
            self._styles = {camera: Style({**style, **values}) for camera, style in self._styles.items()}


@dataclass(frozen=True, slots=True)
class BundleState:
    """What is known of the network at one moment.

    Attributes:
        bundle: What the running network was loaded as: a bundle's name or path.
        model: Its model id; empty until the first one is loaded.
        loading: What is being loaded or waits to be; None when nothing is.
        error: Why the last choice could not be loaded; None when it could.
        styles: What can be chosen about its pictures.
    """

    bundle: str
    model: str = ""
    loading: str | None = None
    error: str | None = None
    styles: tuple[Control, ...] = ()


class BundleChoice:
    """Hands the wish for another network to the thread that loads it; the newest wish wins.

    Args:
        bundle: What the bridge starts with.
        wake: Called after a wish, so that the loading thread looks.
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

    def wish(self, bundle: str) -> None:
        """Asks for another network; the running one goes on until it is there."""
        with self._lock:
            self._wished = bundle
            self._state = replace(self._state, loading=bundle, error=None)
        self._wake()

    def take(self) -> str | None:
        """The wish, if there is one; the caller then fulfils it."""
        with self._lock:
            wished, self._wished = self._wished, None
            return wished

    def loaded(self, bundle: str, model: str, styles: tuple[Control, ...] = ()) -> None:
        """Notes what runs now."""
        with self._lock:
            self._state = BundleState(bundle, model, loading=self._wished, styles=styles)

    def failed(self, error: str) -> None:
        """Notes why the wish could not be fulfilled; what ran before still does."""
        with self._lock:
            self._state = replace(self._state, loading=self._wished, error=error)
