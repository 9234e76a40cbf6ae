"""Cars, trucks, buses and trams."""

from __future__ import annotations

from typing import Final

import numpy as np

from plugins.toytown.town.mesh import MeshBuilder
from plugins.toytown.town.surfaces import Color, Material, Mesh, Surface

BLACK: Final[Color] = (0.02, 0.02, 0.02)
PLATE: Final[Color] = (0.8, 0.8, 0.75)
GLASS: Final[Color] = (0.05, 0.07, 0.09)
BODY: Final[Color] = (0.5, 0.5, 0.5)
TAIL_LIGHT: Final[Color] = (0.45, 0.02, 0.02)
HEAD_LIGHT: Final[Color] = (0.85, 0.85, 0.8)


def wheel(builder: MeshBuilder, x: float, y: float, radius: float, width: float, class_name: str) -> None:
    """Adds a wheel that stands on the ground at (x, y)."""
    tyre = Surface(class_name, Material.RUBBER, BLACK)
    rim = Surface(class_name, Material.METAL, (0.45, 0.45, 0.47))
    half = width / 2
    builder.tube((x, y - half, radius), (x, y + half, radius), (radius, radius), tyre, sides=12)
    inner = radius * 0.55
    builder.tube((x, y - half - 0.01, radius), (x, y + half + 0.01, radius), (inner, inner), rim, sides=8)


def car(length: float = 4.3, width: float = 1.8, height: float = 1.45, *, suv: bool = False) -> Mesh:
    """A passenger car."""
    builder = MeshBuilder()
    paint, glass = Surface("car", Material.PAINT, BODY), Surface("car", Material.GLASS, GLASS)
    h, w, belt, sill = length / 2, width / 2, 0.62 * height, 0.26
    xs = np.array([-h, -h + 0.08, -h + 0.9, 0.1 * length, 0.24 * length, h - 0.25, h])
    top = np.array([0.52 * height, belt, belt + 0.02, belt + 0.02, belt - 0.01, 0.55 * height, 0.45 * height])
    lower = (np.array([0.3, sill, sill, sill, sill, sill, 0.3]), np.array([0.9, 0.98, 1, 1, 1, 0.96, 0.86]) * w)
    builder.loft(xs, lower, (top, np.array([0.86, 0.93, 0.95, 0.95, 0.93, 0.86, 0.76]) * w), paint)
    rear, roof = (-h + 0.12, -h + 0.35) if suv else (-h + 0.45, -h + 1.0)
    cabin_top = np.array([belt + 0.01, height, height, belt + 0.01])
    builder.loft(
        np.array([rear, roof, 0.08 * length, 0.26 * length]),
        (belt - 0.02, 0.92 * w),
        (cabin_top, np.array([0.9, 0.74, 0.74, 0.9]) * w),
        glass,
    )
    builder.box((roof, -0.75 * w, height - 0.02), (0.08 * length, 0.75 * w, height + 0.02), paint)
    for side in (-1, 1):
        for x in (roof + 0.05, -0.06 * length):
            pillar = (x, side * 0.93 * w, belt), (x + 0.02, side * 0.75 * w, height)
            builder.tube(*pillar, (0.045, 0.045), paint, sides=4)
        for x in (-0.31 * length, 0.31 * length):
            wheel(builder, x, side * (w - 0.1), 0.31, 0.2, "car")
        _car_lamps(builder, side, (h, w, height))
        mirror = side * w - 0.09, side * w + 0.05
        builder.box((0.2 * length, mirror[0], belt), (0.23 * length, mirror[1], belt + 0.13), paint)
    _car_plates(builder, (h, w, height))
    return builder.mesh()


def _car_lamps(builder: MeshBuilder, side: int, half: tuple[float, float, float]) -> None:
    h, w, height = half
    tail, head = Surface("car", Material.LAMP, TAIL_LIGHT), Surface("car", Material.LAMP, HEAD_LIGHT)
    y = side * 0.74 * w
    builder.box((-h - 0.02, y - 0.16, 0.45 * height), (-h + 0.1, y + 0.16, 0.54 * height), tail)
    y = side * 0.66 * w
    # Before the nose, not in its plane: two faces in one plane would be seen by turns.
    builder.box((h - 0.2, y - 0.16, 0.36 * height), (h + 0.015, y + 0.16, 0.43 * height), head)


