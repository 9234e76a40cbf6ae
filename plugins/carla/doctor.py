"""``sim-bridge doctor --carla HOST:PORT``: what a running server is, and whether its cameras send pairs. Read-only.

A pair of small cameras is put into the world for the time of the check; nothing is ticked and no setting is changed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from plugins.carla.images import BLUEPRINTS, bgra
from plugins.carla.poses import Placement
from plugins.carla.rig import single_camera
from plugins.carla.sensors import SensorSet, camera_blueprint
from plugins.carla.server import CarlaError, Server, Where, sweep
from plugins.carla.tags import taxonomy_for
from sim_bridge.doctor import Check, Examination
from sim_bridge.errors import ImageError, SimBridgeError, UsageError
from sim_bridge.frames import Kind

PAIR_SECONDS: Final = 5.0
"""How long the first pair is waited for."""
_SIZE: Final = (256, 128)
_TAG: Final = "sim-bridge-doctor"
_SHOWN: Final = ("image_size_x", "image_size_y", "fov", "sensor_tick")


def examine(text: str) -> Iterator[Check]:
    """Looks at the server at ``HOST:PORT``; the first check that fails because it is not there is the last.

    Raises:
        UsageError: The text is no address.
    """
    where = Where.parse(text)
    try:
        server = Server(where)
        yield _versions(server)
        yield _world(server)
        yield _settings(server)
        yield _labels(server)
        yield from _sensors(server)
        yield _first_pair(server)
    except SimBridgeError as error:
        yield Check("carla", False, str(error))


def _versions(server: Server) -> Check:
    detail = f"client {server.client_version}, server {server.version} at {server.where}"
    advice = f"install the client of the server's version: pip install carla=={server.version}"
    same = server.client_version == server.version
    return Check("carla version", same, detail, "" if same else advice)


def _world(server: Server) -> Check:
    with server.asking("its map"):
        name = server.world.get_map().name
    with server.asking("its actors"):
        actors = list(server.world.get_actors())
    vehicles = [actor for actor in actors if actor.type_id.startswith("vehicle.")]
    roles = ", ".join(f"{actor.id} {actor.attributes.get('role_name', '')}".strip() for actor in vehicles[:5])
    snapshot = server.world.get_snapshot()
    seen = f"{len(actors)} actors, {len(vehicles)} vehicles" + (f" ({roles})" if roles else "")
    return Check("carla world", True, f"map {name}, episode {server.episode}, frame {snapshot.frame}, {seen}")


def _settings(server: Server) -> Check:
    settings = server.settings()
    pace = "synchronous" if settings.synchronous_mode else "asynchronous"
    delta = settings.fixed_delta_seconds
    detail = f"{pace}, {f'{delta:g} s a tick' if delta else 'variable time step'}"
    if settings.no_rendering_mode:
        advice = "cameras send nothing: set no_rendering_mode to False"
        return Check("carla settings", False, f"{detail}, no rendering", advice)
    if settings.synchronous_mode and not delta:
        advice = "set fixed_delta_seconds: without it ticks have the length of the wait between them"
        return Check("carla settings", False, detail, advice)
    return Check("carla settings", True, f"{detail}, rendering")


def _labels(server: Server) -> Check:
    try:
        name = taxonomy_for(server.version)
    except UsageError as error:
        return Check("carla labels", False, str(error))
    return Check("carla labels", True, f"class ids of {name}, by the server's version {server.version}")


def _sensors(server: Server) -> Iterator[Check]:
    for kind, name in BLUEPRINTS.items():
        try:
            blueprint = camera_blueprint(server, kind, _SIZE, 90.0, _TAG)
        except CarlaError as error:
            needed = kind in (Kind.RGB, Kind.SEMANTIC)
            yield Check(f"carla {kind}", not needed, str(error))
            continue
        missing = [attribute for attribute in _SHOWN if not blueprint.has_attribute(attribute)]
        detail = f"{name}, {len(list(blueprint))} attributes"
        advice = "the server is of a version that this client does not fit"
        lack = f" but no {', '.join(missing)}" if missing else ""
        yield Check(f"carla {kind}", not missing, detail + lack, advice if missing else "")


def _first_pair(server: Server) -> Check:
    sweep(server, _TAG)
    vehicles = server.world.get_actors().filter("vehicle.*")
    vehicle = vehicles[0] if len(vehicles) else None
    rig = single_camera(_SIZE, 90.0, Placement(x=1.5, z=2.4), "doctor")
    sensors = SensorSet(server, vehicle, rig, (Kind.RGB, Kind.SEMANTIC), _TAG)
    try:
        return _wait_for_pair(server, sensors)
    finally:
        sensors.destroy()


def _wait_for_pair(server: Server, sensors: SensorSet) -> Check:
    seen: dict[int, set[Kind]] = {}
    began = time.monotonic()
    while (left := began + PAIR_SECONDS - time.monotonic()) > 0:
        arrival = sensors.queue.get(left)
        if arrival is None:
            break
        try:
            bgra(arrival.image)
        except ImageError as error:
            return Check("carla pair", False, str(error))
        seen.setdefault(arrival.number, set()).add(arrival.kind)
        if len(seen[arrival.number]) == len(sensors.keys):
            took = time.monotonic() - began
            return Check("carla pair", True, f"RGB and semantic image of frame {arrival.number} after {took:.2f} s")
    if server.settings().synchronous_mode:
        advice = "run the script that ticks it meanwhile, or use sim-bridge carla --tick"
        return Check("carla pair", False, f"none within {PAIR_SECONDS:g} s: the world waits for a tick", advice)
    kinds = ", ".join(sorted({kind for kinds in seen.values() for kind in kinds})) or "no image at all"
    advice = "see that the port after the server's (streams) can be reached, and its log"
    return Check("carla pair", False, f"none within {PAIR_SECONDS:g} s, but {kinds}", advice)


examination = Examination(metavar="HOST:PORT", examine=examine)
"""The entry point of the group ``sim_bridge.doctor``."""
