"""What each pixel's surface is like close up: albedo, gloss, light of its own, and a rougher normal."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from plugins.toytown.looks.photo.noise import Noise, Textures, cell_noise
from plugins.toytown.town.plan import KERB, LINE, MANHOLE, PARKING, PITCH
from plugins.toytown.town.surfaces import CLASS_ID, FloatArray, Material, rgb
from plugins.toytown.view.view import Pixels, View


class Finish(NamedTuple):
    """How a plain material is finished: size of its texture in metres, contrast, gloss."""

    size: float
    contrast: float
    gloss: float


FINISHES: Final = {
    Material.BARK: Finish(2.0, 0.35, 0.0),
    Material.BRICK: Finish(3.0, 0.0, 0.0),
    Material.ROOF: Finish(4.0, 0.15, 0.05),
    Material.PLAIN: Finish(9.0, 0.06, 0.05),
    Material.CLOTH: Finish(3.0, 0.12, 0.0),
    Material.METAL: Finish(3.0, 0.08, 0.3),
    Material.SIGN: Finish(5.0, 0.03, 0.15),
    Material.RUBBER: Finish(2.0, 0.05, 0.05),
    Material.PAINT: Finish(8.0, 0.02, 0.9),
    Material.GLASS: Finish(8.0, 0.0, 1.0),
    Material.LAMP: Finish(5.0, 0.0, 0.5),
    Material.RAIL: Finish(2.0, 0.2, 0.6),
}
MIRROR: Final = 0.85
"""Gloss from which a surface mirrors sharply."""
SLAB: Final = 0.62
"""Side of a paving slab, metres."""
BRICK: Final = (0.26, 0.085)
"""Length and height of a brick, metres."""


class Skin(NamedTuple):
    """Surfaces of a view, to be written into; N pixels.

    Attributes:
        albedo: float32 ``(N, 3)``.
        normal: float32 ``(N, 3)``, turned to the camera.
        gloss: float32 ``(N,)``, 0 to 1.
        glow: float32 ``(N,)``, light of its own by its albedo.
        footprint: float32 ``(N,)``, metres that a pixel spans across the line of sight.
        along: float32 ``(N,)``, metres of level ground that it spans along the line of sight.
    """

    albedo: FloatArray
    normal: FloatArray
    gloss: FloatArray
    glow: FloatArray
    footprint: FloatArray
    along: FloatArray

    def detail(self, pixels: Pixels, size: float) -> FloatArray:
        """How much of a texture of that size (metres) is left where it gets finer than a pixel, 0 to 1."""
        return np.asarray(np.clip(size / (self.footprint.take(pixels) * 2), 0, 1) ** np.float32(1.5))

    def flat_detail(self, pixels: Pixels, size: float) -> FloatArray:
        """The same for a texture that lies on level ground."""
        return np.asarray(np.clip(size / self.along.take(pixels), 0, 1))


def bare_skin(view: View) -> Skin:
    """The surfaces before anything is drawn on them."""
    normal = view.gather("normal")
    normal[np.einsum("nk,nk->n", normal, view.directions) > 0] *= -1
    count = len(view.depth)
    footprint = np.asarray(np.where(view.sky, 1e6, view.depth) / view.lens.focal, np.float32)
    along = np.asarray(footprint / np.maximum(-view.directions[:, 2], 0.02), np.float32)
    zero = np.zeros(count, np.float32)
    return Skin(view.gather("albedo"), normal, zero, zero.copy(), footprint, along)


class Painter:
    """Draws textures on the surfaces of views.

    Args:
        textures: Where they come from.
        lamps: Strength of lamps, see :class:`~plugins.toytown.view.presets.PhotoLight`.
    """

    def __init__(self, textures: Textures, lamps: float) -> None:
        self._noise = textures.at
        self._lamps = lamps

    def road(self, view: View, skin: Skin) -> None:
        """Asphalt with wheel tracks, oil, cracks and repairs; worn marks; manholes."""
        pixels, x, y, codes = view.ground
        broad, medium = self._noise(Noise.BROAD, x, y, 60.0), self._noise(Noise.MEDIUM, x, y, 14.0)
        fine = skin.flat_detail(pixels, 0.05)
        value = 1 + 0.09 * broad + 0.05 * medium * skin.flat_detail(pixels, 0.5)
        value += 0.13 * self._noise(Noise.GRAIN, x, y, 7.0) * fine
        from_middle = _from_middle(x, y)
        tracks = _bump(from_middle, 0.85, 0.28) + _bump(from_middle, 2.45, 0.28)
        value *= 1 - 0.09 * tracks * (1 + 0.3 * medium)
        value -= 0.13 * _bump(from_middle, 1.65, 0.3) * np.clip(0.6 + 0.5 * medium, 0, 1.4)
        ridge = self._noise(Noise.BROAD, x + 17, y, 34.0) + 0.25 * self._noise(Noise.MEDIUM, x, y, 6.0)
        crack = _bump(np.abs(ridge), 0.0, 0.035) * (broad > 0.1)
        repaired = cell_noise(np.floor(x / 7), np.floor(y / 11)) < 0.16
        value = (value - 0.28 * crack * skin.flat_detail(pixels, 0.06)) * np.where(repaired, 0.8 + 0.06 * medium, 1)
        base = np.where(codes == PARKING, np.float32(0.135), np.float32(0.105))
        color = (base * value)[:, None] * rgb((1.0, 0.985, 0.96))
        wear = 0.78 + 0.22 * self._noise(Noise.MEDIUM, x, y, 5.0) - 0.25 * tracks
        wear = np.clip(wear + 0.15 * self._noise(Noise.GRAIN, x, y, 3.0) * fine, 0.12, 1)[:, None]
        line, manhole = codes == LINE, codes == MANHOLE
        color[line] = (color * (1 - wear) + wear * rgb((0.52, 0.515, 0.49)))[line]
        iron = (1 + 0.3 * self._noise(Noise.GRAIN, x, y, 1.0))[:, None] * rgb((0.06, 0.055, 0.05))
        color[manhole] = iron[manhole]
        skin.albedo[pixels] = np.maximum(color, 0.01)
        skin.gloss[pixels] = 0.22 * np.clip(0.5 + 0.5 * tracks + 0.3 * medium, 0, 1)

    def pavement(self, view: View, skin: Skin) -> None:
        """Slabs with joints, stains, chewing gum."""
        pixels = np.flatnonzero(view.materials == Material.SIDEWALK)
        x, y = view.points(pixels)[:, :2].T
        column = x / SLAB
        row = y / SLAB + 0.5 * (np.floor(column) % 2)
        joint = (np.abs(column - np.round(column)) < 0.022) | (np.abs(row - np.round(row)) < 0.022)
        fine = skin.flat_detail(pixels, 0.05)
        value = 1 + 0.16 * (cell_noise(np.floor(column), np.floor(row)) - 0.5) * skin.flat_detail(pixels, 0.6)
        value += 0.12 * self._noise(Noise.BROAD, x, y, 25.0) + 0.12 * self._noise(Noise.GRAIN, x, y, 5.0) * fine
        value *= (1 - 0.5 * joint * fine) * np.where(self._noise(Noise.GRAIN, x + 7, y, 40.0) > 2.1, 0.75, 1)
        skin.albedo[pixels] = (value * 0.27)[:, None] * rgb((1, 0.97, 0.92))

    def grass(self, view: View, skin: Skin) -> None:
        """Dry and fresh patches, blades."""
        pixels = np.flatnonzero(view.materials == Material.GRASS)
        x, y = view.points(pixels)[:, :2].T
        medium = self._noise(Noise.MEDIUM, x, y, 6.0)
        blades = self._noise(Noise.GRAIN, x, y, 3.0) * skin.detail(pixels, 0.06)
        dry = np.clip(0.45 + 0.3 * self._noise(Noise.BROAD, x, y, 40.0) + 0.15 * medium, 0, 1)[:, None]
        color = dry * rgb((0.105, 0.12, 0.035)) + (1 - dry) * rgb((0.05, 0.085, 0.022))
        skin.albedo[pixels] = color * np.clip(1 + 0.2 * medium + 0.4 * blades, 0.2, 2)[:, None]

    def foliage(self, view: View, skin: Skin) -> None:
        """Each leaf card its own tone, and finer leaves by noise in its tone and normal."""
        pixels = np.flatnonzero(view.materials == Material.FOLIAGE)
        x, y, z = view.points(pixels).T
        tone = cell_noise(view.rows.take(pixels) // 2)
        value = self._noise(Noise.GRAIN, x + 0.7 * z, y + 0.4 * z, 5.0) * skin.detail(pixels, 0.08)
        value += 0.5 * self._noise(Noise.MEDIUM, x, y + z, 11.0)
        tint = 1 + (tone[:, None] - 0.5) * rgb((0.35, 0, 0.2))
        value = np.clip(0.62 + 0.65 * tone + 0.3 * value, 0.12, 2)
        skin.albedo[pixels] *= value[:, None] * tint * rgb((0.95, 0.74, 0.62))
        bumps = [self._noise(Noise.GRAIN, x + shift, y + z, 4.0) for shift in (0.0, 9.0, 23.0)]
        bump = 0.55 * np.stack(bumps, 1) * skin.detail(pixels, 0.10)[:, None]
        normal = skin.normal[pixels] * 0.8 + bump + rgb((0, 0, 0.35))
        skin.normal[pixels] = normal / np.linalg.norm(normal, axis=1, keepdims=True)

    def finishes(self, view: View, skin: Skin) -> None:
        """All that is of one plain material."""
        for material, finish in FINISHES.items():
            pixels = np.flatnonzero(view.materials == material)
            if not len(pixels):
                continue
            skin.gloss[pixels] = finish.gloss
            x, y, z = view.points(pixels).T
            along_y = np.abs(skin.normal[pixels, 0]) > np.abs(skin.normal[pixels, 1])
            u = np.where(along_y, y, x)
            if finish.contrast:
                value = self._noise(Noise.MEDIUM, u, z + 0.3 * y, finish.size)
                value += 0.5 * self._noise(Noise.GRAIN, u, z, finish.size) * skin.detail(pixels, 0.05)
                skin.albedo[pixels] *= np.clip(1 + finish.contrast * value, 0.2, 2)[:, None]
            if material is Material.BRICK:
                stains = 1 + 0.12 * self._noise(Noise.BROAD, u, z, 8.0)
                skin.albedo[pixels] *= (0.82 * stains * brickwork(u, z, skin.detail(pixels, 0.1)))[:, None]
            elif material is Material.ROOF:
                skin.albedo[pixels] *= _tiles(u, z, skin.detail(pixels, 0.15))[:, None]
            elif material is Material.PAINT:  # dust, from below
                skin.albedo[pixels] *= (0.85 - 0.25 * np.exp(-np.maximum(z - 0.25, 0) / 0.25))[:, None]
        self._lamp_glow(view, skin)

    def _lamp_glow(self, view: View, skin: Skin) -> None:
        """Traffic lights shine by day; the others as strongly as the hour asks for."""
        pixels = np.flatnonzero(view.materials == Material.LAMP)
        bright = np.where(skin.albedo[pixels].max(1) > 0.4, 1.6, 0.5)
        signal = view.gather("class_id")[pixels] == CLASS_ID["traffic light"]
        skin.glow[pixels] = bright * np.where(signal, 1.0, self._lamps)


def brickwork(u: FloatArray, z: FloatArray, detail: FloatArray) -> FloatArray:
    """Tone of bricks and mortar at places of a wall (metres), around 1; ``detail`` 0 to 1 is how much of it is seen."""
    length, height = BRICK
    row = np.floor(z / height)
    along = u / length + 0.5 * (row % 2)
    mortar = (z / height - row < 0.14) | (along - np.floor(along) < 0.05)
    tone = 1 + 0.45 * (cell_noise(np.floor(along), row) - 0.5) * detail
    return np.asarray(tone * np.where(mortar, 1 + 0.55 * detail, 1), np.float32)


def _tiles(u: FloatArray, z: FloatArray, detail: FloatArray) -> npt.NDArray[np.floating]:
    """Tone of roof tiles, around 1."""
    tone = 0.3 * (cell_noise(np.floor(u / 0.25), np.floor(z / 0.3)) - 0.5) - 0.35 * (z % 0.3 < 0.05)
    return np.asarray(1 + tone * detail)


def _from_middle(x: FloatArray, y: FloatArray) -> FloatArray:
    """Distance from the nearest street's centre line, metres."""
    across, down = (np.minimum(v % PITCH, PITCH - v % PITCH) for v in (x, y))
    return np.asarray(np.where(across < KERB, across, down), np.float32)


def _bump(value: FloatArray, middle: float, width: float) -> FloatArray:
    return np.asarray(np.exp(-(((value - middle) / width) ** 2)), np.float32)
