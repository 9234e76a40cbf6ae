"""What the doctor looks at on a running CARLA server; :mod:`plugins.carla.run.doctor` starts it as a process.

A pair of small cameras is put into the world for the time of the check; nothing is ticked and no setting is changed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Final

from plugins.carla.rig.rig import single_camera
from plugins.carla.rig.sensors import SensorSet
from plugins.carla.world.images import BLUEPRINTS, bgra
from plugins.carla.world.poses import Placement
from plugins.carla.world.server import Server, Where
from plugins.carla.world.tags import taxonomy_for
from plugins.carla.world.vehicles import sweep
from plugins.carla.world.versions import MISFIT_ADVICE, Versions, ask_versions
from sim_bridge.errors import ImageError, SimBridgeError, UsageError
from sim_bridge.frames import Kind
from sim_bridge.process.child import ignore_interrupts, say
from sim_bridge.tools.doctor import Check

PAIR_SECONDS: Final = 5.0
"""How long the first pair is waited for."""
_SIZE: Final = (256, 128)
_TAG: Final = "sim-bridge-doctor"
_SET: Final = ("image_size_x", "image_size_y", "fov", "sensor_tick")
"""Attributes of cameras that we set."""
_LOOK: Final = (
    "enable_postprocess_effects",
    "exposure_mode",
    "exposure_compensation",
    "shutter_speed",
    "iso",
    "fstop",
    "gamma",
    "motion_blur_intensity",
    "bloom_intensity",
    "lens_circle_multiplier",
    "lens_k",
    "lens_kcube",
)
"""Attributes that we leave as they are and that change what the network gets to see."""
_MISSING: Final = "the server is of a version that this client does not fit"
_INTERRUPTED: Final = 130


def look(where: Where) -> Iterator[Versions | Check]:
    """Makes the checks; the first one that fails because the server is not there is the last.

    Yields:
        The versions as soon as they are known, and the checks: what comes after may end the process.
    """
    try:
        versions = ask_versions(where)
        yield versions
        yield _versions(versions, where)
        server = Server(where)
        yield _world(server)
        yield _settings(server)
        yield _labels(server)
        yield from _sensors(server)
        yield _first_pair(server)
    except SimBridgeError as error:
        yield Check("carla", False, str(error))


def _versions(versions: Versions, where: Where) -> Check:
    return Check("carla version", versions.fit, f"{versions} at {where}", "" if versions.fit else MISFIT_ADVICE)


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
    with server.asking("its blueprints"):
        library = {blueprint.id: blueprint for blueprint in server.world.get_blueprint_library()}
    for kind, name in BLUEPRINTS.items():
        needed = kind in (Kind.RGB, Kind.SEMANTIC)
        blueprint = library.get(name)
        if blueprint is None:
            yield Check(f"carla {kind}", not needed, f"the server has no {name}", _MISSING if needed else "")
            continue
        values = {attribute.id: _value(attribute) for attribute in blueprint}
        missing = [attribute for attribute in _SET if attribute not in values]
        shown = ", ".join(f"{name} {values[name]}" for name in (*_SET, *_LOOK) if name in values)
        lack = f"; no {', '.join(missing)}" if missing else ""
        yield Check(
            f"carla {kind}", not missing, f"{name}, as the server has it: {shown}{lack}", _MISSING if missing else ""
        )


def _value(attribute: Any) -> object:
    """The value that the server gives an attribute where nobody sets another one."""
    match str(attribute.type):
        case "Bool":
            return "on" if attribute.as_bool() else "off"
        case "Int":
            return attribute.as_int()
        case "Float":
            return f"{attribute.as_float():g}"
        case "String":
            return attribute.as_str()
        case _:
            return attribute


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


def _end_with_stdin() -> None:
    """Lets the main thread clean up and end when the doctor ends, or its user loses patience."""
    for _ in sys.stdin:
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Tells of the server by lines of JSON; ends without the interpreter's own end, at which the client may abort."""
    ignore_interrupts()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    threading.Thread(target=_end_with_stdin, name="end", daemon=True).start()
    code = 0
    try:
        for found in look(Where.parse(json.loads(sys.argv[1])["server"])):
            say(json.dumps({"versions": found} if isinstance(found, Versions) else {"check": asdict(found)}))
    except KeyboardInterrupt:
        code = _INTERRUPTED
    sys.stderr.flush()
    os._exit(code)
