"""Who drives, cycles and walks, and where. Nobody collides: each kind has a strip of its own."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from enum import StrEnum
from typing import Final, NamedTuple

import numpy as np

from plugins.toytown.town.actors import Actor, Motion
from plugins.toytown.town.layout import PAINTS, Counter
from plugins.toytown.town.parts.people import looks, ride, stride
from plugins.toytown.town.parts.vehicles import car_range, coach, truck
from plugins.toytown.town.plan import BLOCKS, KERB, LOOP_X, LOOP_Y, PAVEMENT_HEIGHT, PITCH, TRAM_Y
from plugins.toytown.town.route import Rectangle, Route, Stand
from plugins.toytown.town.surfaces import Color, Mesh

BUS_PAINT: Final[Color] = (0.55, 0.42, 0.04)
TRAM_PAINT: Final[Color] = (0.6, 0.08, 0.06)
TRAM_SPEED: Final = 9.0
TRAM_TURN_ROUND: Final = 200.0
"""How far beyond the town the tram goes, metres."""
WALKER_LOOKS: Final = 8
WALKER_PHASES: Final = 12
RIDER_PHASES: Final = 8
STRIDE: Final = 1.4
"""Metres that a person walks in one cycle of its legs."""
CYCLING_PACE: Final = 1.0


class Traffic(StrEnum):
    """How much moves."""

    SPARSE = "sparse"
    NORMAL = "normal"
    DENSE = "dense"


class Volume(NamedTuple):
    """How many of each kind; ``ahead`` are the gaps in seconds of those that drive the ego vehicle's way."""

    ahead: tuple[float, ...]
    oncoming: int
    riders: int
    walkers: int
    trams: tuple[float, ...]


VOLUMES: Final[dict[Traffic, Volume]] = {
    Traffic.SPARSE: Volume((7.0, 13.0, 31.0), 5, 3, 30, (0.0,)),
    Traffic.NORMAL: Volume((2.6, 7.0, 13.0, 20.0, 31.0, 44.0), 12, 7, 80, (0.0, 30.0, 55.0)),
    Traffic.DENSE: Volume(
        (2.6, 5.5, 9.0, 13.0, 17.0, 22.0, 27.0, 32.0, 38.0, 44.0, 50.0), 20, 12, 160, (0.0, 30.0, 55.0)
    ),
}


@functools.cache
def ego_route() -> Route:
    """The ego vehicle's way round its loop, on the right-hand lane."""
    return _around_loop(-1.6, radius=10.0, clockwise=True, speed=8.5, turn_speed=5.0)


def _around_loop(outset: float, *, radius: float, clockwise: bool, speed: float, turn_speed: float) -> Route:
    low = (LOOP_X[0] * PITCH - outset, LOOP_Y[0] * PITCH - outset)
    high = (LOOP_X[1] * PITCH + outset, LOOP_Y[1] * PITCH + outset)
    return Route(Rectangle(low, high, radius), clockwise=clockwise, speed=speed, turn_speed=turn_speed)


def make_actors(rng: np.random.Generator, traffic: Traffic, instances: Counter) -> list[Actor]:
    """Everything that moves but the ego vehicle, drawn from ``rng``."""
    volume = VOLUMES[traffic]
    fleet = _Fleet(rng, instances)
    fleet.ahead(volume.ahead)
    fleet.oncoming(volume.oncoming)
    fleet.riders(volume.riders)
    fleet.trams(volume.trams)
    fleet.walkers(volume.walkers)
    return fleet.actors


