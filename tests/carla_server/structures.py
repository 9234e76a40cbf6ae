"""The structures in RPC calls: named fields in the order of the wire. A NamedTuple packs itself as an array.

What comes from a client is checked here: whatever it sent, it gets an error and the server goes on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import IntEnum
from typing import Any, Final, NamedTuple, Self, TypeVar

from tests.carla_server.rpc import RpcError

LARGEST: Final = 1e9
"""Nothing is farther away or faster than this, metres and seconds: sums of such numbers still fit a 32-bit float."""
T = TypeVar("T")


class ArgumentError(RpcError):
    """An argument has another type or form than the method wants."""

    def __init__(self, name: str, expected: str, found: object) -> None:
        super().__init__(f"{name} must be {expected}, not {str(found)[:80]!r}")


class Vector(NamedTuple):
    """A place in metres, or a velocity in metres per second."""

    x: float = 0.0
    y: float = 0.0
    z: float = 0.0


class Rotation(NamedTuple):
    """Degrees."""

    pitch: float = 0.0
    yaw: float = 0.0
    roll: float = 0.0


class Transform(NamedTuple):
    """A pose."""

    location: Vector = Vector()
    rotation: Rotation = Rotation()

    @classmethod
    def decode(cls, raw: object, name: str = "transform") -> Self:
        """Raises ArgumentError where it is none."""
        location, rotation = sequence(raw, name, 2)
        return cls(decode_vector(location, f"{name}.location"), Rotation(*numbers(rotation, f"{name}.rotation", 3)))


class BoundingBox(NamedTuple):
    """A box around an actor; ``extent`` is half of its size."""

    location: Vector
    extent: Vector
    rotation: Rotation = Rotation()


class AttributeType(IntEnum):
    """The type of a blueprint's attribute. Not from 0, as the client's own type hints say: 0 is invalid."""

    BOOL = 1
    INT = 2
    FLOAT = 3
    STRING = 4
    COLOR = 5


class Attribute(NamedTuple):
    """An attribute of a blueprint."""

    id: str
    type: AttributeType
    value: str
    recommended: tuple[str, ...] = ()
    is_modifiable: bool = True
    restrict_to_recommended: bool = False


class Definition(NamedTuple):
    """A blueprint; ``tags`` are separated by commas."""

    uid: int
    id: str
    tags: str
    attributes: tuple[Attribute, ...]


class AttributeValue(NamedTuple):
    """An attribute of an actor; values are always strings."""

    id: str
    type: int
    value: str


class Description(NamedTuple):
    """What an actor is made of."""

    uid: int
    id: str
    attributes: tuple[AttributeValue, ...]

    @classmethod
    def decode(cls, raw: object) -> Self:
        """Raises ArgumentError where it is none."""
        uid, name, attributes = sequence(raw, "description", 3)
        if not isinstance(attributes, list):
            raise ArgumentError("description.attributes", "an array", attributes)
        values = [_attribute_value(item) for item in attributes]
        return cls(integer(uid, "description.uid"), text(name, "description.id"), tuple(values))


class ActorRecord(NamedTuple):
    """An actor as the client is told of it. A ``stream_token`` of exactly 24 bytes makes it a sensor."""

    id: int
    parent_id: int
    description: Description
    bounding_box: BoundingBox
    semantic_tags: bytes
    stream_token: bytes


class MapInfo(NamedTuple):
    """The map's name and where vehicles may be put."""

    name: str
    spawn_points: tuple[Transform, ...]


