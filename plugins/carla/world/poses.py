"""CARLA's left-handed transforms and the wire's right-handed poses.

CARLA's world and actor axes: x forward, y right, z up; metres and degrees. Yaw turns from x towards y (clockwise seen
from above), pitch lifts x towards z, and roll turns z towards y. A camera looks along its own x.

The wire's pose (docs/wire.md): camera to world, OpenCV camera axes (x right, y down, z forward), right-handed world
with z up. With ``M`` CARLA's matrix::

    pose = FLIP_WORLD @ M @ CARLA_FROM_OPENCV

Both factors turn handedness over, so the result is a rotation again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import carla

Matrix = npt.NDArray[np.float64]
"""``(4, 4)``, metres."""

FLIP_WORLD: Final = np.diag([1.0, -1.0, 1.0, 1.0])
"""CARLA's world to the right-handed one: y to the left."""
CARLA_FROM_OPENCV: Final = np.array([[0, 0, 1, 0], [1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]], dtype=np.float64)
"""OpenCV's camera axes in CARLA's: CARLA x is forward, y right, z up."""
_STRAIGHT_UP: Final = 1e-9


class Placement(NamedTuple):
    """A CARLA transform: where something is in the world, or on what it is attached to.

    Attributes:
        x: Metres forward.
        y: Metres to the right.
        z: Metres up.
        pitch: Degrees up.
        yaw: Degrees to the right.
        roll: Degrees clockwise, seen from behind.
    """

    x: float = 0.0
    y: float = 0.0
    z: float = 0.0
    pitch: float = 0.0
    yaw: float = 0.0
    roll: float = 0.0

    @classmethod
    def of(cls, transform: carla.Transform) -> Placement:
        """Reads a ``carla.Transform``."""
        at, turned = transform.location, transform.rotation
        return cls(at.x, at.y, at.z, turned.pitch, turned.yaw, turned.roll)

    def to_carla(self) -> carla.Transform:
        """A ``carla.Transform`` of these values."""
        import carla

        return carla.Transform(
            carla.Location(self.x, self.y, self.z),
            carla.Rotation(pitch=self.pitch, yaw=self.yaw, roll=self.roll),
        )

    def matrix(self) -> Matrix:
        """``(4, 4)`` local to parent, as ``carla.Transform.get_matrix`` gives it."""
        pitch, yaw, roll = np.radians([self.pitch, self.yaw, self.roll])
        (cp, cy, cr), (sp, sy, sr) = np.cos([pitch, yaw, roll]), np.sin([pitch, yaw, roll])
        return np.array(
            [
                [cp * cy, cy * sp * sr - sy * cr, -cy * sp * cr - sy * sr, self.x],
                [cp * sy, sy * sp * sr + cy * cr, -sy * sp * cr + cy * sr, self.y],
                [sp, -cp * sr, cp * cr, self.z],
                [0.0, 0.0, 0.0, 1.0],
            ]
        )

    @classmethod
    def from_matrix(cls, matrix: Matrix) -> Placement:
        """The values of CARLA's matrix; looking straight up or down, all turning about the vertical is yaw."""
        pitch = float(np.arcsin(np.clip(matrix[2, 0], -1.0, 1.0)))
        if np.hypot(matrix[0, 0], matrix[1, 0]) > _STRAIGHT_UP:
            yaw = float(np.arctan2(matrix[1, 0], matrix[0, 0]))
            roll = float(np.arctan2(-matrix[2, 1], matrix[2, 2]))
        else:
            yaw, roll = float(np.arctan2(-matrix[0, 1], matrix[1, 1])), 0.0
        x, y, z = (float(value) for value in matrix[:3, 3])
        degrees = np.degrees([pitch, yaw, roll]) + 0.0  # no minus before a zero
        return cls(x, y, z, float(degrees[0]), float(degrees[1]), float(degrees[2]))


def pose_of(camera: Placement) -> Matrix:
    """The wire's pose of a CARLA camera: ``(4, 4)`` camera to world, OpenCV axes, right-handed z-up world, metres."""
    return np.asarray(FLIP_WORLD @ camera.matrix() @ CARLA_FROM_OPENCV)


def placement_of(pose: Matrix) -> Placement:
    """The inverse of :func:`pose_of`."""
    return Placement.from_matrix(np.asarray(FLIP_WORLD @ pose @ CARLA_FROM_OPENCV.T))
