"""A town: what stands, what moves, and the ego vehicle's way through it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from plugins.toytown.town.actors import Actor
from plugins.toytown.town.buildings import Facade
from plugins.toytown.town.layout import Counter, build_static_town
from plugins.toytown.town.surfaces import Mesh
from plugins.toytown.town.traffic import Traffic, make_actors


@dataclass(frozen=True, slots=True, eq=False)
class Town:
    """A seeded town.

    Attributes:
        seed: What it was drawn from; the streets do not depend on the traffic.
        traffic: How much moves.
        static: What does not move.
        facades: Houses' fronts, by house number minus 1.
        lamps: Places of the street lamps' lights, ``(n, 2)``, metres.
        actors: What moves, but for the ego vehicle.
    """

    seed: int
    traffic: Traffic
    static: Mesh
    facades: tuple[Facade, ...]
    lamps: npt.NDArray[np.float64]
    actors: tuple[Actor, ...]

    @classmethod
    def build(cls, seed: int, traffic: Traffic = Traffic.NORMAL) -> Town:
        """Draws a town: the same seed gives the same one on any machine."""
        instances = Counter()
        streets, moving = (np.random.default_rng([seed, stream]) for stream in range(2))
        static = build_static_town(streets, instances)
        actors = make_actors(moving, traffic, instances)
        return cls(seed, traffic, static.mesh, static.facades, static.lamps, tuple(actors))
