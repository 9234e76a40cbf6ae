"""What one camera sees at one moment: for every pixel a depth and a triangle. Owns all that it holds."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from plugins.toytown.town.plan import TILE_METRES
from plugins.toytown.town.surfaces import BoolArray, FloatArray, IntArray, Material
from plugins.toytown.view.cameras import Lens, Pose
from plugins.toytown.view.moving import Moving
from plugins.toytown.view.raycast import MISS
from plugins.toytown.view.scene import Scene
from plugins.toytown.view.vectors import turned

Pixels = npt.NDArray[np.intp]
"""Flat pixel numbers."""
_PERIODS: Final = 8
"""More periods of the road's tile than there are on the negative side: makes a cast to int round down."""


class Ground(NamedTuple):
    """The pixels that see the road: ``pixels`` ``(n,)``, world ``x`` and ``y`` in metres, the marks' ``codes``."""

    pixels: Pixels
    x: FloatArray
    y: FloatArray
    codes: npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class View:
    """A camera's image as geometry; N = H * W, pixels row by row.

    Attributes:
        scene: The static town.
        moving: The actors.
        lens: Intrinsics.
        pose: Camera to world.
        directions: float32 ``(N, 3)``, world directions of the pixels' rays; along them a distance is a planar depth.
        depth: float32 ``(N,)``, metres, inf = sky.
        rows: int32 ``(N,)``, row of the scene's tables; the sky's row also where an actor is seen.
        moving_pixels: ``(M,)``, the pixels that see an actor.
        moving_rows: int32 ``(M,)``, their rows in the actors' tables.
        uv: float32 ``(N, 2)``, barycentric weights of the triangle's second and third corner.
    """

    scene: Scene
    moving: Moving
    lens: Lens
    pose: Pose
    directions: FloatArray
    depth: FloatArray
    rows: IntArray
    moving_pixels: Pixels
    moving_rows: IntArray
    uv: FloatArray

    @classmethod
    def trace(cls, scene: Scene, moving: Moving, lens: Lens, pose: Pose, shift: tuple[float, float] = (0, 0)) -> View:
        """Casts one ray through every pixel, ``shift`` pixels from its middle."""
        rays = lens.rays if shift == (0, 0) else lens.shifted(*shift)
        directions = turned(rays.reshape(-1, 3), pose[:3, :3].T)
        origin = pose[:3, 3].astype(np.float32)
        hits = scene.caster.cast(origin, directions)
        depth, uv = hits.distance, hits.uv
        rows = np.where(hits.triangle == MISS, np.int32(scene.sky_row), hits.triangle)
        pixels = np.zeros(0, np.intp)
        moving_rows = np.zeros(0, np.int32)
        if moving.caster is not None:
            pixels = np.flatnonzero(moving.boxes(pose, lens))
            found = moving.caster.cast(origin, directions.take(pixels, 0))
            before = found.distance < depth.take(pixels)
            pixels, moving_rows = pixels[before], found.triangle[before]
            depth[pixels], uv[pixels] = found.distance[before], found.uv[before]
            rows[pixels] = scene.sky_row
        return cls(scene, moving, lens, pose, directions, depth, rows, pixels, moving_rows, uv)

    @property
    def shape(self) -> tuple[int, int]:
        """``(H, W)``."""
        return self.lens.height, self.lens.width

    @property
    def time(self) -> float:
        """Seconds."""
        return self.moving.time

    @property
    def origin(self) -> FloatArray:
        """The camera's place, float32 ``(3,)``."""
        return self.pose[:3, 3].astype(np.float32)

    def gather(self, name: str) -> npt.NDArray[Any]:
        """An attribute of the triangle that each pixel sees: a field of :class:`Tables`, ``(N,)`` or ``(N, 3)``."""
        values = getattr(self.scene.tables, name).take(self.rows, 0)
        values[self.moving_pixels] = getattr(self.moving.tables, name).take(self.moving_rows, 0)
        return np.asarray(values)

    @functools.cached_property
    def materials(self) -> npt.NDArray[np.uint8]:
        """uint8 ``(N,)``, :class:`Material` of every pixel."""
        return self.gather("material")

    @functools.cached_property
    def sky(self) -> BoolArray:
        """Which pixels see the sky, bool ``(N,)``."""
        return np.asarray(self.materials == Material.SKY)

    @functools.cached_property
    def ground(self) -> Ground:
        """The pixels that see the road, and what is painted there."""
        pixels = np.flatnonzero(self.materials == Material.ROAD)
        x, y = self.points(pixels)[:, :2].T
        marks = self.scene.marks
        side = marks.shape[0]
        scale, offset = np.float32(1 / TILE_METRES), np.float32(_PERIODS * side)
        row, column = ((v * scale + offset).astype(np.int32) % side for v in (y, x))
        return Ground(pixels, x, y, marks.ravel().take(row * side + column))

    def points(self, pixels: Pixels) -> FloatArray:
        """World coordinates of what those pixels see, float32 ``(n, 3)``."""
        along = self.directions.take(pixels, 0) * self.depth.take(pixels)[:, None]
        return np.asarray(along + self.origin, np.float32)
