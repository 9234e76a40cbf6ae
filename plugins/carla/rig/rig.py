"""Rigs: which cameras are where on the vehicle."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from plugins.carla.world.poses import Placement
from sim_bridge.errors import UsageError
from sim_bridge.frames import CAMERA_NAME
from sim_bridge.mistakes import first_mistake
from sim_bridge.settings import BridgeSettings, parse_size

MOST_SIDE: Final = 8192
DEFAULT_SIZE: Final = (1280, 720)
DEFAULT_FOV: Final = 90.0
DEFAULT_PLACE: Final = Placement(x=1.5, z=2.4)
"""Above the bonnet of a car, where CARLA's own examples have it."""
DEFAULT_CAMERA: Final = "camera"
BATCH_WAIT: Final = 0.02
"""Seconds that a rig's first camera waits for the others of its tick; CARLA sends them within a few milliseconds."""
_EXAMPLE: Final = "cameras: {front: {x: 1.5, z: 2.4}, left: {x: 1.0, y: -0.5, z: 2.4, yaw: -60}}"

Metres = Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]
OWN_ATTRIBUTES: Final = {
    "image_size_x": "size",
    "image_size_y": "size",
    "fov": "fov",
    "role_name": "the camera's name",
    "sensor_tick": "every",
}
"""Blueprint attributes that are set from elsewhere, and from where."""

Attributes = dict[str, bool | int | float | str]
"""Blueprint attributes by name, as the blueprint has them: ``{"gamma": 2.4, "lens_k": -0.5}``."""
Degrees = Annotated[float, Field(ge=-360, le=360, allow_inf_nan=False)]


class RigCamera(BaseModel):
    """One camera: where it is on the vehicle, and its picture.

    Attributes:
        x: Metres forward of the vehicle's origin; the others as in :class:`~plugins.carla.world.poses.Placement`.
        size: Width and height, pixels.
        fov: Horizontal field of view, degrees.
        attributes: Of the blueprint of the RGB camera; those of the lens go to all, so that pixels agree.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    x: Metres = 0.0
    y: Metres = 0.0
    z: Metres = 0.0
    pitch: Degrees = 0.0
    yaw: Degrees = 0.0
    roll: Degrees = 0.0
    size: tuple[int, int] = DEFAULT_SIZE
    fov: Annotated[float, Field(gt=1, lt=170, allow_inf_nan=False)] = DEFAULT_FOV
    attributes: Attributes = Field(default_factory=dict)

    @field_validator("attributes")
    @classmethod
    def _check_attributes(cls, value: Attributes) -> Attributes:
        for name in value:
            if name in OWN_ATTRIBUTES:
                raise ValueError(f"the attribute {name!r} is set by {OWN_ATTRIBUTES[name]}: leave it out here")
        return value

    @field_validator("size", mode="before")
    @classmethod
    def _read_size(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return parse_size(value)
        except UsageError as error:
            raise ValueError(str(error)) from error

    @field_validator("size")
    @classmethod
    def _check_size(cls, value: tuple[int, int]) -> tuple[int, int]:
        if not all(16 <= side <= MOST_SIDE for side in value):
            raise ValueError(f"a width and a height of 16 to {MOST_SIDE} pixels can be asked of CARLA")
        return value

    @property
    def placement(self) -> Placement:
        """Where it is on the vehicle."""
        return Placement(self.x, self.y, self.z, self.pitch, self.yaw, self.roll)


class Rig(BaseModel):
    """All cameras on a vehicle, by name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cameras: Annotated[dict[str, RigCamera], Field(min_length=1, max_length=32)]

    @field_validator("cameras")
    @classmethod
    def _check_names(cls, value: dict[str, RigCamera]) -> dict[str, RigCamera]:
        for name in value:
            if not CAMERA_NAME.fullmatch(name):
                raise ValueError(f"the camera name {name!r} may hold letters, digits, '_', '-' and '.' only")
        return value

    @property
    def names(self) -> tuple[str, ...]:
        """The cameras' names."""
        return tuple(self.cameras)


def single_camera(
    size: tuple[int, int],
    fov: float,
    place: Placement,
    name: str = DEFAULT_CAMERA,
    attributes: Mapping[str, object] | None = None,
) -> Rig:
    """The rig with one camera. Raises UsageError: size, field of view, place or an attribute cannot be used."""
    camera = {**place._asdict(), "size": size, "fov": fov, "attributes": dict(attributes or {})}
    return _checked({"cameras": {name: camera}}, "the camera's option")


def read_rig(
    path: Path,
    size: tuple[int, int] = DEFAULT_SIZE,
    fov: float = DEFAULT_FOV,
    attributes: Mapping[str, object] | None = None,
) -> Rig:
    """Reads a rig from a YAML file: a map ``cameras`` from names to the fields of :class:`RigCamera`.

    ``size``, ``fov`` and ``attributes`` are for cameras that do not say theirs.

    Raises:
        UsageError: The file cannot be read, is no YAML, or says something that is unknown or out of bounds.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"the rig {path} cannot be read ({error.strerror}): check the path") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"the rig {path} is not YAML ({' '.join(str(error).split())}): see docs/carla.md") from error
    cameras = content.get("cameras") if isinstance(content, dict) else None
    if not isinstance(cameras, dict):
        raise UsageError(f"the rig {path} has no map 'cameras': write it like {_EXAMPLE}")
    filled = {
        str(name): {"size": size, "fov": fov, "attributes": dict(attributes or {}), **(camera or {})}
        if isinstance(camera, dict | None)
        else camera
        for name, camera in cameras.items()
    }
    return _checked({**content, "cameras": filled}, f"the rig {path}:")


def parse_attributes(texts: Sequence[str]) -> Attributes:
    """Reads ``NAME=VALUE`` each. Raises UsageError: one has no ``=``."""
    pairs = [text.partition("=") for text in texts]
    for text, (name, equals, value) in zip(texts, pairs, strict=True):
        if not (name and equals and value):
            raise UsageError(f"--attribute {text!r} is not NAME=VALUE: write it like gamma=2.4")
    return {name: value for name, _, value in pairs}


def parse_transform(text: str) -> Placement:
    """Reads ``x,y,z,pitch,yaw,roll`` or its beginning ``x,y,z``, in CARLA's axes, metres and degrees.

    Raises:
        UsageError: It is neither.
    """
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (3, 6) or not all(math.isfinite(number) for number in numbers):
        raise UsageError(
            f"--transform {text!r} is not x,y,z,pitch,yaw,roll (metres forward, right, up; degrees up, right, "
            "clockwise): write it like 1.5,0,2.4,-5,0,0"
        )
    return Placement(*numbers)


def _checked(content: Mapping[str, Any], where: str) -> Rig:
    try:
        return Rig.model_validate(dict(content))
    except ValidationError as error:
        raise UsageError(f"{where} {first_mistake(error)}") from error


def batched(settings: BridgeSettings) -> BridgeSettings:
    """Has several cameras of a tick go through the network as one batch, unless the settings say how long to wait."""
    if len(settings.topics) == 1 or settings.batch_wait is not None:
        return settings
    return settings.model_copy(update={"batch_wait": BATCH_WAIT})
