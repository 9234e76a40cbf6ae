"""The methods that clients call, by name. Arguments come as msgpack had them and are checked where they are used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from tests.carla_server import rpc
from tests.carla_server.blueprints import DEFINITIONS
from tests.carla_server.road import MAP_FOLDER, opendrive, spawn_points
from tests.carla_server.rpc import Request, RpcError, Wrapped
from tests.carla_server.simulation import Simulation
from tests.carla_server.sockets import LOOPBACK
from tests.carla_server.streams import EPISODE_STREAM
from tests.carla_server.structures import (
    ArgumentError,
    BoundingBox,
    Description,
    MapInfo,
    Settings,
    Transform,
    VehicleControl,
    boolean,
    decode_vector,
    integer,
    numbers,
    optional,
    sequence,
    text,
)

MAPS: Final = ("Town01", "Town07", "Town10HD")
_WEATHER_FIELDS: Final = 14
_SPAWN_COMMAND: Final = 0

Method = Callable[..., object]


class Methods:
    """Answers calls.

    Args:
        simulation: What they are about.
        version: What the server says it is.

    Attributes:
        port: Where they are called: the traffic manager is here, too.
    """

    def __init__(self, simulation: Simulation, version: str) -> None:
        self._simulation, self._world = simulation, simulation.world
        self._version = version
        self.port = 0
        self._commands: Mapping[int, Method] = {
            1: self.destroy_actor,
            2: self.apply_control_to_vehicle,
            6: self.set_actor_transform,
            8: self.set_actor_target_velocity,
            16: self.set_actor_autopilot,
        }

    def call(self, request: Request) -> Wrapped:
        """The wrapped result of a call, or its error."""
        method = getattr(self, request.method, None) if request.method in NAMES else None
        failed = rpc.failure_of_nothing if request.method in RETURN_NOTHING else rpc.failure
        if method is None:
            return failed(f"the stand-in has no method {request.method!r}")
        try:
            result = method(*request.arguments)
        except RpcError as error:
            return failed(str(error))
        except TypeError as error:  # another number of arguments
            return failed(f"{request.method} was called with {len(request.arguments)} arguments: {error}")
        if request.method in RETURN_NOTHING:
            return rpc.nothing()
        return list(result) if request.method == "apply_batch" else rpc.value(result)

    def version(self) -> str:
        return self._version

    def get_episode_info(self) -> object:
        return [self._world.episode, [self._simulation.token(EPISODE_STREAM)]]

    def get_sensor_token(self, stream: object) -> object:
        return [self._simulation.token(integer(stream, "the stream's id"))]

    def get_episode_settings(self) -> Settings:
        return self._world.settings

    def set_episode_settings(self, settings: object) -> int:
        return self._simulation.apply(Settings.decode(settings))

    def tick_cue(self) -> int:
        return self._simulation.cue()

    def get_required_files(self, _folder: object) -> list[str]:
        return []

    def query_lights_state(self, _client: object) -> list[object]:
        return []

    def get_map_info(self) -> MapInfo:
        return MapInfo(MAP_FOLDER + self._world.town, spawn_points())

    def get_map_data(self) -> str:
        return opendrive(self._world.town)

    def get_available_maps(self) -> list[str]:
        return [f"/Game/{MAP_FOLDER}{name}" for name in dict.fromkeys((*MAPS, self._world.town))]

    def load_new_episode(self, town: object, reset_settings: object, _layers: object) -> None:
        name = text(town, "the map").split("/")[-1]
        if name not in MAPS and name != self._world.town:
            raise RpcError(f"map not found: {name}")
        self._simulation.new_episode(name, reset_settings=boolean(reset_settings, "reset_settings"))

    def get_weather_parameters(self) -> tuple[float, ...]:
        return self._world.weather

    def set_weather_parameters(self, weather: object) -> None:
        self._world.weather = tuple(numbers(weather, "weather", _WEATHER_FIELDS))

    def get_actor_definitions(self) -> object:
        return DEFINITIONS

    def get_spectator(self) -> object:
        with self._world.lock:
            return self._simulation.record(self._world.spectator)

    def get_actors_by_id(self, ids: object) -> object:
        if not isinstance(ids, list):
            raise ArgumentError("the actors' ids", "an array", ids)
        with self._world.lock:
            actors = self._world.actors
            wanted = (integer(number, "an actor's id") for number in ids)
            return [self._simulation.record(actors[number]) for number in wanted if number in actors]

    def get_actor_bounding_box(self, actor: object) -> BoundingBox:
        with self._world.lock:
            return self._world.actor(_id(actor)).box

    def spawn_actor(self, description: object, place: object) -> object:
        return self._simulation.spawn(Description.decode(description), Transform.decode(place))

    def spawn_actor_with_parent(
        self, description: object, place: object, parent: object, _attachment: object, _bone: object = ""
    ) -> object:
        return self._simulation.spawn(Description.decode(description), Transform.decode(place), _id(parent))

    def destroy_actor(self, actor: object) -> bool:
        self._simulation.destroy(_id(actor))
        return True

    def set_actor_transform(self, actor: object, place: object) -> None:
        with self._world.lock:
            self._world.actor(_id(actor)).place = Transform.decode(place)

    def set_actor_target_velocity(self, actor: object, velocity: object) -> None:
        with self._world.lock:
            self._world.actor(_id(actor)).velocity = decode_vector(velocity, "velocity")

    def apply_control_to_vehicle(self, actor: object, control: object) -> None:
        with self._world.lock:
            self._world.vehicle(_id(actor)).drive(VehicleControl.decode(control))

    def set_actor_autopilot(self, actor: object, on: object, *_port: object) -> None:
        with self._world.lock:
            self._world.vehicle(_id(actor)).cruise(boolean(on, "autopilot"))

    def is_traffic_manager_running(self, _port: object) -> bool:
        return True  # else the client starts one of its own, which asks for physics and more

    def get_traffic_manager_running(self, _port: object) -> object:
        return [LOOPBACK, self.port]

    def register_vehicle(self, vehicles: object) -> None:
        self._cruise(vehicles, on=True)

    def unregister_vehicle(self, vehicles: object) -> None:
        self._cruise(vehicles, on=False)

    def set_synchronous_mode(self, on: object) -> None:
        boolean(on, "the traffic manager's mode")  # ticks move its vehicles in either mode

    def apply_batch(self, commands: object, tick: object) -> list[Wrapped]:
        if not isinstance(commands, list):
            raise ArgumentError("the batch", "an array of commands", commands)
        results = [self._run(command) for command in commands]
        if boolean(tick, "tick"):
            self.tick_cue()
        return results

    def _cruise(self, vehicles: object, *, on: bool) -> None:
        """The traffic manager's client sends whole actors."""
        if not isinstance(vehicles, list):
            raise ArgumentError("the vehicles", "an array of actors", vehicles)
        for vehicle in vehicles:
            self.set_actor_autopilot(sequence(vehicle, "a vehicle", 1)[0], on)

    def _run(self, command: object, spawned: int = 0) -> Wrapped:
        """One command of a batch; ``spawned`` is the actor that commands after a spawn mean."""
        try:
            kind, fields = sequence(sequence(command, "a command", 1)[0], "a command", 2)
            if kind == _SPAWN_COMMAND:
                return self._spawn_by(fields)
            method = self._commands.get(integer(kind, "the command's kind"))
            if method is None:
                raise RpcError(f"the stand-in has no command of kind {kind}")
            actor, *arguments = sequence(fields, "the command's fields", 1)[:1] + fields[1:]
            number = spawned or _id(actor)
            method(number, *arguments)
        except (RpcError, TypeError) as error:
            return [[0, [str(error)]]]
        return [[1, number]]

    def _spawn_by(self, fields: object) -> Wrapped:
        description, place, parent, _attachment, _bone, after = sequence(fields, "a spawn command", 6)
        number = self._simulation.spawn(
            Description.decode(description), Transform.decode(place), optional(parent, "parent", integer) or 0
        ).id
        for command in after:
            self._run(command, number)
        return [[1, number]]


def _id(actor: object) -> int:
    return integer(actor, "the actor's id")


NAMES: Final = frozenset(name for name in vars(Methods) if not name.startswith("_") and name != "call")
RETURN_NOTHING: Final = frozenset(
    {
        "load_new_episode",
        "set_weather_parameters",
        "set_actor_transform",
        "set_actor_target_velocity",
        "apply_control_to_vehicle",
        "set_actor_autopilot",
        "register_vehicle",
        "unregister_vehicle",
        "set_synchronous_mode",
    }
)