class Settings(NamedTuple):
    """The episode's settings. ``fixed_delta_seconds`` is an optional: ``[false]`` or ``[true, seconds]``."""

    synchronous_mode: bool = False
    no_rendering_mode: bool = False
    fixed_delta_seconds: tuple[bool] | tuple[bool, float] = (False,)
    substepping: bool = True
    max_substep_delta_time: float = 0.01
    max_substeps: int = 10
    max_culling_distance: float = 0.0
    deterministic_ragdolls: bool = True
    tile_stream_distance: float = 3000.0
    actor_active_distance: float = 2000.0
    spectator_as_ego: bool = True

    @property
    def delta(self) -> float | None:
        """Seconds from tick to tick; None where they vary."""
        fixed = self.fixed_delta_seconds
        return fixed[1] if len(fixed) == 2 else None

    @classmethod
    def decode(cls, raw: object) -> Self:
        """Raises ArgumentError where it is none."""
        items = sequence(raw, "settings", len(cls._fields))
        named = dict(zip(cls._fields, items, strict=True))
        seconds = optional(named.pop("fixed_delta_seconds"), "fixed_delta_seconds", number)
        if seconds is not None and seconds <= 0:
            raise ArgumentError("fixed_delta_seconds", "above 0", seconds)
        for name, item in named.items():
            read: Callable[[object, str], Any] = _SETTINGS_READERS[type(cls._field_defaults[name])]
            named[name] = read(item, name)
        return cls(**named, fixed_delta_seconds=(False,) if seconds is None else (True, seconds))


class VehicleControl(NamedTuple):
    """What the driver does: throttle and brake 0 to 1, steer -1 (left) to 1."""

    throttle: float = 0.0
    steer: float = 0.0
    brake: float = 0.0
    hand_brake: bool = False
    reverse: bool = False
    manual_gear_shift: bool = False
    gear: int = 0

    @classmethod
    def decode(cls, raw: object) -> Self:
        """Raises ArgumentError where it is none."""
        rest = sequence(raw, "control", 7)[3:]
        pedals = numbers(raw, "control", 3)
        hand_brake, reverse, manual = (boolean(item, "control") for item in rest[:3])
        gear = integer(rest[3], "control.gear")
        if not -128 <= gear <= 127:
            raise ArgumentError("control.gear", "a gear", gear)
        throttle, steer, brake = (max(-1.0, min(1.0, pedal)) for pedal in pedals)
        return cls(throttle, steer, brake, hand_brake, reverse, manual, gear)


def number(raw: object, name: str) -> float:
    """A finite number of no more than :data:`LARGEST`."""
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not abs(raw) <= LARGEST or not math.isfinite(raw):
        raise ArgumentError(name, f"a number of at most {LARGEST:g}", raw)
    return float(raw)


def integer(raw: object, name: str) -> int:
    """An integer."""
    if isinstance(raw, bool) or not isinstance(raw, int):
        raise ArgumentError(name, "an integer", raw)
    return raw


def boolean(raw: object, name: str) -> bool:
    """True or false."""
    if not isinstance(raw, bool):
        raise ArgumentError(name, "true or false", raw)
    return raw


def text(raw: object, name: str) -> str:
    """A string."""
    if not isinstance(raw, str):
        raise ArgumentError(name, "a string", raw)
    return raw


def sequence(raw: object, name: str, length: int) -> list[Any]:
    """An array of at least that many elements; further ones are left out, as in CARLA itself."""
    if not isinstance(raw, list) or len(raw) < length:
        raise ArgumentError(name, f"an array of {length}", raw)
    return raw[:length]


def numbers(raw: object, name: str, length: int) -> list[float]:
    """An array of numbers."""
    return [number(item, name) for item in sequence(raw, name, length)]


def decode_vector(raw: object, name: str) -> Vector:
    """A place or a velocity."""
    return Vector(*numbers(raw, name, 3))


def optional(raw: object, name: str, read: Callable[[object, str], T]) -> T | None:
    """``[false]`` or ``[true, value]``."""
    if not isinstance(raw, list) or not raw or not isinstance(raw[0], bool):
        raise ArgumentError(name, "an optional", raw)
    return read(sequence(raw, name, 2)[1], name) if raw[0] else None


def _attribute_value(raw: object) -> AttributeValue:
    name, kind, content = sequence(raw, "attribute", 3)
    return AttributeValue(text(name, "attribute.id"), integer(kind, "attribute.type"), text(content, "attribute.value"))


_SETTINGS_READERS: Final[dict[type, Callable[[object, str], Any]]] = {bool: boolean, int: integer, float: number}
