"""Pedestrians and riders, in any phase of their stride."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from plugins.toytown.town.mesh import MeshBuilder, Place
from plugins.toytown.town.parts.cycles import bicycle, motorcycle
from plugins.toytown.town.surfaces import Color, Material, Mesh, Surface

SKIN: Final[tuple[Color, ...]] = ((0.5, 0.3, 0.2), (0.62, 0.42, 0.31), (0.2, 0.11, 0.07))
HAIR: Final[tuple[Color, ...]] = ((0.05, 0.03, 0.02), (0.25, 0.16, 0.07), (0.4, 0.39, 0.37))
SHOES: Final[Color] = (0.02, 0.02, 0.02)


@dataclass(frozen=True, slots=True)
class Look:
    """What a person wears; ``height`` in metres."""

    coat: Color = (0.3, 0.1, 0.1)
    legs: Color = (0.05, 0.05, 0.1)
    skin: Color = SKIN[0]
    hair: Color = HAIR[0]
    height: float = 1.75


def person(phase: float, look: Look, class_name: str = "person", *, sitting: bool = False) -> Mesh:
    """A figure in one phase (radians) of its stride; its triangles are the same in every phase."""
    figure = _Figure(look, class_name, sitting)
    for side in (1, -1):
        figure.leg(side, phase)
        figure.arm(side, phase)
    figure.body()
    return figure.builder.mesh()


class _Figure:
    """Builds one person; points are given for a height of 1.75 m and scaled."""

    def __init__(self, look: Look, class_name: str, sitting: bool) -> None:
        self.builder = MeshBuilder()
        self._scale = look.height / 1.75
        self._sitting = sitting
        self._coat = Surface(class_name, Material.CLOTH, look.coat)
        self._legs = Surface(class_name, Material.CLOTH, look.legs)
        self._skin = Surface(class_name, Material.PLAIN, look.skin)
        self._hair = Surface(class_name, Material.PLAIN, look.hair)
        self._shoes = Surface(class_name, Material.RUBBER, SHOES)

    def leg(self, side: int, phase: float) -> None:
        """One leg: 1 is left, -1 right."""
        swing = 0.32 * np.sin(phase) * side
        hip = np.array([0, side * 0.09, 0.9])
        if self._sitting:
            knee = np.add(hip, [0.38, 0, -0.18 + 0.1 * side * np.sin(phase)])
            foot = np.add(knee, [-0.1, 0, -0.42])
        else:
            bend = 0.25 * (1 - np.cos(phase + (side < 0) * np.pi))
            knee = np.add(hip, [0.45 * np.sin(swing), 0, -0.43 * np.cos(swing)])
            foot = np.add(knee, [0.45 * np.sin(swing - bend), 0, -0.43])
        self._limb(hip, knee, (0.085, 0.065), self._legs)
        self._limb(knee, foot, (0.065, 0.05), self._legs)
        low, high = (np.add(foot, corner) * self._scale for corner in ([-0.07, -0.05, -0.03], [0.2, 0.05, 0.04]))
        self.builder.box(low, high, self._shoes, bottom=True)

    def arm(self, side: int, phase: float) -> None:
        """One arm, swinging against the leg of its side."""
        swing = 0.32 * np.sin(phase) * side
        if self._sitting:
            shoulder = np.array([0.12, side * 0.21, 1.4])
            elbow = np.add(shoulder, [0.25, 0, -0.2])
            hand = np.add(elbow, [0.22, 0, -0.06])
        else:
            shoulder = np.array([0, side * 0.21, 1.4])
            elbow = np.add(shoulder, [-0.28 * np.sin(swing), 0.03 * side, -0.28])
            hand = np.add(elbow, [-0.15 * np.sin(swing) + 0.06, 0, -0.24])
        self._limb(shoulder, elbow, (0.06, 0.05), self._coat, sides=5)
        self._limb(elbow, hand, (0.05, 0.035), self._coat, sides=5)
        self.builder.ball(hand * self._scale, 0.045 * self._scale, self._skin, grid=(5, 3))

    def body(self) -> None:
        """Trunk, neck and head."""
        lean = 0.14 if self._sitting else 0.0
        self._limb([0, 0, 0.82], [lean, 0, 1.15], (0.15, 0.165), self._coat, sides=8)
        self._limb([lean, 0, 1.15], [lean, 0, 1.45], (0.165, 0.17), self._coat, sides=8)
        self._ball([lean, 0, 1.44], [0.12, 0.2, 0.09], self._coat)
        self._limb([lean, 0, 1.45], [lean + 0.02, 0, 1.58], (0.055, 0.055), self._skin)
        self._ball([lean + 0.02, 0, 1.65], [0.1, 0.085, 0.12], self._skin)
        self._ball([lean - 0.005, 0, 1.69], [0.105, 0.09, 0.1], self._hair)

    def _limb(self, start: Any, end: Any, radii: tuple[float, float], surface: Surface, sides: int = 6) -> None:
        s = self._scale
        scaled = (radii[0] * s, radii[1] * s)
        self.builder.tube(np.asarray(start) * s, np.asarray(end) * s, scaled, surface, sides=sides)

    def _ball(self, center: Any, radii: Any, surface: Surface) -> None:
        self.builder.ball(np.asarray(center) * self._scale, np.asarray(radii) * self._scale, surface)


def rider(phase: float, look: Look, *, motor: bool = False) -> Mesh:
    """A person on a bicycle, or on a motorcycle; the frame's paint is set where it is placed."""
    builder = MeshBuilder()
    builder.place(motorcycle() if motor else bicycle(), Place(0, 0))
    builder.place(person(phase, look, "rider", sitting=True), Place(-0.25, 0, 0.02))
    return builder.mesh()


def looks(rng: np.random.Generator, count: int, coats: tuple[Color, ...]) -> tuple[Look, ...]:
    """As many different people."""
    trousers: tuple[Color, ...] = ((0.03, 0.03, 0.05), (0.05, 0.07, 0.15), (0.15, 0.12, 0.08), (0.08, 0.08, 0.08))
    order = rng.permutation(len(coats))
    return tuple(
        Look(
            coats[order[k % len(coats)]],
            trousers[rng.integers(len(trousers))],
            SKIN[rng.integers(len(SKIN))],
            HAIR[rng.integers(len(HAIR))],
            float(rng.uniform(1.55, 1.9)),
        )
        for k in range(count)
    )


def stride(look: Look, phases: int) -> tuple[Mesh, ...]:
    """A walking person in equally spaced phases of the stride."""
    return tuple(person(phase, look) for phase in _circle(phases))


def ride(look: Look, phases: int, *, motor: bool = False) -> tuple[Mesh, ...]:
    """A rider in equally spaced phases of pedalling; on a motorcycle, the one phase there is."""
    return tuple(rider(phase, look, motor=motor) for phase in _circle(1 if motor else phases))


def _circle(phases: int) -> npt.NDArray[np.float64]:
    return np.linspace(0, 2 * np.pi, phases, endpoint=False)
