"""``sim-bridge run``: any installed simulator on the wire."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Mapping

from sim_bridge.errors import SimBridgeError
from sim_bridge.process.child import obey
from sim_bridge.process.drive import Drive, Link, topic_flags
from sim_bridge.process.gate import LOOK_SECONDS
from sim_bridge.process.signals import on_signals
from sim_bridge.process.source_process import SourceProcess
from sim_bridge.process.stop import stop_on_signals
from sim_bridge.sources import Steerable, cameras_of, load_source


def run_source(
    name: str, options: Mapping[str, object], link: Link, frames: int | None, orders: Iterable[str] | None
) -> None:
    """Runs a source in this process, to its end or a signal.

    Args:
        name: The source's entry point.
        options: Its own options.
        link: Where its frames go.
        frames: How many ticks to publish; None all.
        orders: Lines ``pause``, ``resume``, ``step``; their end ends the run. None takes none.

    Raises:
        UsageError: There is no such source, or it refuses an option.
        FrameTimeoutError: Nobody subscribed in time.
        LockstepTimeoutError: The bridge did not answer in time.
    """
    source = load_source(name)
    source.open(options)
    try:
        with stop_on_signals(source) as stop:
            drive = Drive(source, link, stop, frames)

            def end() -> None:
                stop.set()
                source.close()

            def ready(address: str) -> None:
                _say(f"{name} on {address} (sim-bridge {topic_flags(cameras_of(source))})")
                _obey_in_thread(drive.steering, orders, end)

            drive.run(ready)
    finally:
        source.close()
    _say(f"published {drive.ticks} ticks")


def run_kept(
    name: str, options: Mapping[str, object], link: Link, frames: int | None, orders: Iterable[str] | None
) -> None:
    """Runs a source in a child process that is restarted when it dies; arguments as :func:`run_source`.

    Raises SimBridgeError when it did not start, or cannot go on.
    """
    failures: list[SimBridgeError] = []
    stop, started = threading.Event(), threading.Event()

    def say_ready(ended: bool) -> None:
        if not ended and started.wait():
            _say(f"{name} on {process.address}, in process {process.pid}")

    with SourceProcess(
        name,
        options,
        link,
        wanted=lambda: not stop.is_set(),
        on_failure=failures.append,
        on_change=say_ready,
        frames=frames,
    ) as process:
        started.set()
        _obey_in_thread(_Orders(process), orders, stop.set)
        with on_signals(lambda: threading.Thread(target=stop.set, name="stop").start()):
            while not process.finished.wait(LOOK_SECONDS) and not stop.is_set():
                pass
    if failures:
        raise failures[0]
    _say("stopped" if stop.is_set() else f"published {process.ticks} ticks")


class _Orders:
    """Passes orders on to a kept process."""

    def __init__(self, process: SourceProcess) -> None:
        self._process = process

    def pause(self) -> None:
        self._process.tell("pause")

    def resume(self) -> None:
        self._process.tell("resume")

    def step(self) -> None:
        self._process.tell("step")


def _obey_in_thread(steering: Steerable, orders: Iterable[str] | None, end: Callable[[], None]) -> None:
    if orders is not None:
        threading.Thread(target=obey, args=(steering, orders, end), name="orders", daemon=True).start()


def _say(sentence: str) -> None:
    sys.stderr.write(f"run: {sentence}\n")
