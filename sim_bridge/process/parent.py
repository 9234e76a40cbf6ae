"""The parent's side of a child process: starts one, or runs one to its end.

:mod:`sim_bridge.process.child` is the child's side; :mod:`sim_bridge.process.supervisor` restarts one that dies.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from types import TracebackType
from typing import IO, Final, Self

END_SECONDS: Final = 5.0
"""How long a child may take to end."""
_BOOT: Final = (
    "import importlib, json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); "
    "sys.exit(importlib.import_module(sys.argv.pop(1)).main())"
)

logger = logging.getLogger(__name__)


def child_command(module: str, asked: Mapping[str, object]) -> list[str]:
    """The command of a child that calls ``main()`` of a module with ``asked`` as JSON in ``sys.argv[1]``.

    It imports what this process does: ``python -m`` would look into the current folder first, where a user's project
    may have a package of the same name.
    """
    return [sys.executable, "-P", "-c", _BOOT, json.dumps(sys.path), module, json.dumps(asked)]


class ChildRun:
    """A child process that runs once, until the context ends. Iterate it for its lines; see :func:`child_command`."""

    def __init__(self, module: str, asked: Mapping[str, object], end_seconds: float = END_SECONDS) -> None:
        self._end_seconds = end_seconds
        self.stopped = False
        self._process = subprocess.Popen(
            child_command(module, asked), stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )

    def stop(self) -> None:
        """Tells it to end, by the end of its stdin; may be called in a signal handler."""
        self.stopped = True
        close_pipe(self._process.stdin)

    def kill(self) -> None:
        """Ends it at once."""
        self._process.kill()

    def __iter__(self) -> Iterator[str]:
        """Yields the lines that it writes on stdout, until it ends."""
        assert self._process.stdout is not None
        while line := self._process.stdout.readline():
            yield line.decode(errors="replace").strip()

    @property
    def code(self) -> int:
        """Its exit code, below 0 the signal that ended it; waits for its end."""
        return self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        end(self._process, self._end_seconds)
        close_pipe(self._process.stdout)


def end(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Waits for the end of a process that was told to end; after that time it is killed."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        logger.warning("the simulator's process did not end within %g s and is killed", seconds)
        process.kill()
        process.wait()


def close_pipe(pipe: IO[bytes] | None) -> None:
    """Closes a process's pipe; a second call does nothing."""
    with suppress(OSError):  # what was not read any more is lost, as it should be
        assert pipe is not None
        pipe.close()
