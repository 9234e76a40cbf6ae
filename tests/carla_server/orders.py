"""What a test tells the server beside CARLA's protocol: faults, and questions that no client could ask."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import Field, ValidationError, validate_call

from tests.carla_server.faults import MAX_DELAY
from tests.carla_server.methods import NAMES
from tests.carla_server.rpc import RpcError
from tests.carla_server.rpc_server import ANY_METHOD, MAX_HELD_SECONDS, RpcServer
from tests.carla_server.simulation import Simulation
from tests.carla_server.streams import EPISODE_STREAM
from tests.carla_server.world import Actor, Camera

Count = Annotated[int, Field(ge=0, le=1_000_000)]
Seconds = Annotated[float, Field(ge=0, le=MAX_HELD_SECONDS)]
EPISODE: Final = 0
"""Stands for the episode's stream where an order takes a sensor."""


class OrderError(Exception):
    """An order cannot be carried out."""


class Orders:
    """Carries out orders; each public method is one.

    Args:
        simulation: The simulation.
        server: Its RPC port.
    """

    def __init__(self, simulation: Simulation, server: RpcServer) -> None:
        self._simulation, self._world, self._server = simulation, simulation.world, server

    def carry_out(self, order: str, arguments: dict[str, Any]) -> object:
        """The order's result, of types that JSON has.

        Raises:
            OrderError: There is no such order, an argument is wrong, or it cannot be carried out.
        """
        if order not in ORDERS:
            raise OrderError(f"there is no order {order!r}: use one of {', '.join(sorted(ORDERS))}")
        try:
            return getattr(self, order)(**arguments)
        except ValidationError as error:
            details = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise OrderError(f"the order {order!r} cannot be carried out: {details}") from error
        except RpcError as error:
            raise OrderError(f"the order {order!r} cannot be carried out: {error}") from error

    @validate_call
    def drop(
        self, sensor: int, count: Count = 0, share: Annotated[float, Field(ge=0, le=1)] = 0.0, seed: int = 0
    ) -> None:
        """The sensor's next ``count`` pictures are lost, and then this share of them; without either none."""
        with self._world.lock:
            self._world.camera(sensor).faults.drop(count, share, seed)

    @validate_call
    def dropped(self, sensor: int) -> list[int]:
        """Numbers of the frames that were lost by :meth:`drop`."""
        with self._world.lock:
            return list(self._world.camera(sensor).faults.dropped)

    @validate_call
    def delay(self, sensor: int, ticks: Annotated[int, Field(ge=0, le=MAX_DELAY)]) -> None:
        """The sensor's pictures arrive that many ticks late; 0 ends it."""
        with self._world.lock:
            self._world.camera(sensor).faults.delay = ticks

    @validate_call
    def repeat(self, sensor: int, count: Count = 1) -> None:
        """Each of the sensor's next pictures is sent twice."""
        with self._world.lock:
            self._world.camera(sensor).faults.repeat(count)

    @validate_call
    def swap(self, sensor: int, count: Count = 1) -> None:
        """Each of the sensor's next ``count`` pictures changes places with the one after it."""
        with self._world.lock:
            self._world.camera(sensor).faults.swap(count)

    @validate_call
    def miss_bytes(self, sensor: int, count: Annotated[int, Field(ge=-(1 << 24), le=1 << 28)]) -> None:
        """The sensor's pictures lack so many bytes of pixels, or have so many too many below 0; 0 ends it."""
        with self._world.lock:
            self._world.camera(sensor).faults.missing_bytes = count

    @validate_call
    def close_stream(self, sensor: int, refuse_seconds: Seconds = 0.0) -> None:
        """Cuts a sensor's stream (:data:`EPISODE`: the episode's); readers may come back after that time."""
        self._simulation.streams.close(self._stream(sensor), refuse_seconds)

    @validate_call
    def hold_rpc(self, method: str, seconds: Seconds) -> None:
        """Answers to that method, or to ``*`` all, come so late; 0 ends it and lets those go that wait."""
        if method not in NAMES | {ANY_METHOD}:
            raise OrderError(f"the server has no method {method!r}: give a client's, or {ANY_METHOD!r} for all")
        self._server.hold(method, seconds)

    @validate_call
    def refuse(self, method: str) -> None:
        """Every call of that method fails; an empty name ends it."""
        if method not in NAMES | {""}:
            raise OrderError(f"the server has no method {method!r}: give a client's, or an empty name for none")
        self._server.refused = method

    @validate_call
    def freeze(self, on: bool = True) -> None:
        """Stops the ticks, or lets them go on."""
        self._simulation.freeze(on)

    @validate_call
    def tick(self, count: Annotated[int, Field(ge=1, le=1_000_000)] = 1) -> int:
        """Ticks of a synchronous world, as if another client gave the cue; returns the last frame's number."""
        for _ in range(count):
            self._simulation.cue()
        return self._world.frame

    @validate_call
    def rate(self, hertz: Annotated[float, Field(ge=0.1, le=10_000)]) -> None:
        """Ticks per second of an asynchronous world."""
        self._simulation.pace(hertz)

    @validate_call
    def new_episode(self, town: str = "Town07", reset_settings: bool = True) -> int:
        """Loads a map, as if another client had asked for it; returns the episode's id."""
        self._simulation.new_episode(town, reset_settings=reset_settings)
        return self._world.episode

    @validate_call
    def destroy(self, actor: int) -> None:
        """Takes an actor out of the world, as if another client had done it."""
        self._simulation.destroy(actor)

    @validate_call
    def actors(self) -> list[dict[str, object]]:
        """All actors as the server knows them, whoever spawned them."""
        with self._world.lock:
            return [self._describe(actor) for actor in self._world.actors.values()]

    @validate_call
    def state(self) -> dict[str, object]:
        """What the server is at."""
        with self._world.lock:
            world = self._world
            return {
                "frame": world.frame,
                "seconds": world.seconds,
                "episode": world.episode,
                "town": world.town,
                "synchronous": world.settings.synchronous_mode,
                "delta": world.settings.delta,
                "calls": dict(self._server.calls),
            }

    @validate_call
    def readers(self, sensor: int) -> int:
        """How many read a sensor's stream (:data:`EPISODE`: the episode's)."""
        return len(self._simulation.streams.readers(self._stream(sensor)))

    @validate_call
    def lagging(self, sensor: int) -> int:
        """Messages that were dropped since the stream's present readers came, because they read too slowly."""
        return sum(reader.dropped for reader in self._simulation.streams.readers(self._stream(sensor)))

    def _stream(self, sensor: int) -> int:
        if sensor == EPISODE:
            return EPISODE_STREAM
        with self._world.lock:
            return self._world.camera(sensor).stream

    def _describe(self, actor: Actor) -> dict[str, object]:
        return {
            "id": actor.id,
            "type_id": actor.description.id,
            "parent": actor.parent.id if actor.parent else 0,
            "attributes": {value.id: value.value for value in actor.description.attributes},
            "pose": actor.world_pose,
            "readers": self.readers(actor.id) if isinstance(actor, Camera) else 0,
        }


ORDERS: Final = frozenset(name for name in vars(Orders) if not name.startswith("_") and name != "carry_out")
