"""What we made and changed in a world, handed on from one connection to the next until it is undone."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from typing import Final

from plugins.carla.world.server import CarlaError, ChangedPace, NoServerError, Pace, Server, Where
from plugins.carla.world.vehicles import sweep

LAST_SECONDS: Final = 3.0
"""How long the last attempt to clean up may take beyond the time-out of the answer that may be under way; less than
:data:`sim_bridge.process.parent.END_SECONDS`."""
_LEAST_SECONDS: Final = 0.2

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose leftovers to clean up."""

    where: Where
    tag: str  # role name of the sensors
    role: str | None  # that of the vehicle, if one was made


class Leftovers:
    """What we left in a world whose server stopped answering; false when there is nothing.

    A server that hangs for longer than the time-out and then goes on still has all of it.
    """

    def __init__(self) -> None:
        self._episode = 0
        self._actors: frozenset[int] = frozenset()
        self._changed: ChangedPace | None = None

    def __bool__(self) -> bool:
        return bool(self._actors) or self._changed is not None

    def __str__(self) -> str:
        actors = ", ".join(map(str, sorted(self._actors)))
        left = [f"the actors {actors}"] if actors else []
        return " and ".join([*left, "its synchronous mode"] if self._changed is not None else left)

    def keep(self, server: Server) -> None:
        """Takes over what a connection that ends could not undo."""
        if server.made or server.changed is not None:
            self._episode, self._actors, self._changed = server.episode, frozenset(server.made), server.changed
            server.made, server.changed = set(), None

    def hand_over(self, server: Server) -> None:
        """Gives a new connection what it has to undo.

        A map that was loaded meanwhile has none of our actors, but may have been told to keep our settings.

        Raises:
            ServerLostError: The server does not answer; nothing is handed over then.
        """
        if not self:
            return
        same = server.episode == self._episode
        if self._changed is not None and (same or Pace.of(server.settings()) == self._changed.ours):
            server.changed = self._changed
        if same:
            server.made |= self._actors
        self._forget()

    def clean(self, owner: Owner, until: float) -> None:
        """Tries once more, by a new client until that monotonic time; a warning says what is left. Does not raise."""
        reason = "the server refused"
        try:
            if self:
                self._clean(owner, until)
        except NoServerError:
            self._forget()  # gone with its server
        except CarlaError as error:
            reason = str(error)
        if self:
            _log.warning(
                "%s stay in the world of %s, as the last attempt to clean up failed (%s): destroy such actors by id "
                "and set synchronous_mode to False, or load the map again",
                *(str(self), owner.where, reason),
            )
            self._forget()

    def _forget(self) -> None:
        self._episode, self._actors, self._changed = 0, frozenset(), None

    def _clean(self, owner: Owner, until: float) -> None:
        server = Server(replace(owner.where, timeout=_seconds_left(until)))
        try:
            self.hand_over(server)
            server.client.set_timeout(_seconds_left(until))
            server.destroy_made()
            server.client.set_timeout(_seconds_left(until))
            server.put_back()
            server.client.set_timeout(_seconds_left(until))
            sweep(server, owner.tag, role=owner.role)  # what was asked for, but whose id never came
        finally:
            self.keep(server)


def _seconds_left(until: float) -> float:
    return max(_LEAST_SECONDS, until - time.monotonic())
