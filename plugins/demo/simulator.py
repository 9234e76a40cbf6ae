"""Keeps the demo's simulator running in a process of its own."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import IO, Final, Self

from plugins.demo.child import ANSWERED, READY
from sim_bridge.errors import SimBridgeError
from sim_bridge.tap import Tick

logger = logging.getLogger(__name__)

END_SECONDS: Final = 5.0
"""How long the simulator may take to end once it was told to."""
RESTART_SECONDS: Final = 0.5
"""How long to wait before it is started again: after a signal to the whole process group no new one is wanted."""


class SimulatorProcess:
    """A simulator that is started again when it dies; one that cannot even start ends the demo.

    Args:
        address: Where it publishes.
        options: Of :class:`~plugins.toytown.options.ToytownOptions`.
        wanted: Whether one that died is to be started again.
        on_failure: Called, from a thread, with what went wrong when it did not start.
        on_change: Called, from a thread, with True when the simulator has ended and will be started again, with False
            when it stands.
    """

    def __init__(
        self,
        address: str,
        options: Mapping[str, object],
        *,
        wanted: Callable[[], bool],
        on_failure: Callable[[SimBridgeError], None],
        on_change: Callable[[bool], None] = lambda ended: None,
    ) -> None:
        asked = json.dumps({"address": address, "options": options})
        self._command = [sys.executable, "-m", "plugins.demo.child", asked]
        self._wanted, self._on_failure, self._on_change = wanted, on_failure, on_change
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._paused = False
        self._process = self._start()
        self.ready = threading.Event()
        """Set once the first simulator's town stands."""
        self._keeper = threading.Thread(target=self._keep, name="demo-simulator", daemon=True)
        self._keeper.start()

    @property
    def pid(self) -> int:
        """Process id of the simulator that runs now."""
        return self._process.pid

    def tell(self, order: str) -> None:
        """Passes ``pause``, ``resume`` or ``step`` on; a simulator that is started again is paused if this one was."""
        with self._lock:
            if order != "step":
                self._paused = order == "pause"
            self._say(self._process, order)

    def on_tick(self, tick: Tick) -> None:
        """Lets the simulator make another one; see :class:`~sim_bridge.tap.Watcher`."""
        with self._lock:
            self._say(self._process, f"{ANSWERED} {tick.pair.rgb.session} {tick.pair.rgb.number}")

    def on_status(self, camera: str, body: Mapping[str, object]) -> None:
        """See :class:`~sim_bridge.tap.Watcher`."""

    def close(self) -> None:
        """Ends the simulator; the second call does nothing."""
        self._ending.set()
        with self._lock:
            process = self._process
            _close(process.stdin)
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
        self._keeper.join()
        _close(process.stdout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        assert process.stdin is not None
        # Nobody waits for a simulator that does not listen, least of all the thread that publishes.
        os.set_blocking(process.stdin.fileno(), False)
        return process

    def _say(self, process: subprocess.Popen[bytes], order: str) -> None:
        assert process.stdin is not None
        with suppress(OSError, ValueError):  # it is dead, was ended, or does not listen
            process.stdin.write(f"{order}\n".encode())

    def _keep(self) -> None:
        while True:
            process = self._process
            assert process.stdout is not None
            stands = process.stdout.readline().decode().strip() == READY
            if stands:
                self.ready.set()
                self._on_change(False)
            code = process.wait()
            if self._ending.wait(RESTART_SECONDS) or not self._wanted():
                return
            if not stands:
                self._on_failure(SimBridgeError(f"the simulator did not start (exit code {code}): see above"))
                return
            logger.warning("the simulator ended (exit code %d): it is started again", code)
            self._on_change(True)
            started = self._start()
            with self._lock:
                _close(process.stdin)
                _close(process.stdout)
                self._process = started
                if self._paused:
                    self._say(started, "pause")
                if self._ending.is_set():  # close() has ended the one before
                    _close(started.stdin)


def _close(pipe: IO[bytes] | None) -> None:
    with suppress(OSError):  # what was not read any more is lost, as it should be
        assert pipe is not None
        pipe.close()
