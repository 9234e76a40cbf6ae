"""What stands along the kerbs: lamps, traffic lights, fences, benches, bins, bus stops."""

from __future__ import annotations

from typing import Final

import numpy as np

from plugins.toytown.town.mesh import MeshBuilder, quads
from plugins.toytown.town.surfaces import Color, Material, Mesh, Surface

GREY: Final[Color] = (0.35, 0.36, 0.38)
LIGHTS: Final[tuple[Color, ...]] = ((0.1, 0.9, 0.35), (0.95, 0.55, 0.05), (0.95, 0.06, 0.04))
"""Green, amber, red: from the lowest lamp up."""
WOOD: Final = Surface("static", Material.PLAIN, (0.2, 0.11, 0.05))


def lamp_post() -> Mesh:
    """A street lamp whose arm points forward; its light source is a lamp surface."""
    builder = MeshBuilder()
    metal = Surface("pole", Material.METAL, (0.16, 0.17, 0.18))
    builder.tube((0, 0, 0), (0, 0, 6.2), (0.09, 0.06), metal, sides=7)
    builder.tube((0, 0, 6.15), (1.5, 0, 6.5), (0.05, 0.04), metal, sides=5)
    builder.box((1.2, -0.12, 6.45), (1.9, 0.12, 6.58), metal._replace(color=(0.3, 0.3, 0.3)), bottom=True)
    builder.box((1.25, -0.1, 6.42), (1.85, 0.1, 6.45), Surface("pole", Material.LAMP, (0.45, 0.42, 0.36)), bottom=True)
    return builder.mesh()


def traffic_light(state: int, height: float = 3.2) -> Mesh:
    """A traffic light that faces forward; ``state`` counts :data:`LIGHTS`."""
    builder = MeshBuilder()
    builder.tube((0, 0, 0), (0, 0, height + 0.9), (0.07, 0.07), Surface("pole", Material.METAL, (0.2, 0.21, 0.22)))
    case = Surface("traffic light", Material.PLAIN, (0.02, 0.025, 0.02))
    board = case._replace(color=(0.03, 0.03, 0.03))
    builder.box((0.07, -0.15, height - 0.1), (0.32, 0.15, height + 0.85), case, bottom=True)
    builder.box((0.05, -0.24, height - 0.18), (0.07, 0.24, height + 0.93), board)
    for k, lit in enumerate(LIGHTS):
        color = lit if k == state else (lit[0] * 0.12, lit[1] * 0.12, lit[2] * 0.12)
        z = height + 0.08 + 0.28 * k
        lamp = Surface("traffic light", Material.LAMP, color)
        builder.tube((0.3, 0, z), (0.35, 0, z), (0.1, 0.1), lamp, sides=8)
    return builder.mesh()


def bollard() -> Mesh:
    """A low post."""
    builder = MeshBuilder()
    builder.tube((0, 0, 0), (0, 0, 0.9), (0.06, 0.06), Surface("pole", Material.METAL, (0.12, 0.12, 0.13)))
    return builder.mesh()


def fence(length: float, height: float = 1.1) -> Mesh:
    """A railing along x: two rails, and upright bars that are two crossed quadrangles each."""
    builder = MeshBuilder()
    metal = Surface("fence", Material.METAL, (0.12, 0.13, 0.13))
    for z in (0.12, height):
        builder.box((0, -0.02, z - 0.025), (length, 0.02, z + 0.025), metal, bottom=True)
    x = np.arange(0, length + 0.01, 0.16)
    half, zero, top = 0.016, 0 * x, 0 * x + height + 0.06
    for dx, dy in ((half, 0.0), (0.0, half)):
        near, far = (x - dx, zero - dy), (x + dx, zero + dy)
        corners = [np.c_[(*near, zero)], np.c_[(*far, zero)], np.c_[(*far, top)], np.c_[(*near, top)]]
        builder.add(np.stack(corners, 1), quads(len(x)), metal)
    return builder.mesh()


def wall(length: float) -> Mesh:
    """A garden wall along x, of brick, with a coping."""
    builder = MeshBuilder()
    builder.box((0, -0.13, 0), (length, 0.13, 2.1), Surface("wall", Material.BRICK, (0.36, 0.2, 0.15)))
    builder.box((0, -0.17, 2.1), (length, 0.17, 2.2), Surface("wall", Material.PLAIN, (0.4, 0.38, 0.35)), bottom=True)
    return builder.mesh()


def bench() -> Mesh:
    """A park bench that looks to -y."""
    builder = MeshBuilder()
    builder.box((-0.8, -0.22, 0.42), (0.8, 0.22, 0.48), WOOD, bottom=True)
    builder.box((-0.8, 0.2, 0.5), (0.8, 0.26, 0.9), WOOD, bottom=True)
    for x in (-0.6, 0.6):
        leg = Surface("static", Material.METAL, (0.05, 0.05, 0.05))
        builder.box((x - 0.04, -0.2, 0), (x + 0.04, 0.2, 0.42), leg)
    return builder.mesh()


def litter_bin() -> Mesh:
    """A litter bin."""
    builder = MeshBuilder()
    green = Surface("static", Material.PLAIN, (0.05, 0.12, 0.07))
    builder.tube((0, 0, 0), (0, 0, 0.95), (0.25, 0.27), green, sides=8)
    return builder.mesh()


def bus_stop() -> Mesh:
    """A shelter that opens to -y."""
    builder = MeshBuilder()
    metal = Surface("static", Material.METAL, GREY)
    for x in (-1.8, 1.8):
        for y in (0.0, 0.9):
            builder.tube((x, y, 0), (x, y, 2.4), (0.04, 0.04), metal, sides=5)
    builder.box((-2, -0.3, 2.4), (2, 1.0, 2.5), metal, bottom=True)
    pane = Surface("static", Material.GLASS, (0.1, 0.13, 0.14))
    builder.box((-1.8, 0.88, 0.3), (1.8, 0.9, 2.2), pane, bottom=True)
    builder.box((-1.2, 0.5, 0.42), (1.2, 0.85, 0.47), WOOD._replace(color=(0.25, 0.14, 0.07)), bottom=True)
    builder.box((1.75, 0.1, 0.4), (1.85, 0.85, 2.1), WOOD._replace(color=(0.6, 0.5, 0.2)))
    return builder.mesh()
