"""Town houses: a box with a facade, roof, awning, balconies."""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np

from plugins.toytown.town.mesh import MeshBuilder
from plugins.toytown.town.surfaces import Color, Material, Surface

WALLS: Final[tuple[Color, ...]] = (
    *((0.60, 0.50, 0.36), (0.52, 0.40, 0.28), (0.66, 0.62, 0.54), (0.42, 0.40, 0.38), (0.58, 0.34, 0.22)),
    *((0.42, 0.17, 0.11), (0.50, 0.22, 0.15), (0.62, 0.55, 0.42), (0.34, 0.38, 0.42), (0.55, 0.52, 0.30)),
)
BRICK_WALLS: Final = frozenset({4, 5, 6})
AWNINGS: Final[tuple[Color, ...]] = (
    *((0.4, 0.05, 0.05), (0.05, 0.2, 0.1), (0.05, 0.1, 0.3), (0.5, 0.4, 0.1), (0.45, 0.45, 0.42)),
)
TILES: Final[Color] = (0.22, 0.09, 0.06)
SLATE: Final[Color] = (0.1, 0.1, 0.11)


class Side(IntEnum):
    """Which side of a block a house fronts."""

    SOUTH = 0
    WEST = 1
    NORTH = 2
    EAST = 3

    @property
    def along_x(self) -> bool:
        """Whether its street runs along x."""
        return self in (Side.SOUTH, Side.NORTH)

    @property
    def outward(self) -> tuple[int, int]:
        """Direction from the house to its street."""
        return ((0, -1), (-1, 0), (0, 1), (1, 0))[self]


class Lot(NamedTuple):
    """A house's ground, metres, and the side that it fronts."""

    x0: float
    y0: float
    x1: float
    y1: float
    side: Side


class Facade(NamedTuple):
    """How a house's windows are laid out; heights and widths in metres.

    Attributes:
        pitch: From window to window.
        floor: Height of an upper floor.
        ground: Height of the ground floor.
        brick: 1 for brick, 0 for plaster.
        width: Share of the pitch that is window.
        height: Share of the floor that is window.
        x: Where the facade's pattern begins.
        y: The same.
    """

    pitch: float
    floor: float
    ground: float
    brick: float
    width: float
    height: float
    x: float
    y: float


def add_house(builder: MeshBuilder, rng: np.random.Generator, lot: Lot, number: int) -> Facade:
    """Adds a house of 3 to 6 floors; returns its facade, to be known under ``number``."""
    floors = int(rng.integers(3, 7))
    choice = int(rng.integers(len(WALLS)))
    color = np.array(WALLS[choice]) * rng.uniform(0.85, 1.1)
    floor, ground = rng.uniform(3.0, 3.4), rng.uniform(3.8, 4.4)
    facade = Facade(
        *(rng.uniform(2.2, 3.1), floor, ground, float(choice in BRICK_WALLS)),
        *(rng.uniform(0.42, 0.62), rng.uniform(0.5, 0.62), lot.x0, lot.y0),
    )
    eaves = ground + (floors - 1) * floor + 0.5
    wall = Surface("building", Material.FACADE, tuple(color), number)
    plain = wall._replace(material=Material.PLAIN)
    builder.box((lot.x0, lot.y0, 0), (lot.x1, lot.y1, eaves), wall)
    _cornice(builder, lot, eaves, plain._replace(color=tuple(np.minimum(color * 1.15, 0.8))))
    if rng.random() < 0.55:
        _gable(builder, rng, lot, eaves, plain)
    else:
        low, high = (lot.x0 + 2, lot.y0 + 3, eaves), (lot.x1 - 2, lot.y1 - 3, eaves + 2.2)
        builder.box(low, high, plain._replace(color=tuple(color * 0.8)))
    if rng.random() < 0.6:
        _awning(builder, lot, ground - 1.0, plain._replace(color=AWNINGS[rng.integers(len(AWNINGS))]))
    if rng.random() < 0.4:
        for k in range(1, floors - 1):
            _balcony(builder, rng.uniform(0.25, 0.6), lot, ground + k * floor - 0.1, plain)
    return facade


