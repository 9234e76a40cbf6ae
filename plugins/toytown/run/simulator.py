"""The simulator: a town, its cameras, and what they see at any tick."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from plugins.toytown.looks.cg import CgLook
from plugins.toytown.looks.photo.look import PhotoLook
from plugins.toytown.run.setup import Setup
from plugins.toytown.town.surfaces import FloatArray
from plugins.toytown.town.town import Town
from plugins.toytown.town.traffic import ego_route
from plugins.toytown.view import truth
from plugins.toytown.view.cameras import MOUNTS, Lens, Mount, Pose
from plugins.toytown.view.moving import Moving
from plugins.toytown.view.scene import Scene
from plugins.toytown.view.view import View

SCATTER_SECONDS: Final = 1200.0
"""Scattered ticks lie within this time; the drive round the loop takes about a minute."""
_SCATTER_STREAM: Final = 4


class Simulator:
    """An embedded street simulator: ask for any tick, in any order. MissingExtraError without the ray caster.

    Example:
        >>> simulator = Simulator(Setup(seed=3, preset=DUSK))  # doctest: +SKIP
        >>> shot, = simulator.tick(100)  # doctest: +SKIP
        >>> shot.cg().shape, shot.semantic().dtype  # doctest: +SKIP
        ((256, 512, 3), dtype('uint8'))
    """

    def __init__(self, setup: Setup | None = None) -> None:
        self.setup = setup or Setup()
        town = Town.build(self.setup.seed, self.setup.traffic)
        self.scene = Scene(town, self.setup.preset, self.setup.backend)
        self.cg = CgLook(self.scene)
        self._photo: PhotoLook | None = None
        self._lenses = {fov: Lens(*self.setup.size, fov) for fov in {mount.fov for mount in self.setup.mounts}}

    @property
    def photo(self) -> PhotoLook:
        """The photo look; its textures are made when it is first asked for."""
        if self._photo is None:
            self._photo = PhotoLook(self.scene)
        return self._photo

    def time_of(self, number: int) -> float:
        """Simulator time of a tick, seconds."""
        if self.setup.scatter:
            rng = np.random.default_rng([self.setup.seed, _SCATTER_STREAM, number])
            return float(rng.uniform(0, SCATTER_SECONDS))
        return number * self.setup.step

    def tick(self, number: int) -> tuple[Shot, ...]:
        """What every camera sees at a tick; they share its number and time."""
        time = self.time_of(number)
        return tuple(self._shot(mount, number, time) for mount in self.setup.mounts)

    def shoot(self, pose: Pose, time: float, *, fov: float = MOUNTS["camera"].fov, name: str = "free") -> Shot:
        """What a camera sees from any pose (``(4, 4)`` camera to world), at any time in seconds; fov in degrees."""
        lens = self._lenses.setdefault(fov, Lens(*self.setup.size, fov))
        moving = Moving.near(self.scene, time, pose, lens)
        return Shot(self, None, name, 0, View.trace(self.scene, moving, lens, pose))

    def pose_of(self, mount: Mount, time: float) -> Pose:
        """Where a camera is at a time in seconds: camera to world."""
        return mount.pose(ego_route().at(time))

    def lens_of(self, mount: Mount) -> Lens:
        """Its intrinsics."""
        return self._lenses[mount.fov]

    def _shot(self, mount: Mount, number: int, time: float) -> Shot:
        pose, lens = self.pose_of(mount, time), self.lens_of(mount)
        moving = Moving.near(self.scene, time, pose, lens)
        return Shot(self, mount, mount.name, number, View.trace(self.scene, moving, lens, pose))


@dataclass(frozen=True, eq=False)
class Shot:
    """One camera's image of one tick, not yet drawn: ask for the looks and the ground truth that are wanted.

    The camera's ``mount`` is None where a pose was given.
    """

    simulator: Simulator
    mount: Mount | None
    camera: str
    number: int
    view: View

    @property
    def time(self) -> float:
        """Simulator time, seconds."""
        return self.view.time

    @property
    def pose(self) -> Pose:
        """Camera to world, ``(4, 4)``."""
        return self.view.pose

    @property
    def lens(self) -> Lens:
        """Intrinsics."""
        return self.view.lens

    def cg(self) -> npt.NDArray[np.uint8]:
        """The CG look, uint8 ``(H, W, 3)`` RGB."""
        return self.simulator.cg.render(self.view)

    def photo(self) -> npt.NDArray[np.uint8]:
        """Its photo twin, uint8 ``(H, W, 3)`` RGB."""
        return self.simulator.photo.render(self.view)

    def semantic(self) -> npt.NDArray[np.uint8]:
        """Class ids of the taxonomy ``toytown``, uint8 ``(H, W)``."""
        return truth.semantic(self.view)

    def instance(self) -> npt.NDArray[np.uint16]:
        """Class * 1000 + n, uint16 ``(H, W)``; n is 0 for what is not counted."""
        return truth.instances(self.view)

    def depth(self) -> FloatArray:
        """Planar depth in metres, inf = sky, float32 ``(H, W)``."""
        return truth.depth(self.view)

    def flow(self, seconds: float | None = None) -> FloatArray:
        """Optical flow to ``seconds`` later (None: one step), float32 ``(H, W, 2)``, pixels to the right and down.

        NaN where the point will be outside the image or hidden. A camera without a mount does not move.
        """
        time = self.time + (self.simulator.setup.step if seconds is None else seconds)
        pose = self.pose if self.mount is None else self.simulator.pose_of(self.mount, time)
        later = Moving.near(self.simulator.scene, time, pose, self.lens)
        return truth.flow(self.view, later, pose)
