"""What a triangle is: its class, material, colour, and the thing it belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum, unique
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from sim_bridge.pixels.labels import taxonomy

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]
BoolArray = npt.NDArray[np.bool_]
Color = tuple[float, float, float]
"""Linear albedo, red green blue, 0 to 1."""

TAXONOMY: Final = "toytown"
CLASS_ID: Final[Mapping[str, int]] = MappingProxyType({name: i for i, name in taxonomy(TAXONOMY).ids.items()})
"""Class id by name, of the taxonomy ``toytown``."""
MAX_INSTANCES: Final = 999
"""Instance images hold class * 1000 + n."""


@unique
class Material(IntEnum):
    """What a surface is made of: it decides how the two looks draw it."""

    PLAIN = 0
    ROAD = 1
    SIDEWALK = 2
    GRASS = 3
    FACADE = 4
    FOLIAGE = 5
    BARK = 6
    PAINT = 7
    """Gets a new colour at each place a part is put."""
    GLASS = 8
    RUBBER = 9
    METAL = 10
    LAMP = 11
    CLOTH = 12
    SIGN = 13
    BRICK = 14
    ROOF = 15
    RAIL = 16
    SKY = 17


def rgb(color: Color) -> FloatArray:
    """A colour as float32 ``(1, 3)``, to be multiplied with one number per pixel ``(n, 1)``."""
    return np.array([color], np.float32)


FACE: Final = np.dtype(
    [("class_id", "u1"), ("material", "u1"), ("instance", "u2"), ("house", "u2"), ("albedo", "f4", (3,))]
)
"""One triangle's attributes: ``instance`` 0 is none, ``house`` 0 is none."""
FaceArray = npt.NDArray[np.void]


class Surface(NamedTuple):
    """What a primitive's triangles are."""

    class_name: str
    material: Material
    color: Color
    house: int = 0


class Mesh(NamedTuple):
    """Triangles with attributes.

    Attributes:
        vertices: float32 ``(V, 3)``, metres.
        triangles: int32 ``(T, 3)``, indices of vertices.
        faces: ``(T,)`` of :data:`FACE`.
    """

    vertices: FloatArray
    triangles: IntArray
    faces: FaceArray


class Tables(NamedTuple):
    """Attributes of triangles, one contiguous array each, for gathering by row.

    Attributes:
        class_id: uint8 ``(T,)``.
        material: uint8 ``(T,)``.
        instance: uint16 ``(T,)``.
        house: uint16 ``(T,)``.
        albedo: float32 ``(T, 3)``.
        normal: float32 ``(T, 3)``, unit length.
    """

    class_id: npt.NDArray[np.uint8]
    material: npt.NDArray[np.uint8]
    instance: npt.NDArray[np.uint16]
    house: npt.NDArray[np.uint16]
    albedo: FloatArray
    normal: FloatArray


def make_tables(mesh: Mesh) -> Tables:
    """The attributes of a mesh's triangles, with their geometric normals."""
    faces = mesh.faces
    return Tables(
        np.ascontiguousarray(faces["class_id"]),
        np.ascontiguousarray(faces["material"]),
        np.ascontiguousarray(faces["instance"]),
        np.ascontiguousarray(faces["house"]),
        np.ascontiguousarray(faces["albedo"]),
        triangle_normals(mesh.vertices, mesh.triangles),
    )


def triangle_normals(vertices: FloatArray, triangles: IntArray) -> FloatArray:
    """Unit normals ``(T, 3)``; zero for triangles without area."""
    a, b, c = (vertices.take(triangles[:, k], 0) for k in range(3))
    normal = np.cross(b - a, c - a)
    length = np.sqrt(np.einsum("tk,tk->t", normal, normal))
    return np.asarray(normal / np.maximum(length, 1e-12)[:, None], np.float32)
