"""Talking to a CARLA server: every question has a time-out and says what it waited for.

What the real client (0.9.16) does, and why this module is as it is: a dead server is noticed only by a time-out; after
one the client's questions stay dead for ever, although its streams connect again by themselves, so that a new client
is needed; ``get_world`` and ``sensor.listen`` wait without giving other Python threads a turn.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import re
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sim_bridge.errors import MissingExtraError, SimBridgeError, UsageError

if TYPE_CHECKING:
    import carla

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 2000
DEFAULT_TIMEOUT: Final = 10.0
"""Seconds; loading a map takes a real server longer than any other answer."""
_PROBE_SECONDS: Final = 2.0
_ANSWER_SECONDS: Final = 0.45
"""What takes longer may be a time-out, where the client's own is not known: scripts hardly give less than 0.5 s."""
_NEARLY: Final = 0.95
"""Share of a time-out that is known, after which it was one."""
_TIME_OUT: Final = re.compile(r"time-out of (\d+)ms")
_NOT_FOUND: Final = re.compile(r"not (be )?found")
"""What servers say of an actor that is not there."""

_log = logging.getLogger(__name__)


class CarlaError(SimBridgeError):
    """A CARLA server does not do what is asked of it."""


class ServerLostError(CarlaError):
    """The server did not answer in time, or nobody listens where it was: only a new client helps."""


class NoServerError(ServerLostError):
    """Nobody listens where the server was, so that its world is gone with it."""


class VehicleLostError(CarlaError):
    """The vehicle, its sensors or the whole world are gone; the server is there."""


def require_carla() -> None:
    """Checks, without importing it, that the client package is there (MissingExtraError, or UsageError if not)."""
    spec = importlib.util.find_spec("carla")
    if spec is None:
        raise MissingExtraError("carla", "carla", "talking to a CARLA server")
    if spec.origin is None:  # a folder without code, as PythonAPI/carla
        (folder, *_) = spec.submodule_search_locations or [""]
        raise UsageError(f"the module 'carla' is but the folder {folder}, no client: run pip install '.[carla]'")


def import_carla() -> Any:
    """The client package. Raises MissingExtraError: it is not installed."""
    require_carla()
    return importlib.import_module("carla")


@contextmanager
def asking(what: str, server: str) -> Iterator[None]:
    """Makes sentences of the client's errors: ServerLostError for a time-out, CarlaError for a refusal."""
    try:
        yield
    except RuntimeError as error:
        late = _TIME_OUT.search(str(error))
        if late is None:
            raise CarlaError(f"{server} refused {what}: {error}") from error
        raise ServerLostError(
            f"{server} did not answer within {int(late[1]) / 1000:g} s when it was asked for {what}: see that "
            "it runs and is not loading a map, or give a longer --timeout"
        ) from error


@dataclass(frozen=True, slots=True)
class Where:
    """A server's address."""

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT  # of RPC; the server names the streams' port
    timeout: float = DEFAULT_TIMEOUT  # seconds that an answer may take

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str, timeout: float = DEFAULT_TIMEOUT) -> Where:
        """Reads ``HOST:PORT``, ``HOST`` or ``:PORT``. Raises UsageError: the port is no port."""
        host, _, port = text.partition(":")
        if port and not (port.isdecimal() and 1 <= int(port) <= 65535):
            raise UsageError(f"the CARLA server {text!r} is not HOST:PORT: write it like {DEFAULT_HOST}:{DEFAULT_PORT}")
        return cls(host or DEFAULT_HOST, int(port or DEFAULT_PORT), timeout)


class WorldAccess:
    """A world and what its server says of it.

    Attributes:
        world: The ``carla.World``.
        name: The server's name in messages.
        episode: Changes when a map is loaded or the server is another one.
        lost: An answer did not come in time; then no other will.
        longest: Seconds after which a bad answer counts as a time-out.
        made: Ids of our actors that may still be there.
    """

    def __init__(self, world: carla.World, name: str) -> None:
        self.world, self.name = world, name
        self.lost = False
        self.longest = _ANSWER_SECONDS
        self.made: set[int] = set()
        self.episode = int(world.id)

    @contextmanager
    def asking(self, what: str) -> Iterator[None]:
        """See :func:`asking`, for this server; after a time-out it is lost."""
        try:
            with asking(what, self.name):
                yield
        except ServerLostError:
            self.lost = True
            raise

    def destroy(self, actor: carla.Actor) -> bool:
        """Destroys an actor that may be gone; returns whether it is. Does not raise, and asks no lost server."""
        if self.lost:
            return False
        began = time.monotonic()
        try:
            with self.asking(f"the end of actor {actor.id}"):
                gone = not self.is_same_world() or self._destroy(actor)
        except CarlaError as error:
            _log.warning("%s", error)
            return False
        # destroy() reports its time-out on stderr and returns False; none of the others need wait for theirs.
        self.lost |= not gone and time.monotonic() - began > self.longest
        if gone:
            self.made.discard(actor.id)
        return gone

    def _destroy(self, actor: carla.Actor) -> bool:
        if not self.world.get_snapshot().has_actor(actor.id):
            return self._destroy_unmet(actor)
        return not actor.is_alive or bool(actor.destroy()) or not self.world.get_snapshot().has_actor(actor.id)

    def _destroy_unmet(self, actor: carla.Actor) -> bool:
        """For an actor in no state yet: its ``is_alive`` is unset, so the client's ``destroy`` may do nothing."""
        return bool(actor.destroy())

    def is_same_world(self) -> bool:
        """Whether the newest state that came in is of this world; asks nobody."""
        return int(self.world.get_snapshot().id) == self.episode

    def settings(self) -> carla.WorldSettings:
        """The world's settings. Raises ServerLostError: no answer came in time."""
        with self.asking("its settings"):
            return self.world.get_settings()


