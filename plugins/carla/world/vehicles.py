"""The vehicle that the cameras go on, in a server's world: found, made, and removed where a killed process left it."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from plugins.carla.world.server import CarlaError, Server, VehicleLostError

if TYPE_CHECKING:
    import carla

DEFAULT_ROLE: Final = "hero"
FAVOURITE_VEHICLE: Final = "vehicle.tesla.model3"
_LOOK_SECONDS: Final = 0.2

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Target:
    """Which vehicle the cameras go on: a new one (``spawn``), else that of the actor id, else that of the role."""

    role: str = DEFAULT_ROLE
    actor: int | None = None
    spawn: bool = False

    def __str__(self) -> str:
        if self.spawn:
            return "vehicle that was made for the cameras"
        return f"vehicle with the role name {self.role!r}" if self.actor is None else f"actor {self.actor}"


def find_vehicle(
    server: Server, target: Target, go_on: Callable[[], bool], *, for_ever: bool = False
) -> carla.Actor | None:
    """Looks for a vehicle until it is there, for as long as the server's time-out, or for ever.

    A client that has just come into a synchronous world knows no actor before the next tick. None when ``go_on``
    ended the search.

    Raises:
        VehicleLostError: It did not appear in time.
        ServerLostError: The server does not answer.
    """
    deadline = time.monotonic() + server.where.timeout
    while go_on():
        found = _look_for(server, target)
        if found is not None:
            return found
        if time.monotonic() > deadline:
            if not for_ever:
                raise VehicleLostError(_not_found(server, target))
            _log.info("still waiting for the %s in the world of %s", target, server.where)
            deadline = time.monotonic() + server.where.timeout
        time.sleep(_LOOK_SECONDS)
    return None


def _look_for(server: Server, target: Target) -> carla.Actor | None:
    with server.asking("its actors"):
        if target.actor is not None:
            return server.world.get_actor(target.actor)
        actors = [
            actor
            for actor in server.world.get_actors()
            if actor.attributes.get("role_name") == target.role and not actor.type_id.startswith("sensor.")
        ]
    if len(actors) > 1:
        ids = ", ".join(str(actor.id) for actor in actors)
        _log.warning("the role name %r is that of actors %s: the first is taken (--actor ID chooses)", target.role, ids)
    return min(actors, key=lambda actor: actor.id, default=None)


def _not_found(server: Server, target: Target) -> str:
    with server.asking("its actors"):
        vehicles = [actor for actor in server.world.get_actors() if actor.type_id.startswith("vehicle.")]
    roles = ", ".join(f"{actor.id} ({actor.attributes.get('role_name', 'no role')})" for actor in vehicles[:10])
    seen = f"its vehicles are {roles}" if vehicles else "it has no vehicle"
    return (
        f"the world of {server.where} got no {target} within {server.where.timeout:g} s ({seen}): spawn it, name "
        "another by --role-name or --actor, or give --spawn"
    )


def spawn_vehicle(server: Server, role: str, tag: str = "") -> carla.Actor:
    """Makes a vehicle, which does not move, at the first free spawn point.

    Args:
        server: Where.
        role: Its role name; large maps are streamed around the vehicle called ``hero``.
        tag: :func:`sweep` finds it by this.

    Raises:
        CarlaError: The world has no place or no blueprint for one.
    """
    with server.asking("its blueprints"):
        blueprints = server.world.get_blueprint_library().filter("vehicle.*")
    with server.asking("its map"):
        places = server.world.get_map().get_spawn_points()
    names = sorted(blueprint.id for blueprint in blueprints)
    if not names or not places:
        raise CarlaError(
            f"the world of {server.where} has {len(names)} vehicle blueprints and {len(places)} spawn points: spawn a "
            "vehicle yourself and name it by --role-name"
        )
    name = FAVOURITE_VEHICLE if FAVOURITE_VEHICLE in names else names[0]
    blueprint = next(blueprint for blueprint in blueprints if blueprint.id == name)
    for attribute, value in (("role_name", role), ("color", _colour(tag))):
        if value and blueprint.has_attribute(attribute):
            blueprint.set_attribute(attribute, value)
    with server.asking("a vehicle"):
        for place in places:
            vehicle = server.world.try_spawn_actor(blueprint, place)
            if vehicle is not None:
                server.made.add(vehicle.id)
                return vehicle
    raise CarlaError(f"none of the {len(places)} spawn points of {server.where} is free: remove vehicles, or name one")


def _colour(tag: str) -> str:
    """A nearly black colour for each tag (of 32,768); empty for none.

    It marks a car whose process was killed before the car had a sensor: no other attribute of a vehicle is free.
    """
    bits = int.from_bytes(hashlib.sha256(tag.encode()).digest()[:2], "big")
    return ",".join(str(bits >> shift & 31) for shift in (10, 5, 0)) if tag else ""


def sweep(server: Server, tag: str, but: int = 0, role: str | None = None) -> None:
    """Destroys what a killed process left in the world. Raises ServerLostError without an answer.

    Args:
        server: Where.
        tag: Role name of its sensors.
        but: Id of an actor to keep.
        role: Role name of the vehicle that it made, if any.
    """
    with server.asking("its actors"):
        actors = [actor for actor in server.world.get_actors() if actor.id != but]
        left = [actor for actor in actors if actor.attributes.get("role_name") == tag]
        if role is not None:
            left += _vehicles_left(actors, left, role, tag)
    for actor in left:
        _log.warning("%s %d was left behind by the process before: it is destroyed", actor.type_id, actor.id)
        server.destroy(actor)


def _vehicles_left(
    actors: Sequence[carla.Actor], sensors: Sequence[carla.Actor], role: str, tag: str
) -> list[carla.Actor]:
    """The vehicles that carry our sensors, or would have."""
    carriers = {sensor.parent.id for sensor in sensors if sensor.parent is not None}
    ours = {"role_name": role, "color": _colour(tag)}
    return [
        actor
        for actor in actors
        if actor.type_id.startswith("vehicle.")
        and (actor.id in carriers or all(actor.attributes.get(name) == value for name, value in ours.items()))
    ]
