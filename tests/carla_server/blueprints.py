"""What can be spawned: cameras, vehicles, a prop; attributes as CARLA 0.9.16 has them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple

from tests.carla_server.structures import (
    ArgumentError,
    Attribute,
    AttributeType,
    AttributeValue,
    Definition,
    Description,
)

BOOL, INT, FLOAT, STRING, COLOR = AttributeType

SPECTATOR: Final = "spectator"
VEHICLE_PREFIX: Final = "vehicle."


class CameraKind(StrEnum):
    """The cameras that are served, by their blueprint."""

    DEPTH = "sensor.camera.depth"
    OPTICAL_FLOW = "sensor.camera.optical_flow"
    RGB = "sensor.camera.rgb"
    SEMANTIC = "sensor.camera.semantic_segmentation"
    INSTANCE = "sensor.camera.instance_segmentation"


class Lens(NamedTuple):
    """A camera's attributes: pixels, horizontal field of view in degrees, seconds between its pictures."""

    width: int
    height: int
    fov: float
    sensor_tick: float


SIDE_LIMITS: Final = (8, 8192)
FOV_LIMITS: Final = (1.0, 179.0)


def read_lens(attributes: Mapping[str, str]) -> Lens:
    """A camera's attributes out of its description.

    Raises:
        ArgumentError: One is no number or out of bounds: the client lets anything pass.
    """
    sides = [_bounded(attributes, name, *SIDE_LIMITS) for name in ("image_size_x", "image_size_y")]
    fov = _bounded(attributes, "fov", *FOV_LIMITS)
    return Lens(int(sides[0]), int(sides[1]), fov, _bounded(attributes, "sensor_tick", 0.0, 3600.0))


def complete(description: Description) -> Description:
    """A description with the blueprint's values for the attributes that it lacks.

    Raises:
        ArgumentError: There is no such blueprint.
    """
    definition = _BY_ID.get(description.id)
    if definition is None:
        raise ArgumentError("the blueprint", "one of the library's", description.id)
    given = {value.id for value in description.attributes}
    rest = [AttributeValue(a.id, int(a.type), a.value) for a in definition.attributes if a.id not in given]
    return description._replace(attributes=(*description.attributes, *rest))


def _bounded(attributes: Mapping[str, str], name: str, low: float, high: float) -> float:
    text = attributes.get(name, "")
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise ArgumentError(f"the camera's {name}", f"{low:g} to {high:g}", text)
    return value


_LENS: Final = (
    Attribute("image_size_x", INT, "800"),
    Attribute("image_size_y", INT, "600"),
    Attribute("fov", FLOAT, "90.0"),
    Attribute("sensor_tick", FLOAT, "0.0"),
    Attribute("lens_circle_multiplier", FLOAT, "0.0"),
    Attribute("lens_circle_falloff", FLOAT, "5.0"),
    Attribute("lens_k", FLOAT, "-1.0"),
    Attribute("lens_kcube", FLOAT, "0.0"),
    Attribute("lens_x_size", FLOAT, "0.08"),
    Attribute("lens_y_size", FLOAT, "0.08"),
    Attribute("role_name", STRING, "default"),
)
_FILM: Final = (
    Attribute("enable_postprocess_effects", BOOL, "true"),
    Attribute("gamma", FLOAT, "2.2"),
    Attribute("exposure_mode", STRING, "histogram", ("histogram", "manual")),
    Attribute("exposure_compensation", FLOAT, "-1.0"),
    Attribute("motion_blur_intensity", FLOAT, "0.45"),
    Attribute("shutter_speed", FLOAT, "200.0"),
    Attribute("iso", FLOAT, "100.0"),
    Attribute("fstop", FLOAT, "1.4"),
    Attribute("bloom_intensity", FLOAT, "0.675"),
)
_VEHICLE: Final = (
    Attribute("role_name", STRING, "autopilot", ("autopilot", "scenario", "ego_vehicle")),
    Attribute("color", COLOR, "255,255,255", ("255,255,255", "17,37,103")),
    Attribute("sticky_control", BOOL, "true"),
    Attribute("terramechanics", BOOL, "false"),
    Attribute("object_type", STRING, "", is_modifiable=False),
    Attribute("base_type", STRING, "car", is_modifiable=False),
    Attribute("special_type", STRING, "", is_modifiable=False),
    Attribute("generation", INT, "1", is_modifiable=False),
    Attribute("number_of_wheels", INT, "4", is_modifiable=False),
    Attribute("has_lights", BOOL, "true", is_modifiable=False),
)
_ATTRIBUTES: Final[Mapping[str, tuple[Attribute, ...]]] = {
    **{str(kind): _LENS for kind in CameraKind},
    CameraKind.RGB: _LENS + _FILM,
    **{VEHICLE_PREFIX + name: _VEHICLE for name in ("tesla.model3", "audi.tt", "lincoln.mkz_2020", "mini.cooper_s")},
    "static.prop.streetbarrier": (Attribute("role_name", STRING, "prop"),),
}
DEFINITIONS: Final = tuple(
    Definition(uid, name, name.replace(".", ","), attributes)
    for uid, (name, attributes) in enumerate(_ATTRIBUTES.items(), start=1)
)
"""The blueprint library."""
_BY_ID: Final = {definition.id: definition for definition in DEFINITIONS}