def _cornice(builder: MeshBuilder, lot: Lot, eaves: float, surface: Surface) -> None:
    dx, dy = (0.25 * k for k in lot.side.outward)
    low = (lot.x0 + min(dx, 0.0), lot.y0 + min(dy, 0.0), eaves - 0.45)
    builder.box(low, (lot.x1 + max(dx, 0.0), lot.y1 + max(dy, 0.0), eaves), surface, bottom=True)


def _gable(builder: MeshBuilder, rng: np.random.Generator, lot: Lot, eaves: float, plain: Surface) -> None:
    """A pitched roof along the street, and a chimney."""
    tiles = plain._replace(material=Material.ROOF, color=TILES if rng.random() < 0.6 else SLATE)
    x0, y0, x1, y1, side = lot
    ridge = eaves + rng.uniform(2.2, 4)
    cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
    if side.along_x:
        foot = [(x0, y0 - 0.3, eaves), (x1, y0 - 0.3, eaves), (x1, y1 + 0.3, eaves), (x0, y1 + 0.3, eaves)]
        top = [(x0, cy, ridge), (x1, cy, ridge)]
    else:
        foot = [(x1 + 0.3, y0, eaves), (x1 + 0.3, y1, eaves), (x0 - 0.3, y1, eaves), (x0 - 0.3, y0, eaves)]
        top = [(cx, y0, ridge), (cx, y1, ridge)]
    builder.add(foot + top, [(0, 1, 5), (0, 5, 4), (2, 3, 4), (2, 4, 5)], tiles)
    builder.add(foot + top, [(0, 4, 3), (1, 2, 5)], plain)
    chimney = plain._replace(color=(0.3, 0.15, 0.1))
    builder.box((cx + 2, cy + 1, eaves), (cx + 2.8, cy + 1.8, ridge + 0.8), chimney)


def _awning(builder: MeshBuilder, lot: Lot, height: float, surface: Surface) -> None:
    """A slanted cloth over the ground floor."""
    x0, y0, x1, y1, side = lot
    dx, dy = (1.3 * k for k in side.outward)
    if side.along_x:
        y = y0 if side is Side.SOUTH else y1
        inner = [(x0 + 0.8, y, height + 0.6), (x1 - 0.8, y, height + 0.6)]
    else:
        x = x0 if side is Side.WEST else x1
        inner = [(x, y0 + 0.8, height + 0.6), (x, y1 - 0.8, height + 0.6)]
    outer = [(x + dx, y + dy, height) for x, y, _ in reversed(inner)]
    builder.add(inner + outer, [(0, 1, 2), (0, 2, 3)], surface)


def _balcony(builder: MeshBuilder, share: float, lot: Lot, height: float, plain: Surface) -> None:
    """A slab and a parapet, 3 m wide, beginning at that share of the front."""
    x0, y0, x1, y1, side = lot
    dx, dy = (1.1 * k for k in side.outward)
    if side.along_x:
        x, y = x0 + share * (x1 - x0), y0 if side is Side.SOUTH else y1
        ends = (x, min(y, y + dy)), (x + 3, max(y, y + dy))
    else:
        x, y = x0 if side is Side.WEST else x1, y0 + share * (y1 - y0)
        ends = (min(x, x + dx), y), (max(x, x + dx), y + 3)
    low, high = ends
    parapet = plain._replace(color=tuple(np.multiply(plain.color, 0.75)))
    builder.box((*low, height), (*high, height + 0.15), plain._replace(color=(0.5, 0.49, 0.47)), bottom=True)
    builder.box((*low, height + 0.15), (*high, height + 1.0), parapet, bottom=True)