class _Fleet:
    """Makes the actors, in a fixed order of random numbers."""

    def __init__(self, rng: np.random.Generator, instances: Counter) -> None:
        self.actors: list[Actor] = []
        self._rng, self._instances = rng, instances
        self._cars = car_range()
        self._truck = truck(8.0, 2.4, 3.3, 2.0, (0.7, 0.7, 0.66))
        self._bus = coach(11.0, 2.5, 3.1, (1.35, 2.55), "bus")

    def _add(
        self,
        shapes: Sequence[Mesh],
        motion: Motion,
        *,
        height: float = 0.0,
        paint: Color | None = None,
        pace: float = 0.0,
    ) -> None:
        number = self._instances.next()
        self.actors.append(Actor(shapes, motion, number, height=height, paint=paint, pace=pace))

    def _paint(self) -> Color:
        return PAINTS[self._rng.integers(len(PAINTS))]

    def ahead(self, gaps: Sequence[float]) -> None:
        """Those before the ego vehicle, by seconds; the third is a truck."""
        for k, gap in enumerate(gaps):
            shape = self._truck if k == 2 else self._cars[k % len(self._cars)]
            self._add([shape], _after(ego_route(), gap), paint=self._paint())

    def oncoming(self, count: int) -> None:
        route = _around_loop(1.7, radius=12.0, clockwise=False, speed=8.5, turn_speed=5.5)
        for k in range(count):
            start = route.period * (k + self._rng.uniform(-0.2, 0.2)) / count
            if k % 5 == 1:
                self._add([self._bus], _after(route, start), paint=BUS_PAINT)
            else:
                shape = self._truck if k % 12 == 3 else self._cars[self._rng.integers(len(self._cars))]
                self._add([shape], _after(route, start), paint=self._paint())

    def riders(self, count: int) -> None:
        """Cyclists, every third on a motorcycle, between the lane and the parked cars."""
        route = _around_loop(-2.95, radius=8.0, clockwise=True, speed=4.5, turn_speed=3.5)
        people = looks(self._rng, 4, PAINTS)
        shapes = [[ride(look, RIDER_PHASES, motor=motor) for look in people] for motor in (False, True)]
        for k in range(count):
            start = route.period * (k + 0.3) / count
            self._add(shapes[k % 3 == 2][k % 4], _after(route, start), paint=self._paint(), pace=CYCLING_PACE)

    def trams(self, starts: Sequence[float]) -> None:
        shape = coach(24.0, 2.5, 3.5, (1.4, 2.7), "train")
        for start in starts:
            self._add([shape], _tram(start), height=0.17, paint=TRAM_PAINT)

    def walkers(self, count: int) -> None:
        """People who walk round the blocks next to the ego vehicle's loop."""
        people = looks(self._rng, WALKER_LOOKS, PAINTS)
        shapes = [stride(look, WALKER_PHASES) for look in people]
        for _ in range(count):
            self._walker(int(self._rng.integers(WALKER_LOOKS)), shapes)

    def _walker(self, look: int, shapes: Sequence[Sequence[Mesh]]) -> None:
        rng = self._rng
        block = (int(rng.integers(LOOP_X[0] - 1, LOOP_X[1] + 1)), int(rng.integers(LOOP_Y[0] - 1, LOOP_Y[1] + 1)))
        route = _pavement(block, float(rng.choice((1.3, 1.7, 2.1, 2.5))), bool(rng.random() < 0.5))
        speed = rng.uniform(1.1, 1.6)
        motion = _after(route, rng.uniform(0, route.period), speed)
        self._add(shapes[look], motion, height=PAVEMENT_HEIGHT, pace=speed / STRIDE)


@functools.cache
def _pavement(block: tuple[int, int], off: float, clockwise: bool) -> Route:
    """The way round a block that far from its kerb, at 1 m/s."""
    low = (block[0] * PITCH + KERB + off, block[1] * PITCH + KERB + off)
    high = ((block[0] + 1) * PITCH - KERB - off, (block[1] + 1) * PITCH - KERB - off)
    return Route(Rectangle(low, high, 3.0), clockwise=clockwise, speed=1.0, step=0.5, smooth=3)


def _after(route: Route, start: float, speed: float = 1.0) -> Motion:
    return lambda time: route.at(time * speed + start)


def _tram(start: float) -> Motion:
    """Through the town and beyond it, again and again."""
    way = BLOCKS * PITCH + 2 * TRAM_TURN_ROUND
    return lambda time: Stand((time + start) * TRAM_SPEED % way - TRAM_TURN_ROUND, TRAM_Y, 0.0)
