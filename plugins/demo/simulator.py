"""Keeps the demo's simulator running in a process of its own."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final, Self

from plugins.demo.child import READY
from sim_bridge.errors import SimBridgeError

logger = logging.getLogger(__name__)

END_SECONDS: Final = 5.0
"""How long the simulator may take to end once it was told to."""


class SimulatorProcess:
    """A simulator that is started again when it dies; one that cannot even start ends the demo.

    Args:
        address: Where it publishes.
        options: Of :class:`~plugins.toytown.options.ToytownOptions`.
        on_failure: Called, from a thread, with what went wrong when it did not start.
    """

    def __init__(
        self, address: str, options: Mapping[str, object], on_failure: Callable[[SimBridgeError], None]
    ) -> None:
        self._command = [
            sys.executable, "-m", "plugins.demo.child", json.dumps({"address": address, "options": options}),
        ]  # fmt: skip
        self._on_failure = on_failure
        self._ending = False
        self._lock = threading.Lock()
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
        """Passes ``pause``, ``resume`` or ``step`` on; one that is just being started again does not hear it."""
        process = self._process
        assert process.stdin is not None
        try:
            process.stdin.write(f"{order}\n")
            process.stdin.flush()
        except (BrokenPipeError, ValueError):  # it is dead, or ended: the next one runs by itself
            logger.debug("the simulator is gone and was not told to %s", order)

    def close(self) -> None:
        """Ends the simulator; the second call does nothing."""
        with self._lock:
            self._ending = True
            process = self._process
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
        self._keeper.join()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def _keep(self) -> None:
        while True:
            process = self._process
            assert process.stdout is not None and process.stdin is not None
            stands = process.stdout.readline().strip() == READY
            if stands:
                self.ready.set()
            code = process.wait()
            with self._lock:
                if self._ending:
                    return
                if not stands:
                    self._on_failure(SimBridgeError(f"the simulator did not start (exit code {code}): see above"))
                    return
                logger.warning("the simulator ended (exit code %d): it is started again", code)
                process.stdin.close()
                process.stdout.close()
                self._process = self._start()
