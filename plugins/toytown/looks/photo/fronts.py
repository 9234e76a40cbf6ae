"""House fronts close up: plaster or brick, windows with frames, curtains and rooms, shops."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from plugins.toytown.looks.facades import FacadeView, facade_view
from plugins.toytown.looks.photo.noise import Noise, Textures, cell_noise
from plugins.toytown.looks.photo.surface import Skin, brickwork
from plugins.toytown.town.surfaces import BoolArray, FloatArray, rgb
from plugins.toytown.view.view import View


class _Panes(NamedTuple):
    """What of a front is window; distances in metres, all ``(n,)``.

    Attributes:
        beside: From the nearer side edge of the window, negative outside it.
        edge: From its nearest edge.
        inside: Whether it is in a window or shop front.
        frame: Whether it is frame or glazing bar.
        glass: Whether it is glass.
        shade: A random number for each window.
        other: Another one.
    """

    beside: FloatArray
    edge: FloatArray
    inside: BoolArray
    frame: BoolArray
    glass: BoolArray
    shade: FloatArray
    other: FloatArray


class FrontPainter:
    """Draws the fronts of houses.

    Args:
        textures: Where textures come from.
        lit_windows: Share of the windows with light behind them.
    """

    def __init__(self, textures: Textures, lit_windows: float) -> None:
        self._noise = textures.at
        self._lit_windows = lit_windows

    def paint(self, view: View, skin: Skin) -> None:
        """Draws on every facade that a view shows."""
        seen = facade_view(view)
        if not len(seen.pixels):
            return
        color = self._wall(seen, skin)
        panes = _panes(seen)
        rim = ~panes.inside & seen.upper & (panes.edge > -0.13) & (seen.facade[:, 3] < 0.5)
        color[rim] *= 1.16
        behind = self._behind_glass(seen, panes)
        color[panes.glass] = behind[panes.glass]
        tone = np.where(cell_noise(seen.house) > 0.35, 0.46, 0.07).astype(np.float32)
        color[panes.frame] = tone[panes.frame, None]
        below = seen.up + seen.facade[:, 5] / 2
        sill = seen.upper & (below < 0) & (below > -0.05) & (np.abs(seen.across) < seen.facade[:, 4] / 2 + 0.03)
        color[sill] = 0.34
        _shop_sign(seen, color)
        skin.albedo[seen.pixels] = color
        skin.gloss[seen.pixels] = panes.glass
        lit = cell_noise(seen.column, seen.row + 7, seen.house) > 1 - self._lit_windows
        # By their albedo: a bare room is dark, a curtain bright.
        strength = np.where(seen.upper, np.where(panes.shade > 0.45, 0.5, 4.0), 0.9)
        skin.glow[seen.pixels] = np.where(panes.glass & lit, strength, 0)

    def _wall(self, seen: FacadeView, skin: Skin) -> FloatArray:
        """Plaster or brick, with streaks that run down and dirt at the foot."""
        u, z, house = seen.u, seen.z, seen.house.astype(np.float32)
        detail = skin.detail(seen.pixels, 0.05)
        plaster = 1 + 0.05 * self._noise(Noise.GRAIN, u, z, 4.0) * detail
        value = np.where(seen.facade[:, 3] > 0.5, brickwork(u, z, skin.detail(seen.pixels, 0.1)), plaster)
        streaks = self._noise(Noise.BROAD, u + house * 3.1, z * 0.25, 9.0)
        value *= 1 + 0.085 * streaks + 0.06 * self._noise(Noise.MEDIUM, u + house, z, 18.0)
        value *= 1 - 0.35 * np.exp(-np.maximum(z, 0) / 0.7)
        painted = skin.albedo[seen.pixels]
        grey = painted.mean(1, keepdims=True)
        return np.asarray((painted * 0.62 + grey * 0.3) * 0.82 * value[:, None], np.float32)

    def _behind_glass(self, seen: FacadeView, panes: _Panes) -> FloatArray:
        """Rooms, curtains, blinds, and goods in shop windows."""
        room = 0.012 + 0.05 * panes.shade**3
        color = room[:, None] * rgb((1, 0.95, 0.85))
        part = panes.beside / np.maximum(seen.facade[:, 4] * seen.facade[:, 0], 0.1)
        curtain = seen.upper & (panes.shade > 0.45) & (part < 0.10 + 0.25 * panes.other)
        folds = 0.7 + 0.3 * np.sin(seen.u * 34 + panes.other * 6)
        color[curtain] = (folds[:, None] * rgb((0.30, 0.285, 0.25)))[curtain]
        blind = seen.upper & (panes.other > 0.72) & (seen.up > seen.facade[:, 5] * (0.5 - panes.shade * 0.8))
        slats = np.where(seen.z % 0.06 < 0.012, 0.7, 1)[:, None] * rgb((0.34, 0.33, 0.30))
        color[blind] = slats[blind]
        stock = np.clip(0.05 + 0.035 * self._noise(Noise.MEDIUM, seen.u + seen.house, seen.z, 9.0), 0.01, 0.3)
        stock *= 1 + cell_noise(np.floor(seen.u / 0.8), np.floor(seen.z / 0.6), seen.house) * 0.9
        goods = stock[:, None] * rgb((1, 0.9, 0.75))
        color[~seen.upper] = goods[~seen.upper]
        return np.asarray(color, np.float32)


def _panes(seen: FacadeView) -> _Panes:
    facade = seen.facade
    beside = np.asarray((facade[:, 4] / 2 - np.abs(seen.across)) * facade[:, 0], np.float32)
    window = (facade[:, 5] / 2 - np.abs(seen.up)) * facade[:, 1]
    shop = np.minimum(seen.z - 0.7, facade[:, 2] - 1.1 - seen.z)
    above = np.where(seen.upper, window, shop)
    inside = (beside > 0) & (above > 0)
    edge = np.asarray(np.minimum(beside, above), np.float32)
    upright = np.abs(seen.across) * facade[:, 0] < 0.03
    crossbar = np.abs(seen.up - 0.12) * facade[:, 1] < 0.025
    frame = inside & ((edge < 0.07) | (seen.upper & (upright | crossbar)))
    shade = cell_noise(seen.column, seen.row, seen.house)
    other = cell_noise(seen.column + 91, seen.row, seen.house)
    return _Panes(beside, edge, inside, frame, inside & ~frame, shade, other)


def _shop_sign(seen: FacadeView, color: FloatArray) -> None:
    """A coloured board over the shop, with something like writing on it."""
    top = seen.facade[:, 2]
    band = ~seen.upper & (seen.z > top - 0.95) & (seen.z < top - 0.25)
    house = seen.house.astype(np.int64)
    board = np.stack([cell_noise(house, house + k) for k in (1, 2, 3)], 1) * 0.35 + 0.03
    color[band] = color[band] * 0.4 + 0.6 * board[band]
    letters = (cell_noise(np.floor(seen.u / 0.22), house) > 0.35) & (seen.u % 0.22 < 0.15)
    color[band & letters & (np.abs(seen.z - top + 0.6) < 0.16)] = 0.6
