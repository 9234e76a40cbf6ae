"""Lays out everything that does not move: blocks, houses, parks, what stands along the kerbs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from plugins.toytown.town.buildings import Facade, Lot, Side, add_house
from plugins.toytown.town.mesh import MeshBuilder, Place, rounded
from plugins.toytown.town.parts import furniture, plants, signs
from plugins.toytown.town.parts.cycles import bicycle, motorcycle
from plugins.toytown.town.parts.people import looks, person
from plugins.toytown.town.parts.vehicles import car_range, truck
from plugins.toytown.town.plan import (
    BLOCKS,
    FRONT,
    KERB,
    LANE,
    PARKS,
    PAVEMENT_HEIGHT,
    PITCH,
    TRAM_ROW,
    TRAM_SETBACK,
    TRAM_Y,
    in_sight,
    is_edge,
)
from plugins.toytown.town.surfaces import MAX_INSTANCES, Color, Material, Mesh, Surface

PAINTS: Final[tuple[Color, ...]] = (
    *((0.55, 0.02, 0.02), (0.02, 0.05, 0.25), (0.6, 0.6, 0.6), (0.75, 0.75, 0.73), (0.03, 0.03, 0.035)),
    *((0.25, 0.26, 0.28), (0.1, 0.2, 0.12), (0.5, 0.35, 0.05), (0.02, 0.2, 0.3), (0.3, 0.28, 0.22)),
)
"""Colours of cars, bicycles and coats."""
OUTSKIRTS: Final = 260.0
"""How far the ground goes beyond the grid, metres."""
HOUSE_DEPTH: Final = 12.0
GRASS: Final = Surface("terrain", Material.GRASS, (0.14, 0.22, 0.07))
PAVING: Final = Surface("sidewalk", Material.SIDEWALK, (0.36, 0.35, 0.33))
KERBSTONE: Final = Surface("sidewalk", Material.PLAIN, (0.45, 0.44, 0.42))


class Counter:
    """Hands out instance numbers, from 1."""

    def __init__(self) -> None:
        self.last = 0

    def next(self) -> int:
        """The next number. Raises OverflowError: Instance images have no room for it."""
        self.last += 1
        if self.last > MAX_INSTANCES:
            raise OverflowError(f"the town has {self.last} things, instance images hold {MAX_INSTANCES}: make fewer")
        return self.last


class StaticTown(NamedTuple):
    """What does not move.

    Attributes:
        mesh: All of it.
        facades: By house number minus 1.
        lamps: Places of the street lamps' lights, ``(n, 2)``.
    """

    mesh: Mesh
    facades: tuple[Facade, ...]
    lamps: npt.NDArray[np.float64]


class _Area(NamedTuple):
    """A rectangle on the ground, metres."""

    x0: float
    y0: float
    x1: float
    y1: float


def build_static_town(rng: np.random.Generator, instances: Counter) -> StaticTown:
    """Everything that does not move, drawn from ``rng``; parked cars and standing people take ``instances``."""
    layout = _Layout(rng, instances)
    layout.ground()
    for i in range(-1, BLOCKS + 1):
        for j in range(-1, BLOCKS + 1):
            layout.block(i, j)
    layout.hills()
    return StaticTown(layout.builder.mesh(), tuple(layout.facades), np.array(layout.lamps))


class _Kerb(NamedTuple):
    """One side of a block as seen from its street; ``traffic`` is the heading of the lane next to it, radians."""

    area: _Area
    side: Side

    @property
    def length(self) -> float:
        return self.area.x1 - self.area.x0

    @property
    def traffic(self) -> float:
        return (np.pi, np.pi / 2, 0.0, -np.pi / 2)[self.side]

    @property
    def facing(self) -> float:
        """Heading from the kerb to the road."""
        return (-np.pi / 2, np.pi, np.pi / 2, 0.0)[self.side]

    def at(self, along: float, inwards: float) -> tuple[float, float]:
        """The place that far along the kerb (with the traffic) and off it."""
        x0, y0, x1, y1 = self.area
        return (
            (x1 - along, y0 + inwards),
            (x0 + inwards, y0 + along),
            (x0 + along, y1 - inwards),
            (x1 - inwards, y1 - along),
        )[self.side]


class _Layout:
    """Puts parts into one builder, in a fixed order of random numbers."""

    def __init__(self, rng: np.random.Generator, instances: Counter) -> None:
        self.builder = MeshBuilder()
        self.facades: list[Facade] = []
        self.lamps: list[tuple[float, float]] = []
        self._rng = rng
        self._instances = instances
        self._trees = [plants.tree(rng, rng.uniform(6, 9.5), rng.uniform(1.9, 2.7)) for _ in range(6)]
        self._far_trees = [plants.tree(rng, rng.uniform(7, 10), 2.6, 48) for _ in range(4)]
        self._bushes = [plants.bush(rng, 2.4, 0.9, 0.8) for _ in range(3)]
        self._cars = car_range()
        self._truck = truck(7.0, 2.3, 3.1, 1.9, (0.6, 0.6, 0.58))
        self._lamp, self._bench, self._bin = furniture.lamp_post(), furniture.bench(), furniture.litter_bin()
        self._bus_stop, self._bollard = furniture.bus_stop(), furniture.bollard()
        self._fence = furniture.fence(8.0)
        self._lights = [furniture.traffic_light(state) for state in range(3)]
        self._signs = {kind: [signs.sign(kind, rng) for _ in range(2)] for kind in (*signs.KINDS, "stop")}
        self._people = [person(rng.uniform(0, 6), look) for look in looks(rng, 8, PAINTS)]

    def ground(self) -> None:
        low, high = -OUTSKIRTS, BLOCKS * PITCH + OUTSKIRTS
        corners = [(low, low, 0), (high, low, 0), (high, high, 0), (low, high, 0)]
        self.builder.add(corners, [(0, 1, 2), (0, 2, 3)], Surface("road", Material.ROAD, (0.14, 0.14, 0.145)))

    def hills(self) -> None:
        """Hills and woods that close the view at the ends of the streets."""
        middle, distance = BLOCKS * PITCH / 2, BLOCKS * PITCH / 2 + 215
        for angle in np.linspace(0, 2 * np.pi, 40, endpoint=False):
            name = "terrain" if self._rng.random() < 0.3 else "vegetation"
            color = np.array([0.09, 0.15, 0.06]) * self._rng.uniform(0.8, 1.3)
            center = (middle + distance * np.cos(angle) * 1.15, middle + distance * np.sin(angle) * 1.15, -4)
            radii, surface = (70, 70, self._rng.uniform(18, 40)), Surface(name, Material.FOLIAGE, tuple(color))
            self.builder.ball(center, radii, surface, rng=self._rng, rough=0.08, grid=(12, 7))

    def block(self, i: int, j: int) -> None:
        area = _Area(i * PITCH + KERB, j * PITCH + KERB, (i + 1) * PITCH - KERB, (j + 1) * PITCH - KERB)
        outline = rounded(area[:2], area[2:], 4.0)
        self.builder.prism(outline, (0, PAVEMENT_HEIGHT), PAVING, KERBSTONE)
        depth = FRONT - KERB
        south = depth + (TRAM_SETBACK if j == TRAM_ROW else 0)
        if j == TRAM_ROW:
            self._tram_bed(i, area)
        inner = _Area(area.x0 + depth, area.y0 + south, area.x1 - depth, area.y1 - depth)
        park = (i, j) in PARKS or is_edge(i, j)
        if park:
            self._park(inner, edge=is_edge(i, j), fenced=in_sight(i, j) and not is_edge(i, j))
        else:
            self._houses(inner)
        if in_sight(i, j):
            for side in Side:
                self._furnish(_Kerb(area, side), park)

    def _tram_bed(self, i: int, area: _Area) -> None:
        bed = GRASS._replace(color=(0.13, 0.2, 0.06))
        rail = Surface("rail track", Material.RAIL, (0.2, 0.17, 0.15))
        self.builder.box((area.x0, TRAM_Y - 1.7, 0), (area.x1, TRAM_Y + 1.7, 0.16), bed)
        for y in (TRAM_Y - 0.72, TRAM_Y + 0.72):
            self.builder.box((i * PITCH, y - 0.04, 0), ((i + 1) * PITCH, y + 0.04, 0.19), rail)

    def _park(self, area: _Area, *, edge: bool, fenced: bool) -> None:
        """A lawn with a mound and trees."""
        rng, (x0, y0, x1, y1) = self._rng, area
        width, depth, (cx, cy) = x1 - x0, y1 - y0, ((x0 + x1) / 2, (y0 + y1) / 2)
        self.builder.box((x0, y0, 0), (x1, y1, 0.17), GRASS)
        mound = GRASS._replace(color=(0.15, 0.22, 0.07))
        self.builder.ball((cx, cy, -1.0), (width * 0.36, depth * 0.36, 4.2), mound, rng=rng, rough=0.03, grid=(18, 8))
        for _ in range(30 if edge else 26):
            x, y = rng.uniform(x0 + 3, x1 - 3), rng.uniform(y0 + 3, y1 - 3)
            off = ((x - cx) / width / 0.36) ** 2 + ((y - cy) / depth / 0.36) ** 2
            tree = self._far_trees[rng.integers(4)] if edge else self._trees[rng.integers(6)]
            self.builder.place(tree, Place(x, y, max(0.0, 3.2 * (1 - off)) - 0.2, rng.uniform(0, 2 * np.pi)))
        if fenced:
            along_x, along_y = (0.0, width), (np.pi / 2, depth)
            sides = ((x0, y0, *along_x), (x0, y1, *along_x), (x0, y0, *along_y), (x1, y0, *along_y))
            for x, y, yaw, length in sides:
                for k in range(int(length // 9)):
                    at = (x + np.cos(yaw) * 9 * k, y + np.sin(yaw) * 9 * k)
                    self.builder.place(self._fence, Place(*at, PAVEMENT_HEIGHT, yaw))

    def _houses(self, area: _Area) -> None:
        """Houses around a block, with openings between some; trees in the court."""
        for lot, opening in _lots(self._rng, area):
            if opening:
                self._opening(lot)
            else:
                self.facades.append(add_house(self.builder, self._rng, lot, len(self.facades) + 1))
        for _ in range(6):
            x, y = self._rng.uniform((area.x0 + 16, area.y0 + 16), (area.x1 - 16, area.y1 - 16))
            self.builder.place(self._far_trees[self._rng.integers(4)], Place(x, y))

    def _opening(self, lot: Lot) -> None:
        """Grass between two houses, behind a wall or a fence."""
        rng, (x0, y0, x1, y1, side) = self._rng, lot
        self.builder.box((x0, y0, 0), (x1, y1, 0.15), GRASS._replace(color=(0.14, 0.2, 0.07)))
        for k in range(2):
            at = (x0 + (x1 - x0) * (0.3 + 0.4 * k), y0 + (y1 - y0) * 0.5)
            self.builder.place(self._trees[rng.integers(6)], Place(*at, 0.0, float(k)))
        length = x1 - x0 if side.along_x else y1 - y0
        barrier = furniture.wall(length) if rng.random() < 0.6 else furniture.fence(length, 1.6)
        at = (x1 if side is Side.EAST else x0, y1 if side is Side.NORTH else y0)
        self.builder.place(barrier, Place(*at, PAVEMENT_HEIGHT, 0.0 if side.along_x else np.pi / 2))

    def _furnish(self, kerb: _Kerb, park: bool) -> None:
        """What stands along one kerb."""
        for along in np.arange(9, kerb.length - 6, 27.0):
            self._stand(self._lamp, kerb.at(along, 0.45), kerb.facing)
            self.lamps.append(kerb.at(along, 0.45 - 1.55))
        self._greenery(kerb, park)
        self._signals(kerb)
        if self._rng.random() < 0.3:
            self._stand(self._bus_stop, kerb.at(kerb.length * 0.42, 1.6), kerb.facing + np.pi / 2)
        self._parked(kerb)
        for _ in range(3):
            if self._rng.random() < 0.5:
                at = kerb.at(self._rng.uniform(6, kerb.length - 6), self._rng.uniform(1.0, 3.0))
                self._thing(self._people[self._rng.integers(8)], at, self._rng.uniform(0, 2 * np.pi))

    def _stand(self, part: Mesh, at: tuple[float, float], yaw: float) -> None:
        self.builder.place(part, Place(*at, PAVEMENT_HEIGHT, yaw))

    def _thing(
        self, part: Mesh, at: tuple[float, float], yaw: float, z: float = PAVEMENT_HEIGHT, painted: bool = False
    ) -> None:
        paint = PAINTS[self._rng.integers(len(PAINTS))] if painted else None
        self.builder.place(part, Place(*at, z, yaw, self._instances.next(), paint))

    def _greenery(self, kerb: _Kerb, park: bool) -> None:
        """Trees, and between them small things."""
        rng = self._rng
        planted = rng.random() < 0.9 and not park
        things: tuple[Callable[[_Kerb, float], None], ...] = (
            lambda kerb, along: self._stand(self._bin, kerb.at(along, 0.55), 0.0),
            lambda kerb, along: self._stand(self._bench, kerb.at(along, 2.9), kerb.facing + np.pi / 2),
            self._bicycle_rack,
            lambda kerb, along: self._thing(motorcycle(), kerb.at(along, 0.7), kerb.traffic + 0.3, painted=True),
            lambda kerb, along: self._stand(self._bushes[rng.integers(3)], kerb.at(along, 0.8), kerb.traffic),
        )
        for along in np.arange(14.0, kerb.length - 8, 9.0):
            if planted and rng.random() < 0.75:
                at = kerb.at(along, 0.9)
                self.builder.place(self._trees[rng.integers(6)], Place(*at, 0.1, rng.uniform(0, 2 * np.pi)))
            elif rng.random() < 0.5:
                things[rng.integers(len(things))](kerb, along)

    def _bicycle_rack(self, kerb: _Kerb, along: float) -> None:
        for k in range(3):
            self._thing(bicycle(), kerb.at(along + 0.7 * k, 0.8), kerb.facing + 0.15, painted=True)

    def _signals(self, kerb: _Kerb) -> None:
        """Signs along the street, and lights and bollards at its ends; all face the traffic of the lane beside them."""
        rng, length, towards = self._rng, kerb.length, kerb.traffic + np.pi
        for share in (0.3, 0.55, 0.8):
            if rng.random() < 0.8:
                kind = signs.KINDS[rng.integers(len(signs.KINDS))]
                at = kerb.at(length * share + rng.uniform(-3, 3), 0.35)
                self._stand(self._signs[kind][rng.integers(2)], at, towards)
        green = 0 if kerb.side in (Side.WEST, Side.EAST) else 2
        self._stand(self._lights[green], kerb.at(length - 2.6, 0.4), towards)
        last = "stop" if rng.random() < 0.4 else "priority"
        self._stand(self._signs[last][0], kerb.at(2.8, 0.4), towards)
        for along in (4.5, 6.0, length - 4.4, length - 5.8):
            self._stand(self._bollard, kerb.at(along, 0.3), 0.0)

    def _parked(self, kerb: _Kerb) -> None:
        rng = self._rng
        for along in np.arange(9.6, kerb.length - 10, 6.2):
            if rng.random() < 0.42:
                at = kerb.at(along, -(KERB - LANE) / 2 + 0.05)
                if rng.integers(24) == 0 and along + 8 < kerb.length - 12:
                    self._thing(self._truck, at, kerb.traffic, 0.0, painted=True)
                else:
                    yaw = kerb.traffic + rng.normal(0, 0.02)
                    self._thing(self._cars[rng.integers(5)], at, yaw, 0.0, painted=True)


def _lots(rng: np.random.Generator, area: _Area) -> Iterator[tuple[Lot, bool]]:
    """The lots around a block, and whether each is an opening."""
    x0, y0, x1, y1 = area
    for side in Side:
        start, end = (x0, x1) if side.along_x else (y0 + HOUSE_DEPTH, y1 - HOUSE_DEPTH)
        at = start
        while at < end - 6:
            width = min(rng.uniform(10, 19), end - at)
            if end - at - width < 6:
                width = end - at
            opening = bool(rng.random() < 0.16 and at > start + 8 and at + 8 < end - 10)
            width = 7.0 if opening else width
            corners = (
                (at, y0, at + width, y0 + HOUSE_DEPTH),
                (x0, at, x0 + HOUSE_DEPTH, at + width),
                (at, y1 - HOUSE_DEPTH, at + width, y1),
                (x1 - HOUSE_DEPTH, at, x1, at + width),
            )[side]
            yield Lot(*corners, side), opening
            at += width
