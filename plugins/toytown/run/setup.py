"""What a simulation is made of. Imports neither OpenCV nor a ray caster."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from plugins.toytown.town.traffic import Traffic
from plugins.toytown.view.cameras import MOUNTS, Mount
from plugins.toytown.view.presets import NOON, Preset
from plugins.toytown.view.raycast import Backend

DEFAULT_SIZE: Final = (512, 256)
DEFAULT_STEP: Final = 0.05
DEFAULT_RATE: Final = 20.0


class Look(StrEnum):
    """How a frame is drawn."""

    CG = "cg"
    PHOTO = "photo"


@dataclass(frozen=True, slots=True)
class Setup:
    """What a simulation is made of.

    Attributes:
        seed: The same seed gives the same town and the same images.
        preset: Weather and light.
        traffic: How much moves.
        size: Width and height of the images, pixels.
        mounts: The cameras.
        step: Seconds from tick to tick.
        scatter: Every tick lies at a random time of its own, drawn from the seed: for training sets.
        backend: What casts the rays.
    """

    seed: int = 0
    preset: Preset = NOON
    traffic: Traffic = Traffic.NORMAL
    size: tuple[int, int] = DEFAULT_SIZE
    mounts: tuple[Mount, ...] = (MOUNTS["camera"],)
    step: float = DEFAULT_STEP
    scatter: bool = False
    backend: Backend = Backend.EMBREEX
