"""The CG look: flat colours, road marks, windows, hard shadows on the ground, haze. One ray a pixel."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from plugins.toytown.looks.facades import FacadeView, facade_view
from plugins.toytown.town.plan import ASPHALT, LINE, MANHOLE, PARKING
from plugins.toytown.town.surfaces import BoolArray, Color, FloatArray, Material, Tables
from plugins.toytown.view.presets import CgLight, Preset
from plugins.toytown.view.scene import SHADOW_HEIGHT, Scene
from plugins.toytown.view.vectors import along
from plugins.toytown.view.view import Pixels, View

Packed = npt.NDArray[np.uint32]
"""Colours as one number each: they gather several times faster than three bytes."""
MARK_COLORS: Final[dict[int, Color]] = {
    ASPHALT: (0.13, 0.13, 0.13),
    PARKING: (0.16, 0.155, 0.15),
    LINE: (0.75, 0.75, 0.75),
    MANHOLE: (0.05, 0.05, 0.05),
}
PANE: Final[Color] = (0.048, 0.077, 0.108)
PLINTH: Final[Color] = (0.062, 0.055, 0.048)
LAMP_LIGHT: Final = 1.3
"""Lamps shine by themselves."""
SHADOW_REACH: Final = 40.0
"""Actors cast shadows on ground no farther away than this, metres."""


class CgLook:
    """Draws views in the CG look.

    Args:
        scene: The town; its static colours are computed once.
    """

    def __init__(self, scene: Scene) -> None:
        self._preset = scene.preset
        self._static = _lit(scene.tables, scene.preset)
        up = np.array([[0, 0, 1]], np.float32)
        flat = np.array([MARK_COLORS[code] for code in sorted(MARK_COLORS)], np.float32)
        self._marks = _pack(_shade(flat, np.repeat(up, len(flat), 0), self._preset))
        side = np.array([[0.7, 0.7, 0]], np.float32)
        self._pane, self._plinth = (
            int(_pack(_shade(np.array([color], np.float32), side, self._preset))[0]) for color in (PANE, PLINTH)
        )

    def render(self, view: View) -> npt.NDArray[np.uint8]:
        """uint8 ``(H, W, 3)`` RGB."""
        packed = self._static.take(view.rows)
        packed[view.moving_pixels] = _lit(view.moving.tables, self._preset).take(view.moving_rows)
        packed[view.ground.pixels] = self._marks.take(view.ground.codes)
        self._draw_windows(view, packed)
        colors = packed.view(np.uint8).reshape(-1, 4)
        return self._through_air(view, colors, self._dimming(view)).reshape(*view.shape, 3)

    def _draw_windows(self, view: View, packed: Packed) -> None:
        seen = facade_view(view)
        window = _windows(seen)
        packed[seen.pixels[window]] = self._pane
        packed[seen.pixels[~seen.upper & ~window & (seen.z < 0.6)]] = self._plinth

    def _dimming(self, view: View) -> FloatArray:
        """What the sun's shadow leaves of each pixel's colour, ``(N,)``."""
        dim = np.ones(len(view.depth), np.float32)
        shadows = view.scene.shadows
        if shadows is None:
            return dim
        pixels, x, y = _flat_ground(view)
        shaded = shadows.at(x, y)
        if view.moving.caster is not None:
            lit = np.flatnonzero(~shaded & (view.depth.take(pixels) < SHADOW_REACH))
            origins = np.stack([x[lit], y[lit], np.full(len(lit), 0.02, np.float32)], 1)
            toward = np.broadcast_to(self._preset.sun_direction, origins.shape)
            shaded[lit] = view.moving.caster.blocked(origins, toward)
        dim[pixels[shaded]] = self._preset.cg.shadow
        return dim

    def _through_air(self, view: View, colors: npt.NDArray[np.uint8], dim: FloatArray) -> npt.NDArray[np.uint8]:
        """Haze over what is far, and the sky's gradient; uint8 ``(N, 3)``."""
        light: CgLight = self._preset.cg
        # exp(-inf) is 0 in OpenCV, too; four times faster than numpy's.
        clear = np.asarray(cv2.exp(view.depth * np.float32(-1 / light.haze_metres)), np.float32).ravel()
        veil = np.float32(1) - clear
        clear = clear * dim
        height = np.clip(view.directions[:, 2] * np.float32(2), 0, 1)
        out = np.empty((len(clear), 3), np.uint8)
        for channel in range(3):
            value = colors[:, channel] * clear + veil * np.float32(light.haze[channel])
            low, high = light.horizon[channel], light.zenith[channel]
            np.copyto(value, np.float32(low) + height * np.float32(high - low), where=view.sky)
            out[:, channel] = np.minimum(value, 255)
        return out


def _flat_ground(view: View) -> tuple[Pixels, FloatArray, FloatArray]:
    """Pixels of road, pavement and level grass, and their x and y."""
    road = view.ground
    more = np.flatnonzero((view.materials == Material.SIDEWALK) | (view.materials == Material.GRASS))
    points = view.points(more)
    level = points[:, 2] < SHADOW_HEIGHT  # the map knows nothing of mounds: it lies inside them
    more, (x, y) = more[level], points[level, :2].T
    return np.r_[road.pixels, more], np.r_[road.x, x], np.r_[road.y, y]


def _windows(seen: FacadeView) -> BoolArray:
    """Which facade pixels are window: a grid above, a shop front below."""
    across = np.abs(seen.across) < seen.facade[:, 4] / 2
    above = np.abs(seen.up) < seen.facade[:, 5] / 2
    shop = (seen.z > 0.7) & (seen.z < seen.facade[:, 2] - 1.1)
    return np.asarray(across & np.where(seen.upper, above, shop))


def _lit(tables: Tables, preset: Preset) -> Packed:
    """The colour of each triangle under this light."""
    colors = _shade(tables.albedo, tables.normal, preset)
    lamps = tables.material == Material.LAMP
    colors[lamps] = np.minimum(255 * np.clip(tables.albedo[lamps] * LAMP_LIGHT, 0, 1) ** (1 / 2.2), 255)
    return _pack(colors)


def _shade(albedo: FloatArray, normal: FloatArray, preset: Preset) -> npt.NDArray[np.uint8]:
    """Lambert's law on flat colours, and the usual gamma; uint8 ``(T, 3)``."""
    light = preset.cg
    facing = np.maximum(along(normal, preset.sun_direction), 0)[:, None]
    received = np.add(light.ambient, light.overhead * normal[:, 2:]) + facing * np.array(light.sun)
    return np.asarray(255 * np.clip(albedo * received * np.float32(1.15), 0, 1) ** np.float32(1 / 2.2), np.uint8)


def _pack(colors: npt.NDArray[np.uint8]) -> Packed:
    four = np.zeros((len(colors), 4), np.uint8)
    four[:, :3] = colors
    return four.view(np.uint32).ravel()
