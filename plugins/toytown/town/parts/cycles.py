"""Bicycles and motorcycles."""

from __future__ import annotations

import functools
from itertools import pairwise
from typing import Final

import numpy as np

from plugins.toytown.town.mesh import MeshBuilder
from plugins.toytown.town.parts.vehicles import BLACK, HEAD_LIGHT, wheel
from plugins.toytown.town.surfaces import Color, Material, Mesh, Surface

GREY: Final[Color] = (0.35, 0.36, 0.38)
PAINT: Final[Color] = (0.4, 0.05, 0.05)
_TYRE_PARTS: Final = 14


@functools.cache
def bicycle() -> Mesh:
    """A bicycle, upright."""
    builder = MeshBuilder()
    paint = Surface("bicycle", Material.PAINT, PAINT)
    metal, rubber = Surface("bicycle", Material.METAL, BLACK), Surface("bicycle", Material.RUBBER, BLACK)
    for x in (-0.5, 0.52):
        _tyre(builder, x, 0.34, rubber)
    joints = {
        "back": (-0.5, 0, 0.34),
        "crank": (-0.08, 0, 0.3),
        "seat": (-0.2, 0, 0.85),
        "head": (0.35, 0, 0.88),
        "fork": (0.52, 0, 0.34),
    }
    for one, other in (
        *(("back", "crank"), ("back", "seat"), ("crank", "seat")),
        *(("crank", "head"), ("seat", "head"), ("head", "fork")),
    ):
        builder.tube(joints[one], joints[other], (0.03, 0.03), paint, sides=4)
    builder.tube((0.33, -0.28, 1.0), (0.33, 0.28, 1.0), (0.02, 0.02), metal, sides=4)
    builder.tube((0.35, 0, 0.85), (0.33, 0, 1.0), (0.02, 0.02), metal, sides=4)
    builder.box((-0.34, -0.08, 0.88), (-0.08, 0.08, 0.94), rubber)
    return builder.mesh()


@functools.cache
def motorcycle() -> Mesh:
    """A motorcycle, upright."""
    builder = MeshBuilder()
    metal = Surface("motorcycle", Material.METAL, (0.12, 0.12, 0.13))
    rubber = Surface("motorcycle", Material.RUBBER, BLACK)
    for x in (-0.65, 0.68):
        wheel(builder, x, 0, 0.31, 0.14, "motorcycle")
    builder.box((-0.45, -0.14, 0.35), (0.35, 0.14, 0.72), metal, bottom=True)
    builder.loft(
        np.array([-0.85, -0.5, -0.1, 0.1, 0.45]),
        (np.array([0.68, 0.62, 0.6, 0.62, 0.7]), np.array([0.08, 0.14, 0.15, 0.17, 0.12])),
        (np.array([0.86, 0.82, 0.78, 1.0, 0.95]), np.array([0.06, 0.13, 0.13, 0.1, 0.08])),
        Surface("motorcycle", Material.PAINT, PAINT),
    )
    builder.box((-0.75, -0.13, 0.8), (-0.05, 0.13, 0.88), rubber)
    builder.tube((0.68, 0, 0.35), (0.42, 0, 1.05), (0.05, 0.05), metal._replace(color=GREY))
    builder.tube((0.4, -0.35, 1.05), (0.4, 0.35, 1.05), (0.025, 0.025), metal)
    builder.ball((0.58, 0, 0.88), 0.1, Surface("motorcycle", Material.LAMP, HEAD_LIGHT))
    return builder.mesh()


def _tyre(builder: MeshBuilder, x: float, radius: float, surface: Surface) -> None:
    """A thin ring in the plane y = 0 that stands on the ground."""
    angle = np.linspace(0, 2 * np.pi, _TYRE_PARTS + 1)
    rim = np.stack([x + radius * np.cos(angle), 0 * angle, radius + radius * np.sin(angle)], 1)
    for start, end in pairwise(rim):
        builder.tube(start, end, (0.025, 0.025), surface, sides=3, caps=False)
