"""Cameras: intrinsics, where they are mounted, poses."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from plugins.toytown.town.route import Stand
from plugins.toytown.town.surfaces import FloatArray
from sim_bridge.errors import UsageError
from sim_bridge.frames import CAMERA_NAME

Pose = npt.NDArray[np.float64]
"""``(4, 4)`` camera to world, OpenCV camera axes (x right, y down, z forward), right-handed z-up world, metres."""

DEFAULT_FOV: Final = 80.0
_MOUNT = re.compile(r"(?P<name>[^=@]+)(?P<frame>[=@])(?P<numbers>[^=@]+)")


@dataclass(frozen=True, slots=True)
class Mount:
    """Where a camera is fixed.

    Attributes:
        name: The camera's name.
        x: Metres forward of the ego vehicle's middle, or along the world's x axis.
        y: Metres to its left, or along the world's y axis.
        z: Metres above the road.
        yaw: Degrees to the left, from the vehicle's heading or from the world's x axis.
        pitch: Degrees upwards.
        fov: Horizontal field of view, degrees.
        in_world: Whether it is fixed in the world instead of on the vehicle.
    """

    name: str
    x: float = 1.2
    y: float = 0.0
    z: float = 1.55
    yaw: float = 0.0
    pitch: float = -1.15
    fov: float = DEFAULT_FOV
    in_world: bool = False

    def pose(self, vehicle: Stand) -> Pose:
        """Camera to world while the ego vehicle is there."""
        at = Stand(0.0, 0.0, 0.0) if self.in_world else vehicle
        c, s = np.cos(at.yaw), np.sin(at.yaw)
        position = (at.x + self.x * c - self.y * s, at.y + self.x * s + self.y * c, self.z)
        return look(position, at.yaw + np.radians(self.yaw), float(np.radians(self.pitch)))


MOUNTS: Final = {
    mount.name: mount
    for mount in (
        Mount("camera"),
        Mount("front"),
        Mount("left", yaw=60.0),
        Mount("right", yaw=-60.0),
        Mount("rear", x=-1.2, yaw=180.0),
    )
}
"""Cameras that are known by name."""


def look(position: tuple[float, float, float], yaw: float, pitch: float) -> Pose:
    """Camera to world at a position, looking along yaw (from the x axis, to the left) and pitch (up), radians."""
    forward = np.array([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)])
    right = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], 1)
    pose[:3, 3] = position
    return pose


def parse_mount(text: str) -> Mount:
    """Reads ``NAME``, ``NAME=X,Y,Z,YAW,PITCH[,FOV]`` (on the vehicle) or ``NAME@X,...`` (fixed in the world).

    Raises:
        UsageError: It is none of these.
    """
    if text in MOUNTS:
        return MOUNTS[text]
    match = _MOUNT.fullmatch(text)
    try:
        numbers = [float(part) for part in match["numbers"].split(",")] if match else []
    except ValueError:
        numbers = []
    right = match is not None and CAMERA_NAME.fullmatch(match["name"]) and len(numbers) in (5, 6)
    if match is None or not right or not np.isfinite(numbers).all() or not 10 <= [*numbers, DEFAULT_FOV][5] <= 150:
        raise UsageError(
            f"the camera {text!r} is not known: use {', '.join(MOUNTS)}, or place one of your own by "
            "NAME=X,Y,Z,YAW,PITCH[,FOV] on the vehicle or NAME@X,Y,Z,YAW,PITCH[,FOV] in the world (metres, degrees, "
            "field of view 10 to 150)"
        )
    x, y, z, yaw, pitch, fov = [*numbers, DEFAULT_FOV][:6]
    return Mount(match["name"], x, y, z, yaw, pitch, fov, in_world=match["frame"] == "@")


@dataclass(frozen=True, slots=True, eq=False)
class Lens:
    """A pinhole with square pixels. Pixel (0, 0) covers image coordinates 0 to 1; its middle is (0.5, 0.5).

    ``rays``: float32 ``(H, W, 3)``, directions through the pixels' middles in camera axes with z = 1, so that distances
    along them are planar depths.
    """

    width: int
    height: int
    fov: float  # horizontal, degrees
    focal: float = field(init=False)  # pixels
    rays: FloatArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "focal", self.width / 2 / float(np.tan(np.radians(self.fov) / 2)))
        u, v = np.meshgrid(np.arange(self.width) + 0.5, np.arange(self.height) + 0.5)
        rays = [(u - self.width / 2) / self.focal, (v - self.height / 2) / self.focal, np.ones_like(u)]
        object.__setattr__(self, "rays", np.stack(rays, -1).astype(np.float32))

    @property
    def K(self) -> npt.NDArray[np.float64]:  # noqa: N802 - the field's name
        """``(3, 3)``: camera axes to image coordinates."""
        return np.array([[self.focal, 0, self.width / 2], [0, self.focal, self.height / 2], [0, 0, 1]])

    def shifted(self, dx: float, dy: float) -> FloatArray:
        """The rays through points that far from the pixels' middles, in pixels."""
        return self.rays + np.array([dx / self.focal, dy / self.focal, 0], np.float32)
