"""Ground truth of a view: class ids, instances, depth, and where everything will be a moment later."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from plugins.toytown.town.plan import LINE
from plugins.toytown.town.surfaces import CLASS_ID, BoolArray, FloatArray
from plugins.toytown.view.cameras import Pose
from plugins.toytown.view.moving import Moving
from plugins.toytown.view.vectors import turned
from plugins.toytown.view.view import View

SKY_DISTANCE: Final = 1e5
"""The sky turns with the camera and does not come nearer, metres."""
NEAR: Final = 0.05
"""What comes closer to the camera than this is no longer visible, metres."""
SLACK: Final = 0.001
SLACK_SHARE: Final = 2e-5
"""A point counts as hidden when something is before it by more than this: metres, and share of its distance."""


def semantic(view: View) -> npt.NDArray[np.uint8]:
    """Class ids of the taxonomy ``toytown``, uint8 ``(H, W)``."""
    ids = view.gather("class_id")
    ids[view.ground.pixels[view.ground.codes == LINE]] = CLASS_ID["road line"]
    return ids.reshape(view.shape)


def instances(view: View) -> npt.NDArray[np.uint16]:
    """Class * 1000 + n, uint16 ``(H, W)``; n counts things from 1 and is 0 for all else, road lines are road."""
    classes = view.gather("class_id").astype(np.uint16)
    return np.asarray(classes * np.uint16(1000) + view.gather("instance")).reshape(view.shape)


def depth(view: View) -> FloatArray:
    """Planar depth in metres, inf = sky, float32 ``(H, W)``."""
    return view.depth.reshape(view.shape)


def flow(view: View, later: Moving, pose: Pose) -> FloatArray:
    """Forward optical flow: where what each pixel sees will be in the camera's image at a later moment.

    Exact for what is fixed, drives and walks, and for the sky.

    Args:
        view: What is seen now.
        later: The actors near the camera at the later moment.
        pose: The camera then.

    Returns:
        float32 ``(H, W, 2)``, pixels to the right and down; NaN where it will be outside the image or hidden.
    """
    origin = pose[:3, 3].astype(np.float32)
    toward = _toward_later(view, later.time, origin)
    seen = turned(toward, pose[:3, :3])
    size = np.array([view.lens.width, view.lens.height], np.float32)
    focal = np.float32(view.lens.focal)
    there = seen[:, :2] / np.maximum(seen[:, 2:], np.float32(1e-3)) * focal + size / 2
    inside = (seen[:, 2] > NEAR) & (there >= 0).all(1) & (there < size).all(1)
    visible = inside.copy()
    visible[inside] = ~_hidden(view, later, origin, toward[inside])
    here = view.lens.rays[..., :2].reshape(-1, 2) * focal + size / 2
    moved = there - here
    moved[~visible] = np.nan
    return np.asarray(moved, np.float32).reshape(*view.shape, 2)


def _toward_later(view: View, time: float, origin: FloatArray) -> FloatArray:
    """The way from the later camera's ``origin`` to what each pixel sees now, at the later time, float32 ``(N, 3)``.

    Differences, not places: float32 is 0.03 mm at the far end of the town, enough to miss people's small triangles.
    """
    reach = np.where(view.sky, np.float32(SKY_DISTANCE), view.depth)
    toward = view.directions * reach[:, None] + (view.origin - origin)
    moving = view.moving
    owners = moving.owner.take(view.moving_rows)
    for owner in np.unique(owners):
        mine = owners == owner
        actor = view.scene.town.actors[moving.actors[owner]]
        triangles = actor.triangles.take(moving.local.take(view.moving_rows[mine]), 0)
        corners = actor.vertices(time).take(triangles, 0) - origin
        pixels = view.moving_pixels[mine]
        second, third = view.uv[pixels].T
        weights = np.stack([1 - second - third, second, third], 1)
        toward[pixels] = np.einsum("nck,nc->nk", corners, weights)
    return np.asarray(toward, np.float32)


def _hidden(view: View, later: Moving, origin: FloatArray, toward: FloatArray) -> BoolArray:
    """Whether something hides each point as seen from the later camera."""
    distance = np.linalg.norm(toward, axis=1, keepdims=True)
    short = (toward * (1 - SLACK_SHARE - SLACK / np.maximum(distance, 2 * SLACK))).astype(np.float32)
    hidden = view.scene.caster.blocked(origin, short, 1.0)
    if later.caster is not None:
        hidden |= later.caster.blocked(origin, short, 1.0)
    return np.asarray(hidden)
