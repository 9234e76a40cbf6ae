"""Keeps a simulator running in a process of its own, for a command that ends with it."""

from __future__ import annotations

import logging
import os
import subprocess
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from sim_bridge.errors import SimBridgeError, UsageError
from sim_bridge.process.child import DONE, FAILED, READY
from sim_bridge.process.parent import END_SECONDS, child_command, close_pipe, end

logger = logging.getLogger(__name__)

RESTART_SECONDS: Final = 0.5  # before a restart: a signal to the whole process group ends this process, too
RESTARTS: Final = 5  # how many may die in a row before they are ready, once one was ready


class Supervisor:
    """Runs a child process and restarts it when it dies.

    It ends for good when the child says that it is done or failed, or never gets ready.

    Args:
        module: What runs with the arguments ``asked``, see :func:`~sim_bridge.process.parent.child_command`.
        wanted: Whether to restart one that died.
        on_failure: Called, from a thread, with the error that ended it for good.
        on_change: Called, from a thread, with True when it died and will be restarted, with False when it is ready.
        on_line: Called, from a thread, with every further line of its stdout.
        end_seconds: How long it may take to end.

    Attributes:
        ready: Set once the first one is ready.
        finished: Set when it ended for good.
        address: Where the newest one publishes, if it said so.
        ticks: How many ticks a child that is done has published.
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
        self._failure: SimBridgeError | None = None
        self._done = False
        self.address, self.ticks = "", 0
        self.ready, self.finished = threading.Event(), threading.Event()
        self._process = self._start()
        self._keeper = threading.Thread(target=self._keep, name="supervisor", daemon=True)
        self._keeper.start()

    @property
    def pid(self) -> int:
        """Process id of the one that runs now."""
        return self._process.pid

    def tell(self, order: str) -> None:
        """Passes ``pause``, ``resume`` or ``step`` on; a restarted one is paused if this one was."""
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
        command = child_command(self._module, self._arguments())
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        assert process.stdin is not None
        # Nobody waits for a simulator that does not listen, least of all the thread that publishes.
        os.set_blocking(process.stdin.fileno(), False)
        return process

    def _write(self, process: subprocess.Popen[bytes], line: str) -> None:
        assert process.stdin is not None
        with suppress(OSError, ValueError):  # it is dead, was ended, or does not listen
            process.stdin.write(f"{line}\n".encode())

    def _arguments(self) -> Mapping[str, object]:
        """The arguments of the next child."""
        return self._asked

    def _keep(self) -> None:
        try:
            self._restart_until_it_ends()
        finally:
            self.finished.set()

    def _restart_until_it_ends(self) -> None:
        left = 0
        while True:
            process = self._process
            left = RESTARTS if self._listen(process) else left - 1
            code = process.wait()
            if self._done or self._ending.wait(RESTART_SECONDS) or not self._wanted():
                return
            failure = self._failure or (self._crash_error(code) if left < 0 else None)
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

    def _crash_error(self, code: int) -> SimBridgeError:
        """The error of one that never got ready and gave no reason."""
        return SimBridgeError(f"the simulator did not start (exit code {code}): see above")

    def _listen(self, process: subprocess.Popen[bytes]) -> bool:
        """Reads its stdout to the end; returns whether it got ready."""
        assert process.stdout is not None
        was_ready = False
        while line := process.stdout.readline():
            text = line.decode(errors="replace").strip()
            match text.split():
                case [word, *rest] if word == READY:
                    was_ready, self.address = True, " ".join(rest)
                    self.ready.set()
                    self._on_change(False)
                case [word, ticks] if word == DONE:
                    self._done, self.ticks = True, int(ticks)
                case _:
                    self._failure = reported_failure(text) or self._failure
                    self._on_line(text)
        return was_ready


def reported_failure(line: str) -> SimBridgeError | None:
    """The error that a line of a child's stdout reports, if it does."""
    match line.split():
        case [word, code, *words] if word == FAILED:
            kind = UsageError if code == str(UsageError.exit_code) else SimBridgeError
            return kind(" ".join(words))
        case _:
            return None
