"""What cameras see of toytown, the embedded simulator: the stand-in's road lies on one of its streets."""

from __future__ import annotations

import functools
from collections.abc import Hashable
from dataclasses import replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from plugins.toytown.looks.cg import CgLook
from plugins.toytown.town.plan import LOOP_Y, PITCH
from plugins.toytown.town.surfaces import TAXONOMY
from plugins.toytown.town.town import Town
from plugins.toytown.town.traffic import VOLUMES, Traffic
from plugins.toytown.view import truth
from plugins.toytown.view.cameras import Lens as ToytownLens
from plugins.toytown.view.cameras import Pose
from plugins.toytown.view.moving import Moving
from plugins.toytown.view.scene import Scene
from plugins.toytown.view.view import View
from sim_bridge.pixels.labels import Taxonomy, taxonomy
from tests.carla_server.blueprints import CameraKind, Lens
from tests.carla_server.geometry import camera_to_world
from tests.carla_server.pictures import Moment, Pixels, Shot, encode_depth, flat, in_red, tag_map

ORIGIN: Final = (20.0, LOOP_Y[1] * PITCH, 0.0)
"""Where the stand-in's origin lies in the town: the road's centre line is a street's."""
VIEWS: Final = 4
"""Views kept for the other cameras of the same mount; each takes some 5 MB at 512x256."""
PICTURES_PER_TICK: Final = 8
"""So many pictures of a tick are kept."""


class ToytownPictures:
    """Toytown in its CG look, from wherever a camera is; all kinds of one mount show the same scene.

    Vehicles that a client spawns are not drawn, and the traffic of the street's right-hand lane is left out: it would
    drive through them.

    Args:
        tags: The server's taxonomy.
        seed: The town's.
        ring: After so many ticks the pictures of a mount repeat, whatever its pose is then; 0 draws every tick anew.

    Raises:
        MissingExtraError: The ray caster is not installed.
    """

    kinds = frozenset(CameraKind)

    def __init__(self, tags: Taxonomy, *, seed: int = 0, ring: int = 0) -> None:
        town = Town.build(seed, Traffic.NORMAL)
        same_lane = len(VOLUMES[Traffic.NORMAL].ahead)
        self._scene = Scene(replace(town, actors=town.actors[same_lane:]))
        self._look = CgLook(self._scene)
        self._table = tag_map(taxonomy(TAXONOMY), tags)
        self._ring = ring
        self._fixed: dict[Hashable, tuple[Moment, Moment]] = {}
        self._view = functools.lru_cache(VIEWS)(self._trace)
        self._drawn = functools.lru_cache(max(1, ring) * PICTURES_PER_TICK)(self._draw)

    def paint(self, shot: Shot) -> Pixels:
        """The pixels of one picture."""
        now, before = shot.now, shot.before
        if self._ring:
            if len(self._fixed) > self._ring * PICTURES_PER_TICK:
                self._fixed.clear()
            now, before = self._fixed.setdefault((shot.frame % self._ring, shot.mount, shot.lens), (now, before))
        return (self._drawn(shot.kind, now, before, shot.lens),)

    def _draw(self, kind: CameraKind, now: Moment, before: Moment, lens: Lens) -> memoryview:
        view = self._view(now, lens)
        match kind:
            case CameraKind.RGB:
                colors = self._look.render(view)
                pixels: npt.NDArray[Any] = in_red(colors[..., 0], colors[..., 1], colors[..., 2])
            case CameraKind.SEMANTIC:
                pixels = in_red(self._tags_of(view))
            case CameraKind.INSTANCE:
                numbers = truth.instances(view) % 1000
                low, high = (np.asarray(part, np.uint8) for part in (numbers & 255, numbers >> 8))
                pixels = in_red(self._tags_of(view), low, high)
            case CameraKind.DEPTH:
                pixels = encode_depth(truth.depth(view))
            case CameraKind.OPTICAL_FLOW:
                pixels = self._flow(view, before)
        return flat(pixels)

    def _trace(self, moment: Moment, lens: Lens) -> View:
        pose, eye = in_town(moment), ToytownLens(lens.width, lens.height, lens.fov)
        return View.trace(self._scene, Moving.near(self._scene, moment.time, pose, eye), eye, pose)

    def _tags_of(self, view: View) -> npt.NDArray[np.uint8]:
        return self._table.apply(truth.semantic(view)).labels

    def _flow(self, view: View, before: Moment) -> npt.NDArray[np.float32]:
        """Motion since the tick before in shares of the picture's size, as CARLA's documentation has it; else 0."""
        pose = in_town(before)
        earlier = Moving.near(self._scene, before.time, pose, view.lens)
        size = np.array([view.lens.width, view.lens.height], np.float32)
        return np.asarray(np.nan_to_num(-truth.flow(view, earlier, pose) / size, nan=0.0), np.float32)


def in_town(moment: Moment) -> Pose:
    """A camera's pose in the town's coordinates."""
    pose = camera_to_world(moment.pose)
    pose[:3, 3] += ORIGIN
    return pose
