"""The server for tests: as a child process, because the client under test holds the GIL in calls that wait for it."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any, Final, NamedTuple, Self

ROOT: Final = Path(__file__).parents[2]
READY_SECONDS: Final = 60.0
"""Toytown takes some seconds to build, more on a busy machine."""
ORDER_SECONDS: Final = 60.0
WAIT_SECONDS: Final = 20.0
_LOOK_SECONDS: Final = 0.005


class ServerError(Exception):
    """The server did not start, did not answer, or refused an order."""


class ActorInfo(NamedTuple):
    """An actor as the server knows it.

    Attributes:
        id: Its number.
        type_id: Its blueprint.
        parent: What it is attached to; 0 for nothing.
        attributes: Values by name.
        pose: Location in metres and rotation (pitch, yaw, roll) in degrees, in the world.
        readers: How many read its stream.
    """

    id: int
    type_id: str
    parent: int
    attributes: dict[str, str]
    pose: tuple[tuple[float, float, float], tuple[float, float, float]]
    readers: int


class CarlaServer:
    """A stand-in for CARLA's server in a process of its own; a context manager.

    Example:
        >>> with CarlaServer(version="0.9.13") as server:  # doctest: +SKIP
        ...     client = carla.Client("127.0.0.1", server.port)

    Args:
        options: The process's flags by name, see ``python -m tests.carla_server --help``.

    Attributes:
        port: The RPC port, once started.
        stream_port: The port of the streams.
        process: The child process.
    """

    def __init__(self, **options: str | float) -> None:
        self._options: dict[str, str | float] = {"port": 0, **options}
        self.port = self.stream_port = 0
        self._orders = threading.Lock()

    def start(self) -> Self:
        """Starts the process and waits until it serves.

        Raises:
            ServerError: It ended, or was not ready in time.
        """
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in self._options.items()]
        command = [sys.executable, "-m", "tests.carla_server", *flags]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=_read_lines, args=(self.process.stdout, self._lines), daemon=True).start()
        try:
            ready = self._answer(READY_SECONDS)
        except ServerError:
            self.kill()
            raise
        self.port, self.stream_port = ready["port"], ready["stream_port"]
        self._options.update(ready)
        return self

    def kill(self) -> None:
        """Kills the process, as a simulator that crashes."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def restart(self, **options: str | float) -> None:
        """Kills the server and starts it on the same ports, with a new episode id, at frame 0.

        Args:
            options: Flags that are to be others than before.
        """
        self.kill()
        self._options.update({"episode": int(self._options.get("episode", 1)) + 1, "first_frame": 0, **options})
        self.start()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exception: object) -> None:
        self.kill()

    def order(self, order: str, **arguments: object) -> Any:
        """Gives an order, see :class:`tests.carla_server.orders.Orders`, and returns its result.

        Raises:
            ServerError: It was refused, or not answered in time.
        """
        with self._orders:
            if self.process.stdin is None or self.process.poll() is not None:
                raise ServerError(f"the order {order!r} found no server: it ended with {self.process.returncode}")
            self.process.stdin.write(json.dumps({"order": order, "arguments": arguments}) + "\n")
            self.process.stdin.flush()
            answer = self._answer(ORDER_SECONDS)
        if "error" in answer:
            raise ServerError(answer["error"])
        return answer["result"]

    def actors(self) -> list[ActorInfo]:
        """All actors in the world, whoever spawned them."""
        return [
            ActorInfo(**{**actor, "pose": tuple(tuple(part) for part in actor["pose"])})
            for actor in self.order("actors")
        ]

    def sensors(self) -> list[ActorInfo]:
        """The sensors among them: what a client that cleans up leaves none of."""
        return [actor for actor in self.actors() if actor.type_id.startswith("sensor.")]

    def frame(self) -> int:
        """Number of the last tick."""
        return int(self.order("state")["frame"])

    def wait_for_readers(self, sensor: int, count: int = 1, seconds: float = WAIT_SECONDS) -> None:
        """Waits until so many read a sensor's stream (0: the episode's).

        Raises:
            ServerError: They did not come, or go, in time.
        """
        end = time.monotonic() + seconds
        while (readers := self.order("readers", sensor=sensor)) != count:
            if time.monotonic() > end:
                raise ServerError(f"the sensor {sensor} has {readers} readers after {seconds:g} s, not {count}")
            time.sleep(_LOOK_SECONDS)

    def _answer(self, seconds: float) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            raise ServerError(f"the server did not answer within {seconds:g} s") from None
        if line is None:
            raise ServerError(f"the server ended with exit code {self.process.wait()}: see its messages above")
        answer: dict[str, Any] = json.loads(line)
        return answer


def _read_lines(pipe: IO[str], lines: queue.Queue[str | None]) -> None:
    with contextlib.suppress(ValueError):  # closed by kill()
        for line in pipe:
            lines.put(line)
    lines.put(None)
