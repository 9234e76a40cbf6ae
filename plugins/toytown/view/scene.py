"""A town ready for casting rays: tables of its triangles, ray caster, and what the light does to it for good."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from plugins.toytown.town.plan import BLOCKS, PITCH, road_marks
from plugins.toytown.town.surfaces import CLASS_ID, FloatArray, Material, Tables, make_tables
from plugins.toytown.town.town import Town
from plugins.toytown.view.presets import NOON, Preset
from plugins.toytown.view.raycast import Backend, Caster, caster_factory

SHADOW_METRES: Final = 0.25
"""Side of one element of the shadow map."""
SHADOW_HEIGHT: Final = 0.2
"""The map lies just above the pavement, metres."""
_ROWS_AT_ONCE: Final = 128


class Scene:
    """Everything of a town that stays the same from frame to frame; read-only once made.

    Attributes:
        make_caster: Makes a caster of further triangles.
        caster: Of the static triangles.
        tables: Their attributes; the last row, :attr:`sky_row`, is the sky's.
        marks: What lies on one period of the road, see :func:`~plugins.toytown.town.plan.road_marks`.
        facades: float32 ``(houses + 1, 8)``, fields of :class:`~plugins.toytown.town.buildings.Facade` by house number.
        shadows: Which ground lies in the sun's shadow; None where the preset has no shadows.

    Raises:
        MissingExtraError: The backend's package is not installed.
    """

    def __init__(self, town: Town, preset: Preset = NOON, backend: Backend = Backend.EMBREEX) -> None:
        self.town = town
        self.preset = preset
        self.make_caster = caster_factory(backend)
        self.caster = self.make_caster(town.static.vertices, town.static.triangles)
        self.tables = _with_sky(make_tables(town.static))
        self.marks = road_marks()
        self.facades = np.array([(1.0,) * 8, *town.facades], np.float32)
        self.shadows = None if preset.cg.shadow == 1 else ShadowMap(self.caster, preset.sun_direction)

    @property
    def sky_row(self) -> int:
        """The row of :attr:`tables` for rays that meet nothing."""
        return len(self.tables.class_id) - 1


class ShadowMap:
    """Which parts of the ground the static town keeps the sun from, cast once from above."""

    def __init__(self, caster: Caster, sun: FloatArray) -> None:
        self._low = -20.0
        self._side = int((BLOCKS * PITCH + 40) / SHADOW_METRES)
        along = (self._low + (np.arange(self._side) + 0.5) * SHADOW_METRES).astype(np.float32)
        self._shaded = np.empty((self._side, self._side), np.bool_)
        for start in range(0, self._side, _ROWS_AT_ONCE):
            x, y = np.meshgrid(along, along[start : start + _ROWS_AT_ONCE])
            origins = np.stack([x, y, np.full_like(x, SHADOW_HEIGHT)], -1).reshape(-1, 3)
            toward = np.broadcast_to(sun, origins.shape)
            self._shaded[start : start + _ROWS_AT_ONCE] = caster.blocked(origins, toward).reshape(x.shape)

    def at(self, x: FloatArray, y: FloatArray) -> npt.NDArray[np.bool_]:
        """Whether each place ``(N,)``, metres, lies in shadow; beyond the map as at its border."""
        scale, low, last = np.float32(1 / SHADOW_METRES), np.float32(self._low), self._side - 1
        rows, columns = (np.clip(((v - low) * scale).astype(np.int32), 0, last) for v in (y, x))
        return np.asarray(self._shaded.ravel().take(rows * self._side + columns))


def _with_sky(tables: Tables) -> Tables:
    """The same tables with one row more, for rays that meet nothing."""
    sky = Tables(
        np.array([CLASS_ID["sky"]], np.uint8),
        np.array([Material.SKY], np.uint8),
        np.zeros(1, np.uint16),
        np.zeros(1, np.uint16),
        np.ones((1, 3), np.float32),
        np.zeros((1, 3), np.float32),
    )
    return Tables(*(np.concatenate([column, last]) for column, last in zip(tables, sky, strict=True)))