def _car_plates(builder: MeshBuilder, half: tuple[float, float, float]) -> None:
    h, w, height = half
    plate, grille = Surface("car", Material.PLAIN, PLATE), Surface("car", Material.PLAIN, BLACK)
    builder.box((-h - 0.02, -0.26, 0.3 * height), (-h + 0.1, 0.26, 0.38 * height), plate)
    builder.box((h - 0.1, -0.26, 0.2 * height), (h + 0.02, 0.26, 0.27 * height), plate)
    builder.box((h - 0.15, -0.5 * w, 0.27 * height), (h + 0.01, 0.5 * w, 0.35 * height), grille)


def car_range() -> tuple[Mesh, ...]:
    """The five cars of the town."""
    return (
        car(),
        car(4.7, 1.85, 1.7, suv=True),
        car(3.7, 1.7, 1.5),
        car(4.8, 1.85, 1.42),
        car(5.3, 1.95, 2.1, suv=True),
    )


def truck(length: float, width: float, height: float, cab: float, cargo: Color) -> Mesh:
    """A truck: a painted cab of length ``cab`` before a plain box."""
    builder = MeshBuilder()
    h, w = length / 2, width / 2
    builder.box((-h, -w, 0.9), (h - cab - 0.25, w, height), Surface("truck", Material.PLAIN, cargo), bottom=True)
    frame = Surface("truck", Material.METAL, (0.08, 0.08, 0.08))
    builder.box((-h, -0.4 * w, 0.5), (h, 0.4 * w, 0.9), frame, bottom=True)
    front = np.array([h - cab, h - 0.15, h])
    upper = (np.array([2.5, 2.5, 1.4]), np.array([1, 0.95, 0.95]) * w)
    builder.loft(front, (0.45, np.array([1, 1, 0.95]) * w), upper, Surface("truck", Material.PAINT, BODY))
    glass = Surface("truck", Material.GLASS, GLASS)
    builder.box((h - 0.12, -0.88 * w, 1.5), (h - 0.02, 0.88 * w, 2.35), glass)
    for side in (-1, 1):
        builder.box((h - cab * 0.7, side * w - 0.02, 1.5), (h - 0.5, side * w + 0.02, 2.3), glass)
    _wheels_and_lamps(builder, (h, w), (-h + 0.9, -h + 2.1, h - 0.9), "truck")
    return builder.mesh()


def coach(length: float, width: float, height: float, strip: tuple[float, float], class_name: str) -> Mesh:
    """A bus or tram: a long body with a strip of windows between two heights."""
    builder = MeshBuilder()
    h, w = length / 2, width / 2
    builder.loft(
        np.array([-h, -h + 0.3, h - 0.3, h]),
        (0.35, np.array([0.92, 1, 1, 0.9]) * w),
        (np.array([height - 0.15, height, height, height - 0.2]), np.array([0.9, 0.97, 0.97, 0.86]) * w),
        Surface(class_name, Material.PAINT, BODY),
    )
    glass = Surface(class_name, Material.GLASS, GLASS)
    trim = Surface(class_name, Material.PLAIN, (0.85, 0.85, 0.82))
    board = Surface(class_name, Material.LAMP, (0.5, 0.3, 0.05))
    for side in (-1, 1):
        y = side * 0.985 * w
        for x in np.arange(-h + 0.5, h - 1.4, 1.42):
            builder.box((x, y - 0.03, strip[0]), (x + 1.25, y + 0.03, strip[1]), glass, bottom=True)
        builder.box((-h + 0.2, side * w - 0.02, 0.9), (h - 0.2, side * w + 0.02, 1.0), trim)
        x = side * h
        builder.box((x - 0.04, -0.8 * w, strip[0] - 0.1), (x + 0.04, 0.8 * w, strip[1]), glass)
        builder.box((x - 0.05, -0.5 * w, strip[1] + 0.1), (x + 0.05, 0.5 * w, strip[1] + 0.4), board)
    _wheels_and_lamps(builder, (h, w), (-0.3 * length, 0.3 * length), class_name)
    return builder.mesh()


def _wheels_and_lamps(
    builder: MeshBuilder, half: tuple[float, float], axles: tuple[float, ...], class_name: str
) -> None:
    h, w = half
    tail = Surface(class_name, Material.LAMP, TAIL_LIGHT)
    head = Surface(class_name, Material.LAMP, HEAD_LIGHT)
    for side in (-1, 1):
        for x in axles:
            wheel(builder, x, side * (w - 0.16), 0.48, 0.3, class_name)
        y = side * 0.8 * w
        builder.box((-h - 0.03, y - 0.15, 0.8), (-h + 0.02, y + 0.15, 1.0), tail)
        y = side * 0.72 * w
        builder.box((h - 0.02, y - 0.18, 0.7), (h + 0.03, y + 0.18, 0.9), head)
