"""Builds meshes from primitives and from parts that are put in many places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from plugins.toytown.town.surfaces import (
    CLASS_ID,
    FACE,
    Color,
    FaceArray,
    FloatArray,
    IntArray,
    Material,
    Mesh,
    Surface,
)

Point = Sequence[float] | npt.NDArray[Any]

_BOX = np.array(
    [(4, 5, 6), (4, 6, 7), (0, 1, 5), (0, 5, 4), (1, 2, 6), (1, 6, 5), (2, 3, 7), (2, 7, 6), (3, 0, 4), (3, 4, 7)]
)
_BOX_BOTTOM = np.array([(0, 2, 1), (0, 3, 2)])


class Place(NamedTuple):
    """Where a part stands, metres and radians, and what is its own there."""

    x: float
    y: float
    z: float = 0.0
    yaw: float = 0.0
    instance: int = 0
    paint: Color | None = None


class MeshBuilder:
    """Collects triangles; :meth:`mesh` makes one mesh of them all. x forward, y left, z up, metres."""

    def __init__(self) -> None:
        self._vertices: list[FloatArray] = []
        self._triangles: list[IntArray] = []
        self._faces: list[FaceArray] = []
        self._count = 0
        self._placed: dict[int, tuple[Mesh, list[Place]]] = {}

    def add(self, vertices: Any, triangles: Any, surface: Surface, colors: npt.NDArray[Any] | None = None) -> None:
        """Adds triangles.

        Args:
            vertices: ``(V, 3)``.
            triangles: ``(T, 3)``, indices into ``vertices``.
            surface: What they are.
            colors: ``(T, 3)``, one colour each in place of the surface's.
        """
        points = np.asarray(vertices, np.float32).reshape(-1, 3)
        corners = np.asarray(triangles, np.int32).reshape(-1, 3)
        faces = np.zeros(len(corners), FACE)
        faces["class_id"] = CLASS_ID[surface.class_name]
        faces["material"] = surface.material
        faces["house"] = surface.house
        faces["albedo"] = surface.color if colors is None else colors
        self._append(Mesh(points, corners, faces))

    def _append(self, mesh: Mesh) -> None:
        self._vertices.append(mesh.vertices)
        self._triangles.append(mesh.triangles + np.int32(self._count))
        self._faces.append(mesh.faces)
        self._count += len(mesh.vertices)

    def place(self, part: Mesh, place: Place) -> None:
        """Puts a finished part somewhere; all places of one part are computed together in :meth:`mesh`."""
        self._placed.setdefault(id(part), (part, []))[1].append(place)

    def mesh(self) -> Mesh:
        """Everything added so far, as one mesh."""
        for part, places in self._placed.values():
            self._append(_at_places(part, places))
        self._placed.clear()
        if not self._vertices:
            return Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32), np.zeros(0, FACE))
        return Mesh(np.concatenate(self._vertices), np.concatenate(self._triangles), np.concatenate(self._faces))

    def box(
        self,
        low: Point,
        high: Point,
        surface: Surface,
        *,
        bottom: bool = False,
        taper: tuple[float, float] = (1.0, 1.0),
    ) -> None:
        """A box along the axes; ``taper`` is how much of its length and width is left at the top."""
        (x0, y0, z0), (x1, y1, z1) = low, high
        cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
        hx, hy = (x1 - x0) / 2 * taper[0], (y1 - y0) / 2 * taper[1]
        vertices = [(x0, y0, z0), (x1, y0, z0), (x1, y1, z0), (x0, y1, z0)]
        vertices += [(cx - hx, cy - hy, z1), (cx + hx, cy - hy, z1), (cx + hx, cy + hy, z1), (cx - hx, cy + hy, z1)]
        self.add(vertices, np.concatenate([_BOX, _BOX_BOTTOM]) if bottom else _BOX, surface)

    def tube(
        self,
        start: Point,
        end: Point,
        radii: tuple[float, float],
        surface: Surface,
        *,
        sides: int = 6,
        caps: bool = True,
    ) -> None:
        """A cylinder from ``start`` to ``end`` with a radius at either end."""
        p, q = np.asarray(start, np.float64), np.asarray(end, np.float64)
        axis = (q - p) / max(float(np.linalg.norm(q - p)), 1e-9)
        s = np.cross(axis, (0.0, 0.0, 1.0) if abs(axis[2]) < 0.9 else (1.0, 0.0, 0.0))
        s /= np.linalg.norm(s)
        t = np.cross(axis, s)
        angle = np.linspace(0, 2 * np.pi, sides, endpoint=False)
        ring = np.cos(angle)[:, None] * s + np.sin(angle)[:, None] * t
        i = np.arange(sides)
        j = (i + 1) % sides
        triangles = [np.stack([i, j, j + sides], 1), np.stack([i, j + sides, i + sides], 1)]
        if caps:
            ends = np.full(sides, 2 * sides)
            triangles += [np.stack([j, i, ends], 1), np.stack([i + sides, j + sides, ends + 1], 1)]
        self.add(np.concatenate([p + radii[0] * ring, q + radii[1] * ring, [p, q]]), np.concatenate(triangles), surface)

    def ball(
        self,
        center: Point,
        radii: Any,
        surface: Surface,
        *,
        rng: np.random.Generator | None = None,
        rough: float = 0.0,
        grid: tuple[int, int] = (7, 5),
    ) -> None:
        """An ellipsoid with ``grid`` = (meridians, parallels), bumpy by the share ``rough`` when given an ``rng``."""
        k, m = grid
        polar, azimuth = np.linspace(0, np.pi, m + 1), np.linspace(0, 2 * np.pi, k, endpoint=False)
        unit = np.stack(
            [
                np.outer(np.sin(polar), np.cos(azimuth)),
                np.outer(np.sin(polar), np.sin(azimuth)),
                np.outer(np.cos(polar), np.ones(k)),
            ],
            -1,
        )
        if rng is not None:
            unit = unit * (1 + rough * rng.uniform(-1, 1, (m + 1, k, 1)))
            unit[0], unit[-1] = unit[0, :1], unit[-1, :1]
        i, j = np.meshgrid(np.arange(m), np.arange(k), indexing="ij")
        a, b = i * k + j, i * k + (j + 1) % k
        c, d = a + k, b + k
        triangles = np.concatenate([np.stack([a, c, d], -1).reshape(-1, 3), np.stack([a, d, b], -1).reshape(-1, 3)])
        self.add(unit.reshape(-1, 3) * np.asarray(radii) + np.asarray(center), triangles, surface)

    def prism(self, outline: Any, heights: tuple[float, float], top: Surface, side: Surface) -> None:
        """A convex outline ``(n, 2)``, counter-clockwise, pulled up from one height to the other."""
        p = np.asarray(outline, np.float64)
        n = len(p)
        i = np.arange(n)
        j = (i + 1) % n
        vertices = np.concatenate([np.c_[p, np.full(n, heights[1])], np.c_[p, np.full(n, heights[0])]])
        self.add(vertices, np.stack([np.zeros(n - 2, int), i[1:-1], i[2:]], 1), top)
        self.add(vertices, np.concatenate([np.stack([i + n, j + n, j], 1), np.stack([i + n, j, i], 1)]), side)

    def cards(
        self, centers: npt.NDArray[Any], half: float, rng: np.random.Generator, surface: Surface, colors: Any
    ) -> None:
        """One small quadrangle in a random direction at each of the ``(n, 3)`` centres, ``(n, 3)`` colours: leaves."""
        n = len(centers)
        u = _unit(rng.normal(size=(n, 3)))
        w = _unit(np.cross(u, rng.normal(size=(n, 3))))
        h = half * rng.uniform(0.6, 1.3, (n, 1))
        corners = np.stack([centers - u * h, centers + w * h * 0.7, centers + u * h, centers - w * h * 0.7], 1)
        self.add(corners.reshape(-1, 3), quads(n), surface, np.repeat(colors, 2, 0))

    def loft(
        self,
        xs: Point,
        bottom: tuple[Any, Any],
        top: tuple[Any, Any],
        surface: Surface,
    ) -> None:
        """A body through cross-sections at ``xs``.

        Args:
            xs: ``(n,)``, rising.
            bottom: Height and half width of the lower edge at each.
            top: Height and half width of the upper edge at each.
            surface: What it is.
        """
        n = len(xs)
        (zb, wb), (zt, wt) = ((np.broadcast_to(v, n) for v in pair) for pair in (bottom, top))
        vertices = np.concatenate([np.c_[xs, -wb, zb], np.c_[xs, -wt, zt], np.c_[xs, wt, zt], np.c_[xs, wb, zb]])
        i = np.arange(n - 1)
        triangles = []
        for ring in range(3):
            a, b = i + ring * n, i + (ring + 1) * n
            triangles += [np.stack([a, a + 1, b + 1], 1), np.stack([a, b + 1, b], 1)]
        for end, turn in ((0, 1), (n - 1, -1)):
            q = [end, end + n, end + 2 * n, end + 3 * n][::turn]
            triangles.append(np.array([[q[0], q[1], q[2]], [q[0], q[2], q[3]]]))
        self.add(vertices, np.concatenate(triangles), surface)


def quads(n: int) -> npt.NDArray[np.int64]:
    """Triangles ``(2 n, 3)`` of n quadrangles whose corners follow each other."""
    first = 4 * np.arange(n)[:, None]
    return np.asarray(np.stack([np.add(first, corners) for corners in ((0, 1, 2), (0, 2, 3))], 1).reshape(-1, 3))


def rounded(low: tuple[float, float], high: tuple[float, float], radius: float, steps: int = 5) -> list[Point]:
    """Outline of a rectangle with round corners, counter-clockwise."""
    (x0, y0), (x1, y1) = low, high
    angles = np.linspace(0, np.pi / 2, steps)
    corners = (
        (x1 - radius, y0 + radius, -np.pi / 2),
        (x1 - radius, y1 - radius, 0.0),
        (x0 + radius, y1 - radius, np.pi / 2),
        (x0 + radius, y0 + radius, np.pi),
    )
    return [
        (cx + radius * float(np.cos(base + a)), cy + radius * float(np.sin(base + a)))
        for cx, cy, base in corners
        for a in angles
    ]


def _unit(vectors: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def _at_places(part: Mesh, places: Sequence[Place]) -> Mesh:
    """One mesh of a part at all its places."""
    at = np.array([place[:4] for place in places], np.float64)
    c, s = np.cos(at[:, 3])[:, None], np.sin(at[:, 3])[:, None]
    x, y, z = part.vertices.T
    moved = np.stack([x * c - y * s + at[:, :1], x * s + y * c + at[:, 1:2], z + at[:, 2:3]], -1)
    offset = (np.arange(len(places)) * len(part.vertices)).astype(np.int32)
    faces = np.tile(part.faces, (len(places), 1))
    faces["instance"] = np.array([place.instance for place in places])[:, None]
    painted = np.flatnonzero(part.faces["material"] == Material.PAINT)
    for row, place in zip(faces, places, strict=True):
        if place.paint is not None:
            row["albedo"][painted] = place.paint
    triangles = (part.triangles + offset[:, None, None]).reshape(-1, 3)
    return Mesh(moved.reshape(-1, 3).astype(np.float32), triangles, faces.reshape(-1))