class Pace(NamedTuple):
    """Those of a world's settings that we change."""

    synchronous: bool
    delta: float | None  # simulator seconds of a tick; None is as long as it took

    @classmethod
    def of(cls, settings: carla.WorldSettings) -> Pace:
        """The pace in a world's settings."""
        return cls(bool(settings.synchronous_mode), settings.fixed_delta_seconds)


class ChangedPace(NamedTuple):
    """A pace that we changed and have not put back yet."""

    former: Pace
    ours: Pace


class Server(WorldAccess):
    """One client's connection to a server, and the world that it had when the connection was made.

    Raises:
        MissingExtraError: The client package is not installed.
        ServerLostError: Nobody listens there, or no answer came in time.
    """

    def __init__(self, where: Where) -> None:
        package = import_carla()
        self.where = where
        probe(where)
        name = f"the CARLA server at {where}"
        self.client: carla.Client = package.Client(where.host, where.port)
        self.client.set_timeout(where.timeout)
        self.client_version = str(self.client.get_client_version())
        with asking("its version", name):
            self.version = str(self.client.get_server_version())
        with asking("its world", name):
            world = self.client.get_world()
            super().__init__(world, name)
        self.longest = _NEARLY * where.timeout
        self.changed: ChangedPace | None = None
        """What :meth:`restore` puts back."""

    def check(self) -> None:
        """Asks for a sign of life. Raises ServerLostError (none came), VehicleLostError (another world was loaded)."""
        with self.asking("a sign of life"):
            self.client.get_server_version()
        if not self.is_same_world():
            raise VehicleLostError(f"the CARLA server at {self.where} has loaded another world")

    def _destroy_unmet(self, actor: carla.Actor) -> bool:
        if super()._destroy_unmet(actor):
            return True
        return bool(self._destroy_by_id([actor.id]))

    def _destroy_by_id(self, numbers: Sequence[int]) -> set[int]:
        """Returns those of the actors that are gone now; needs no state of the world."""
        destroy = import_carla().command.DestroyActor
        answers = self.client.apply_batch_sync([destroy(number) for number in numbers])
        return {
            number
            for number, answer in zip(numbers, answers, strict=True)
            if not answer.has_error() or _NOT_FOUND.search(answer.error)
        }

    def destroy_made(self) -> None:
        """Destroys all of :attr:`made` in one call, sensors before their carrier; CarlaError without an answer."""
        if not self.made:
            return
        numbers = sorted(self.made, reverse=True)
        with self.asking(f"the end of our actors {', '.join(map(str, numbers))}"):
            self.made -= self._destroy_by_id(numbers)

    def drive(self, seconds: float | None) -> float:
        """Makes the world wait for :meth:`tick`; returns the simulator seconds of a tick. :meth:`restore` undoes it.

        Args:
            seconds: Of a tick; None leaves what is set, or takes 0.05.

        Raises:
            CarlaError: The server does not answer, or refuses.
        """
        before = Pace.of(self.settings())
        step = float(seconds or before.delta or 0.05)
        ours = Pace(synchronous=True, delta=step)
        if before != ours:
            self.changed = ChangedPace(before if self.changed is None else self.changed.former, ours)
            self._set_pace(ours, "synchronous mode")
        elif self.changed is None:  # somebody else did that
            _log.warning("the world of %s is synchronous already: if a script ticks it, leave out --tick", self.where)
        return step

    def _set_pace(self, pace: Pace, what: str) -> None:
        settings = self.settings()  # the others may be set by others, also meanwhile
        settings.synchronous_mode, settings.fixed_delta_seconds = pace
        with self.asking(what):
            self.world.apply_settings(settings)

    def restore(self) -> None:
        """Undoes :meth:`drive` in this world, if it changed anything; raises as that."""
        if not self.lost and self.is_same_world():
            self.put_back()

    def put_back(self) -> None:
        """The same without a check of the world, for a client that has just asked for it; raises as that."""
        if self.changed is None:
            return
        self._set_pace(self.changed.former, "its former settings")
        self.changed = None

    def tick(self) -> int:
        """Makes the world do one step; its frame number. Raises ServerLostError: it did not within the time-out."""
        with self.asking("a tick"):
            return int(self.world.tick(self.where.timeout))


def probe(where: Where) -> None:
    """Raises ServerLostError when nobody listens: the operating system knows at once, the client by time-out only."""
    try:
        socket.create_connection((where.host, where.port), min(_PROBE_SECONDS, where.timeout)).close()
    except OSError as error:
        kind = NoServerError if isinstance(error, ConnectionRefusedError) else ServerLostError
        raise kind(
            f"no CARLA server listens at {where} ({error.strerror or 'no answer'}): start it, or check host and port"
        ) from error
