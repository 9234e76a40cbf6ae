"""Traffic signs on posts, facing forward."""

from __future__ import annotations

from typing import Final

import numpy as np

from plugins.toytown.town.mesh import MeshBuilder
from plugins.toytown.town.surfaces import Color, Material, Mesh, Surface

KINDS: Final = ("limit", "warning", "priority", "no entry", "parking", "board")
CENTER: Final = 2.3
"""Height of a sign's middle, metres."""
WHITE: Final[Color] = (0.85, 0.85, 0.85)
RED: Final[Color] = (0.6, 0.03, 0.04)
BLUE: Final[Color] = (0.03, 0.12, 0.5)
YELLOW: Final[Color] = (0.85, 0.6, 0.03)
BLACK: Final[Color] = (0.02, 0.02, 0.02)
BACK: Final[Color] = (0.3, 0.3, 0.3)
_SHAPES: Final = {"warning": (3, np.pi / 2), "priority": (4, 0.0), "stop": (8, np.pi / 8)}
"""Corners of a sign's outline, and by how much it is turned; the others are round."""


def sign(kind: str, rng: np.random.Generator) -> Mesh:
    """A sign: one of :data:`KINDS`, or ``stop``."""
    builder = MeshBuilder()
    metal = Surface("pole", Material.METAL, (0.35, 0.36, 0.38))
    builder.tube((0, 0, 0), (0, 0, CENTER + 0.3), (0.035, 0.035), metal)
    corners, turn = _SHAPES.get(kind, (14, 0.0))
    if kind not in ("parking", "board"):
        _disc(builder, 0.33, BACK, 0.036, corners, turn)
    if kind == "limit":
        _limit(builder)
    elif kind == "warning":
        _disc(builder, 0.38, RED, 0.04, corners, turn)
        _disc(builder, 0.26, WHITE, 0.045, corners, turn)
        _plate(builder, (-0.03, 0.03), (-0.08, 0.1), BLACK, 0.046)
    elif kind == "priority":
        _disc(builder, 0.36, WHITE, 0.04, corners, turn)
        _disc(builder, 0.27, YELLOW, 0.045, corners, turn)
    elif kind in ("stop", "no entry"):
        _disc(builder, 0.36 if kind == "stop" else 0.33, RED, 0.04, corners, turn)
        _plate(builder, (-0.22, 0.22), (-0.055, 0.055), WHITE, 0.045)
    elif kind == "parking":
        _plate(builder, (-0.3, 0.3), (-0.3, 0.3), BLUE, 0.036)
        _plate(builder, (-0.12, -0.04), (-0.2, 0.2), WHITE, 0.042)
        _plate(builder, (-0.04, 0.14), (0.0, 0.2), WHITE, 0.042)
    else:
        _plate(builder, (-1.1, 1.1), (0.1, 1.0), BLUE, 0.036)
        for k in range(3):
            z = 0.2 + 0.25 * k
            _plate(builder, (-0.9, rng.uniform(0.2, 0.9)), (z, z + 0.12), WHITE, 0.052)
    return builder.mesh()


def _limit(builder: MeshBuilder) -> None:
    _disc(builder, 0.33, RED, 0.04)
    _disc(builder, 0.25, WHITE, 0.045)
    for y in (-0.1, 0.1):
        _plate(builder, (y - 0.05, y + 0.05), (-0.11, 0.11), BLACK, 0.046)
        _plate(builder, (y - 0.02, y + 0.02), (-0.07, 0.07), WHITE, 0.051)


def _disc(builder: MeshBuilder, radius: float, color: Color, x: float, corners: int = 14, turn: float = 0.0) -> None:
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False) + turn
    rim = np.c_[np.full(corners, x), radius * np.cos(angle), CENTER + radius * np.sin(angle)]
    i = np.arange(1, corners - 1)
    builder.add(rim, np.stack([0 * i, i, i + 1], 1), Surface("traffic sign", Material.SIGN, color))


def _plate(builder: MeshBuilder, y: tuple[float, float], z: tuple[float, float], color: Color, x: float) -> None:
    surface = Surface("traffic sign", Material.SIGN, color)
    builder.box((x, y[0], CENTER + z[0]), (x + 0.005, y[1], CENTER + z[1]), surface, bottom=True)
