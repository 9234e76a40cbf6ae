"""Things that move: where they are and what shape they have at any time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from plugins.toytown.town.route import Stand
from plugins.toytown.town.surfaces import Color, FloatArray, Material, Mesh

Motion = Callable[[float], Stand]
"""Where an actor is at a time in seconds."""
MIDDLE_HEIGHT: Final = 1.2
"""Roughly the height of an actor's middle, metres."""


class Actor:
    """A moving thing.

    Args:
        shapes: Its mesh in equally spaced phases of its motion; all have the same triangles. One for what is rigid.
        motion: Where it is.
        instance: Its number in instance images.
        height: Of the ground it moves on, metres.
        paint: Colour of its paint.
        pace: Cycles of its phases per second.

    Attributes:
        triangles: int32 ``(T, 3)``.
        faces: Attributes of its triangles.
        radius: Nothing of it is farther from its middle, metres.
    """

    def __init__(
        self,
        shapes: Sequence[Mesh],
        motion: Motion,
        instance: int,
        *,
        height: float = 0.0,
        paint: Color | None = None,
        pace: float = 0.0,
    ) -> None:
        self._shapes = np.stack([shape.vertices for shape in shapes])
        self._motion, self._height, self._pace = motion, height, pace
        self.instance = instance
        self.triangles = shapes[0].triangles
        self.faces = shapes[0].faces.copy()
        self.faces["instance"] = instance
        if paint is not None:
            self.faces["albedo"][self.faces["material"] == Material.PAINT] = paint
        self.radius = float(np.linalg.norm(self._shapes - (0, 0, MIDDLE_HEIGHT), axis=-1).max())

    def middle(self, time: float) -> tuple[float, float, float]:
        """Its middle, metres."""
        x, y, _ = self._motion(time)
        return x, y, self._height + MIDDLE_HEIGHT

    def vertices(self, time: float) -> FloatArray:
        """Its vertices in the world, float32 ``(V, 3)``, metres."""
        x, y, yaw = self._motion(time)
        c, s = np.cos(yaw), np.sin(yaw)
        turn = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]], np.float32)
        return self._shape(time) @ turn + np.array([x, y, self._height], np.float32)

    def _shape(self, time: float) -> FloatArray:
        count = len(self._shapes)
        if count == 1:
            return np.asarray(self._shapes[0])
        phase = time * self._pace * count
        first = int(np.floor(phase))
        part = np.float32(phase - first)
        shape = self._shapes[first % count] * (1 - part) + self._shapes[(first + 1) % count] * part
        return np.asarray(shape, np.float32)
