"""Keeps a simulator running in a process of its own, for commands that end with it and it with them."""

from __future__ import annotations

import logging
import os
import subprocess
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from sim_bridge.errors import SimBridgeError
from sim_bridge.process.child import READY
from sim_bridge.process.parent import END_SECONDS, child_command, close_pipe, end

logger = logging.getLogger(__name__)

RESTART_SECONDS: Final = 0.5
"""How long to wait before it is started again: after a signal to the whole process group no new one is wanted."""
RESTARTS: Final = 5
"""How many of them may die one after the other before they stand, once one stood."""


class KeptProcess:
    """A child process that is started again when it dies without a reason.

    One that says why it ends is a failure (:meth:`_verdict`), and so is a first one that does not get as far as to
    stand.

    Args:
        module: What runs, see :func:`~sim_bridge.process.parent.child_command`.
        asked: What it is told at its start.
        wanted: Whether one that died is to be started again.
        on_failure: Called, from a thread, with what went wrong when it did not start, or cannot go on.
        on_change: Called, from a thread, with True when it has ended and will be started again, with False when it
            stands.
        on_line: Called, from a thread, with every further line that it writes on stdout.
        end_seconds: How long it may take to end.
    """

    def __init__(
        self,
        module: str,
        asked: Mapping[str, object],
        *,
        wanted: Callable[[], bool],
        on_failure: Callable[[SimBridgeError], None],
        on_change: Callable[[bool], None] = lambda ended: None,
        on_line: Callable[[str], None] = lambda line: None,
        end_seconds: float = END_SECONDS,
    ) -> None:
        self._module, self._asked = module, asked
        self._wanted, self._on_failure, self._on_change, self._on_line = wanted, on_failure, on_change, on_line
        self._end_seconds = end_seconds
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._paused = False
        self._process = self._start()
        self.ready = threading.Event()
        """Set once the first one stands."""
        self._keeper = threading.Thread(target=self._keep, name="kept-simulator", daemon=True)
        self._keeper.start()

    @property
    def pid(self) -> int:
        """Process id of the one that runs now."""
        return self._process.pid

    def tell(self, order: str) -> None:
        """Passes ``pause``, ``resume`` or ``step`` on; one that is started again is paused if this one was."""
        with self._lock:
            if order != "step":
                self._paused = order == "pause"
            self._write(self._process, order)

    def say(self, line: str) -> None:
        """Writes a line to its stdin; what it does not take at once is lost."""
        with self._lock:
            self._write(self._process, line)

    def close(self) -> None:
        """Ends it; the second call does nothing."""
        self._ending.set()
        with self._lock:
            process = self._process
            close_pipe(process.stdin)
        end(process, self._end_seconds)
        self._keeper.join()
        close_pipe(process.stdout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self) -> subprocess.Popen[bytes]:
        command = child_command(self._module, self._told())
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        assert process.stdin is not None
        # Nobody waits for a simulator that does not listen, least of all the thread that publishes.
        os.set_blocking(process.stdin.fileno(), False)
        return process

    def _write(self, process: subprocess.Popen[bytes], line: str) -> None:
        assert process.stdin is not None
        with suppress(OSError, ValueError):  # it is dead, was ended, or does not listen
            process.stdin.write(f"{line}\n".encode())

    def _told(self) -> Mapping[str, object]:
        """What the next one is told at its start."""
        return self._asked

    def _keep(self) -> None:
        left = 0
        while True:
            process = self._process
            left = RESTARTS if self._listen(process) else left - 1
            code = process.wait()
            if self._ending.wait(RESTART_SECONDS) or not self._wanted():
                return
            failure = self._verdict() or (self._why(code) if left < 0 else None)
            if failure is not None:
                self._on_failure(failure)
                return
            logger.warning("the simulator ended (exit code %d): it is started again", code)
            self._on_change(True)
            self._replace(process)

    def _replace(self, process: subprocess.Popen[bytes]) -> None:
        started = self._start()
        with self._lock:
            close_pipe(process.stdin)
            close_pipe(process.stdout)
            self._process = started
            if self._paused:
                self._write(started, "pause")
            if self._ending.is_set():  # close() has ended the one before
                close_pipe(started.stdin)

    def _verdict(self) -> SimBridgeError | None:
        """Why the one that ended just now is not to be started again, as it said itself."""
        return None

    def _why(self, code: int) -> SimBridgeError:
        """What is said of one that did not start, without a word."""
        return SimBridgeError(f"the simulator did not start (exit code {code}): see above")

    def _listen(self, process: subprocess.Popen[bytes]) -> bool:
        """Hears it until its stdout ends; whether it ever stood."""
        assert process.stdout is not None
        stands = False
        while line := process.stdout.readline():
            text = line.decode(errors="replace").strip()
            if text == READY:
                stands = True
                self.ready.set()
                self._on_change(False)
            else:
                self._on_line(text)
        return stands
