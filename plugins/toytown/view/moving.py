"""The actors near a camera at one moment: posed, with a ray caster and tables of their own."""

from __future__ import annotations

from typing import Final, NamedTuple, Self

import numpy as np

from plugins.toytown.town.actors import Actor
from plugins.toytown.town.surfaces import BoolArray, FloatArray, IntArray, Mesh, Tables, make_tables
from plugins.toytown.view.cameras import Lens, Pose
from plugins.toytown.view.raycast import Caster
from plugins.toytown.view.scene import Scene
from plugins.toytown.view.vectors import turned

FAR: Final = 130.0
"""Actors farther away than this are not drawn, metres."""
MARGIN: Final = 4.0
"""Actors that close to the field of view are kept: their shadows fall into it, metres."""
_NEAR: Final = 0.3
"""Closer than this an actor's box on the image is the whole image, metres."""


class Moving(NamedTuple):
    """Actors at one moment. Each view has its own: nothing here changes when the next one is made.

    Attributes:
        time: Seconds.
        actors: Those that are near, by their number in the town.
        vertices: float32 ``(V, 3)``, all of them.
        starts: First vertex of each actor, and the end: ``(actors + 1,)``.
        tables: Attributes of the triangles.
        owner: int32 ``(T,)``, which of ``actors`` a triangle belongs to.
        local: int32 ``(T,)``, the triangle's number in its actor's mesh.
        caster: Of these triangles; None where nobody is near.
    """

    time: float
    actors: tuple[int, ...]
    vertices: FloatArray
    starts: tuple[int, ...]
    tables: Tables
    owner: IntArray
    local: IntArray
    caster: Caster | None

    @classmethod
    def near(cls, scene: Scene, time: float, pose: Pose, lens: Lens) -> Self:
        """The actors that a camera may see, or see the shadows of."""
        town = scene.town.actors
        near = tuple(k for k, actor in enumerate(town) if _may_be_seen(actor, time, pose, lens))
        shapes = [town[k].vertices(time) for k in near]
        starts = np.cumsum([0, *(len(shape) for shape in shapes)])
        counts = [len(town[k].triangles) for k in near]
        vertices = np.concatenate(shapes) if near else np.zeros((0, 3), np.float32)
        mesh = Mesh(
            vertices,
            _joined([town[k].triangles + np.int32(start) for k, start in zip(near, starts, strict=False)]),
            np.concatenate([town[k].faces for k in near]) if near else scene.town.static.faces[:0],
        )
        return cls(
            time,
            near,
            vertices,
            tuple(int(start) for start in starts),
            make_tables(mesh),
            np.repeat(np.arange(len(near), dtype=np.int32), counts),
            np.concatenate([np.arange(count, dtype=np.int32) for count in counts]) if near else np.zeros(0, np.int32),
            scene.make_caster(vertices, mesh.triangles) if near else None,
        )

    def boxes(self, pose: Pose, lens: Lens) -> BoolArray:
        """Which pixels lie in a box around an actor's image, bool ``(H, W)``: only their rays can meet one."""
        mask = np.zeros((lens.height, lens.width), np.bool_)
        if not self.actors:
            return mask
        seen = turned(self.vertices - pose[:3, 3].astype(np.float32), pose[:3, :3])
        first = np.array(self.starts[:-1])
        nearest = np.minimum.reduceat(seen[:, 2], first)
        scale = np.float32(lens.focal) / np.maximum(seen[:, 2], _NEAR)
        u, v = seen[:, 0] * scale + lens.width / 2, seen[:, 1] * scale + lens.height / 2
        low = np.stack([np.minimum.reduceat(u, first), np.minimum.reduceat(v, first)], 1) - 1
        high = np.stack([np.maximum.reduceat(u, first), np.maximum.reduceat(v, first)], 1) + 2
        size = np.array([lens.width, lens.height])
        low, high = np.clip(low, 0, size).astype(int), np.clip(high, 0, size).astype(int)
        for close, (x0, y0), (x1, y1) in zip(nearest < _NEAR, low.tolist(), high.tolist(), strict=True):
            if close:
                mask[:] = True
            mask[y0:y1, x0:x1] = True
        return mask


def _may_be_seen(actor: Actor, time: float, pose: Pose, lens: Lens) -> bool:
    """Whether a sphere around the actor, with a margin for its shadow, reaches into the field of view."""
    dx, dy, dz = (a - b for a, b in zip(actor.middle(time), pose[:3, 3].tolist(), strict=True))
    ahead = dx * pose[0, 2] + dy * pose[1, 2] + dz * pose[2, 2]
    reach = actor.radius + MARGIN
    if ahead < -reach or ahead > FAR:
        return False
    aside = abs(dx * pose[0, 0] + dy * pose[1, 0] + dz * pose[2, 0])
    half = np.radians(lens.fov) / 2
    return bool(aside * np.cos(half) - ahead * np.sin(half) < reach)


def _joined(triangles: list[IntArray]) -> IntArray:
    return np.concatenate(triangles) if triangles else np.zeros((0, 3), np.int32)
