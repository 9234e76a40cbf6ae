"""Poses in CARLA's convention: left-handed, x forward, y right, z up, metres; pitch, yaw and roll in degrees."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from tests.carla_server.structures import Rotation, Transform, Vector

Rows = tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]
"""A 3x3 matrix. Plain numbers: several times faster than an array for one pose."""


def rotation_rows(rotation: Rotation) -> Rows:
    """The rotation matrix from the axes of a thing to those of its parent, as ``carla.Transform.get_matrix`` has it."""
    pitch, yaw, roll = (math.radians(angle) for angle in rotation)
    cp, sp, cy, sy = math.cos(pitch), math.sin(pitch), math.cos(yaw), math.sin(yaw)
    cr, sr = math.cos(roll), math.sin(roll)
    return (
        (cp * cy, cy * sp * sr - sy * cr, -cy * sp * cr - sy * sr),
        (cp * sy, sy * sp * sr + cy * cr, -sy * sp * cr + cy * sr),
        (sp, -cp * sr, cp * cr),
    )


def compose(parent: Transform, child: Transform) -> Transform:
    """The world pose of a thing whose pose relative to its parent is ``child``."""
    rows, inner = rotation_rows(parent.rotation), rotation_rows(child.rotation)
    location = Vector(*(p + _dot(row, child.location) for p, row in zip(parent.location, rows, strict=True)))
    columns = tuple(zip(*inner, strict=True))
    forward, right, up = (tuple(_dot(row, column) for row in rows) for column in columns)
    pitch = math.asin(max(-1.0, min(1.0, forward[2])))
    yaw, roll = math.atan2(forward[1], forward[0]), math.atan2(-right[2], up[2])
    return Transform(location, Rotation(math.degrees(pitch), math.degrees(yaw), math.degrees(roll)))


def heading(rotation: Rotation) -> Vector:
    """The unit vector forward."""
    return Vector(*(row[0] for row in rotation_rows(rotation)))


def camera_to_world(pose: Transform) -> npt.NDArray[np.float64]:
    """The pose in this project's convention.

    Args:
        pose: Of a camera in CARLA's world; CARLA's cameras look along x.

    Returns:
        ``(4, 4)`` camera to world: OpenCV camera axes (x right, y down, z forward), right-handed z-up world with
        CARLA's y axis turned round.
    """
    forward, right, up = (np.array(column) for column in zip(*rotation_rows(pose.rotation), strict=True))
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([right, -up, forward], 1)
    matrix[:3, 3] = pose.location
    matrix[1] *= -1
    return matrix


def _dot(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
